"""A car's link: hello, death, silence; stale, forged and kept wills (K7, 1.4)."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from bridge.cloud_event import OFFLINE_TYPE, ONLINE_TYPE
from bridge.presence import SILENCE_MS, LinkState, Presence
from bridge.rows.vehicles import silent_vehicles
from protocol.codes import DeathReason, FrameClass
from protocol.command import ANY_VERSION, Unlock
from tests.bridge.car import RENTAL, sample
from tests.bridge.world import NOW_MS, World


async def link(world: World) -> LinkState:
    return (await world.vehicle()).presence.state(now=world.now())


async def presence_events(world: World) -> list[tuple[str, str]]:
    rows = await world.store.outbox_after(0, 100)
    return [
        (row.type, json.loads(row.body)["data"]["link"])
        for row in rows
        if row.type in {ONLINE_TYPE, OFFLINE_TYPE}
    ]


async def test_a_death_of_the_newest_connection_is_shown_and_told(
    world: World,
) -> None:
    await world.greet()
    assert await link(world) is LinkState.ONLINE

    await world.say(FrameClass.DEATH, world.car.death())

    assert await link(world) is LinkState.LOST
    assert await presence_events(world) == [
        (ONLINE_TYPE, "online"),
        (OFFLINE_TYPE, "lost"),
    ]


async def test_a_car_that_goes_says_so(world: World) -> None:
    # protocol-design.md 1.4
    await world.greet()

    await world.say(FrameClass.DEATH, world.car.death(reason=DeathReason.STOPPED))

    assert await link(world) is LinkState.STOPPED


async def test_a_death_ends_no_command(world: World) -> None:
    # FF-DTH-05
    await world.greet()
    command = await world.order(Unlock(RENTAL, ANY_VERSION))

    await world.say(FrameClass.DEATH, world.car.death())

    still = await world.store.command(command.command_id)
    assert still is not None
    assert not still.state.is_terminal


async def test_stale_will(world: World) -> None:
    # FF-DTH-04.
    # A will that the broker sends late, after the car came back: same session, then an
    # older one (FF-DTH-04).
    await world.greet()
    late = world.car.death()
    await world.greet()

    await world.say(FrameClass.DEATH, late)
    assert await link(world) is LinkState.ONLINE

    older = world.car.death()
    world.car.reboot()
    await world.greet()
    await world.say(FrameClass.DEATH, older)

    assert await link(world) is LinkState.ONLINE
    assert await presence_events(world) == [(ONLINE_TYPE, "online")]
    notes = [seen.note for seen in world.seen if "stale" in seen.note]
    assert len(notes) == 2


async def test_a_will_of_an_older_session_with_a_high_number_is_stale_too(
    world: World,
) -> None:
    # FF-DTH-04.
    await world.greet()
    high = world.car.death(seq=2**40)
    world.car.reboot()
    await world.greet()

    await world.say(FrameClass.DEATH, high)

    assert await link(world) is LinkState.ONLINE


@pytest.mark.parametrize("how", ["forged", "retained", "other car"])
async def test_a_death_that_is_not_the_cars_own_word_counts_for_nothing(
    world: World, how: str
) -> None:
    # FF-ADR-11.
    # L9
    await world.greet()
    data = bytearray(world.car.death())
    topic = world.car.topic(FrameClass.DEATH)
    if how == "forged":
        data[-1] ^= 1
    if how == "other car":
        other = world.cars[1]
        other.session = world.car.session
        data = bytearray(other.death(seq=world.car.hellos))
    message = world.broker.deliver(topic, bytes(data), retain=how == "retained")
    await message.is_done.wait()

    assert await link(world) is LinkState.ONLINE
    assert len(await world.store.dead_letters()) == 1


async def test_silence_is_told_once_and_so_is_its_end(world: World) -> None:
    await world.greet()
    world.advance(SILENCE_MS / 1000)
    assert not await world.store.tell_silence(now=world.now())
    world.advance(1)

    assert await world.store.tell_silence(now=world.now())
    assert not await world.store.tell_silence(now=world.now())
    assert await link(world) is LinkState.SILENT

    await world.say(FrameClass.TELEM, world.car.telemetry(sample()))

    assert await link(world) is LinkState.ONLINE
    assert await presence_events(world) == [
        (ONLINE_TYPE, "online"),
        (OFFLINE_TYPE, "silent"),
        (ONLINE_TYPE, "online"),
    ]
    rows = await world.store.outbox_after(0, 100)
    assert len({row.event_id for row in rows}) == len(rows)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["hello", "heard", "lost", "stopped"]),
        st.integers(0, 2 * SILENCE_MS),
    ),
    max_size=20,
)


@given(STEPS, st.integers(0, 2 * SILENCE_MS))
def test_the_link_is_what_the_last_words_say(
    steps: list[tuple[str, int]], wait_ms: int
) -> None:
    presence, now = Presence(), 1
    greeted, ended, heard = False, False, 0
    for what, passed in steps:
        now += passed
        if what == "hello":
            presence, greeted, ended, heard = (
                presence.greeted(now=now),
                True,
                False,
                now,
            )
        elif what == "heard":
            presence, heard = presence.heard(now=now), now
        else:
            presence, ended = presence.died(LinkState(what), now=now), True
    now += wait_ms

    state = presence.state(now=now)

    is_online = greeted and not ended and now - heard <= SILENCE_MS
    assert (state is LinkState.ONLINE) is is_online
    assert presence.since_ms(now=now) <= now
    # What is stored is what was meant.
    stored = msgspec.json.decode(msgspec.json.encode(presence), type=Presence)
    assert stored == presence


async def test_silent_cars_are_found_by_an_index_and_not_by_reading_every_car(
    world: World,
) -> None:
    # Once a second: 14,000 cars are 60 MB.
    def plan(connection: Connection) -> list[str]:
        query = silent_vehicles(NOW_MS).compile(
            connection, compile_kwargs={"literal_binds": True}
        )
        steps = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")
        return [step.detail for step in steps]

    [step] = await world.store.look(plan)

    assert step.startswith("SEARCH vehicles USING")
    assert "INDEX cars_told_online" in step
