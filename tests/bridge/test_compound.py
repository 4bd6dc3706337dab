"""Compound orders: unlock and enable, lock and disable, with one honest end."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.cloud_event import COMPOUND_TYPE
from bridge.commands import CommandRecord, CommandState
from bridge.errors import OrderRefusedError, Refusal
from certs.fleet import FleetDirectory
from protocol.codes import (
    Bits,
    Code,
    Executed,
    FrameClass,
    LockMode,
    Opcode,
    RentalMode,
    Retry,
)
from protocol.command import (
    ANY_VERSION,
    Command,
    EngineHold,
    EngineRelease,
    Lock,
    LockAndDisable,
    Unlock,
    UnlockAndEnable,
    parse_command,
)
from protocol.hello import Capability
from tests.bridge.car import RENTAL, SNAPSHOT, frame_of
from tests.bridge.running import running_bridge
from tests.bridge.world import World

ENABLE = UnlockAndEnable(RENTAL, 7)
DISABLE = LockAndDisable(RENTAL, ANY_VERSION, LockMode.PARK)
PARKED = replace(SNAPSHOT, mode=RentalMode.PARKED, rental_id=RENTAL)


async def next_command(world: World) -> tuple[bytes, Command]:
    """Take the next command that reaches the car."""
    data = await world.broker.next_sent(FrameClass.CMD)
    header = frame_of(data).header
    return data, parse_command(header.type, header.schema, frame_of(data).payload)


async def answer(
    world: World,
    frame: bytes,
    code: Code = Code.OK,
    executed: Executed = Executed.YES,
) -> None:
    await world.say(
        FrameClass.RESULT,
        world.car.result(frame, code, executed=executed, retry=Retry.NEW_COMMAND),
    )


async def end_of(world: World, record: CommandRecord) -> CommandRecord:
    """Wait for an end that is committed, at most ten seconds."""
    found = await world.dispatcher.find(record.command_id, wait_s=10)
    assert found is not None
    return found


def sent_kinds(world: World) -> list[int]:
    return [frame_of(d).header.type for d in world.broker.sent_of(FrameClass.CMD)]


async def test_doors_open_first_and_then_the_engine_is_enabled(world: World) -> None:
    # C8, I-5, I-11
    await world.greet()

    waiting = asyncio.create_task(world.order(ENABLE, wait_s=30))
    first, unlock = await next_command(world)
    assert unlock == Unlock(RENTAL, 7)
    await answer(world, first)
    second, release = await next_command(world)
    assert isinstance(release, EngineRelease)
    assert release.expected_version == ANY_VERSION
    assert not waiting.done()
    await answer(world, second)
    record = await waiting

    assert (record.state, record.settled_by) == (CommandState.SUCCEEDED, "parts")
    assert [state for state, _ in record.trail] == [
        "requested",
        "under_way",
        "succeeded",
    ]
    parts = await world.dispatcher.parts_of(record)
    assert [parts[p.command_id].kind for p in record.parts] == [
        "unlock",
        "engine_release",
    ]
    assert {part.part_of for part in parts.values()} == {record.command_id}


async def test_a_car_that_was_not_locked_is_never_disabled(world: World) -> None:
    # I-2: an open car that cannot move could be neither guarded nor moved away
    await world.greet()
    record = await world.order(DISABLE)
    frame, lock = await next_command(world)
    assert lock == Lock(RENTAL, ANY_VERSION, LockMode.PARK)

    await answer(world, frame, Code.DOOR_OPEN, Executed.NO)
    ended = await end_of(world, record)
    await world.dispatcher.sweep()

    assert (ended.state, ended.code) == (CommandState.REJECTED, Code.DOOR_OPEN)
    assert ended.executed is Executed.NO
    assert sent_kinds(world) == [Opcode.LOCK]


@pytest.mark.parametrize(
    ("code", "executed", "state"),
    [
        (Code.ACTUATOR_TIMEOUT, Executed.MAYBE, CommandState.FAILED),
        (Code.INDETERMINATE_AFTER_REBOOT, Executed.MAYBE, CommandState.INDETERMINATE),
        (Code.EXPIRED, Executed.NO, CommandState.EXPIRED),
    ],
)
async def test_whatever_the_first_part_ended_as_but_done_the_second_is_not_sent(
    world: World, code: Code, executed: Executed, state: CommandState
) -> None:
    await world.greet()
    record = await world.order(ENABLE)
    frame, _ = await next_command(world)

    await answer(world, frame, code, executed)
    ended = await end_of(world, record)

    assert (ended.state, ended.executed) == (state, executed)
    assert sent_kinds(world) == [Opcode.UNLOCK]


async def test_a_silent_first_part_keeps_the_second_back_and_is_settled_by_a_hello(
    world: World,
) -> None:
    # I-11, L10: unknown is not done; and what is done too late is not followed
    await world.greet()
    record = await world.order(ENABLE)
    frame, _ = await next_command(world)
    world.advance(13)
    await world.dispatcher.sweep()
    await world.dispatcher.sweep()
    under_way = await world.dispatcher.find(record.command_id, wait_s=0)
    assert under_way is not None
    assert under_way.state is CommandState.UNDER_WAY
    world.car.result(frame)  # lost on its way

    await world.say(FrameClass.HELLO, world.car.hello())
    ended = await end_of(world, record)

    assert (ended.state, ended.executed) == (CommandState.PARTIAL, Executed.YES)
    assert sent_kinds(world) == [Opcode.UNLOCK]


async def test_a_second_part_that_fails_is_told_as_a_part(world: World) -> None:
    world.car.snapshot = PARKED
    await world.greet()
    record = await world.order(DISABLE)
    first, _ = await next_command(world)
    await answer(world, first)
    second, hold = await next_command(world)
    assert isinstance(hold, EngineHold)

    await answer(world, second, Code.ACTUATOR_FAULT, Executed.MAYBE)
    ended = await end_of(world, record)

    assert (ended.state, ended.code) == (CommandState.PARTIAL, Code.ACTUATOR_FAULT)
    assert ended.executed is Executed.YES


async def test_a_lock_that_ended_the_rental_has_held_the_engine_already(
    world: World,
) -> None:
    # the snapshot after it says so, signed: nobody has the car, and it cannot start
    await world.greet()
    record = await world.order(replace(DISABLE, lock_mode=LockMode.END))
    frame, _ = await next_command(world)
    await answer(world, frame)

    ended = await end_of(world, record)

    assert ended.state is CommandState.SUCCEEDED
    assert sent_kinds(world) == [Opcode.LOCK]


async def test_an_engine_that_is_still_released_is_held_whatever_has_ended(
    world: World,
) -> None:
    world.car.snapshot = replace(SNAPSHOT, bits=Bits.LOCKED | Bits.ENGINE_RELEASED)
    await world.greet()
    await world.order(replace(DISABLE, lock_mode=LockMode.END))
    frame, _ = await next_command(world)

    await answer(world, frame)
    _, hold = await next_command(world)

    assert isinstance(hold, EngineHold)


async def test_what_cannot_be_asked_in_time_is_told_as_a_part(world: World) -> None:
    # what starts a car must not happen when nobody expects it any more
    await world.greet()
    record = await world.order(ENABLE)
    frame, _ = await next_command(world)
    result = world.car.result(frame)
    await world.say(FrameClass.RESULT, result)
    await next_command(world)
    late = await world.order(ENABLE)
    frame, _ = await next_command(world)
    await world.say(FrameClass.DEATH, world.car.death())
    await answer(world, frame)
    await world.dispatcher.sweep()  # offline: it waits
    assert (await world.store.command(late.command_id) or late).state is (
        CommandState.UNDER_WAY
    )

    world.advance(13)
    await world.dispatcher.sweep()
    ended = await end_of(world, late)

    assert ended.command_id != record.command_id
    assert (ended.state, ended.code) == (CommandState.PARTIAL, None)
    assert sent_kinds(world).count(Opcode.ENGINE_RELEASE) == 1


async def test_a_repeated_key_answers_the_same_compound_and_sends_nothing(
    world: World,
) -> None:
    # L10
    await world.greet()

    async def submit(order: UnlockAndEnable | LockAndDisable) -> tuple[bytes, bool]:
        record, is_repeated = await world.dispatcher.submit(
            world.car.id, order, idempotency_key="k", wait_s=0
        )
        return record.command_id, is_repeated

    first, second = await asyncio.gather(submit(ENABLE), submit(ENABLE))

    assert first[0] == second[0]
    assert {first[1], second[1]} == {False, True}
    assert sent_kinds(world) == [Opcode.UNLOCK]
    with pytest.raises(OrderRefusedError) as refused:
        await submit(DISABLE)
    assert refused.value.refusal is Refusal.KEY_REUSED


@pytest.mark.parametrize("has_result", [False, True])
async def test_a_bridge_that_dies_between_the_parts_sends_the_second_once(
    world: World,
    fleet: FleetDirectory,
    monkeypatch: pytest.MonkeyPatch,
    has_result: bool,
) -> None:
    # I-5, L7: all that is needed is in the store
    world.car.snapshot = PARKED
    await world.greet()
    record = await world.order(DISABLE)
    frame, _ = await next_command(world)
    result = world.car.result(frame)
    if has_result:
        # It stores the result and dies before it does anything about it.
        monkeypatch.setattr(world.dispatcher._composer, "stir", lambda _id: None)
        await world.say(FrameClass.RESULT, result)
    car = world.car
    path = world.path.with_name("after.sqlite")
    await world.store.close()
    path.write_bytes(world.path.read_bytes())

    async with World(fleet, path) as again:
        again.car = car
        again._randoms = 1_000
        if not has_result:
            await again.say(FrameClass.RESULT, result)
        for _ in range(3):
            await again.dispatcher.sweep()
        second, hold = await next_command(again)
        assert isinstance(hold, EngineHold)
        await answer(again, second)
        ended = await end_of(again, record)
        await again.dispatcher.sweep()

        assert ended.state is CommandState.SUCCEEDED
        assert sent_kinds(again) == [Opcode.ENGINE_HOLD]
    world.store.open()


async def test_two_bridges_that_both_carry_on_make_one_second_part(
    world: World,
) -> None:
    # I-25: the part's id is in the store before anybody sends it
    world.car.snapshot = PARKED
    await world.greet()
    record = await world.order(DISABLE)
    frame, _ = await next_command(world)
    await answer(world, frame)

    await asyncio.gather(
        *(world.dispatcher._composer.carry_on(record.command_id) for _ in range(5))
    )

    await world.dispatcher.sweep()
    assert sent_kinds(world) == [Opcode.LOCK, Opcode.ENGINE_HOLD]


async def test_a_car_that_lacks_one_part_gets_neither(world: World) -> None:
    # 409: the missing capability is named
    lacking = tuple(
        Capability(int(opcode), 1)
        for opcode in Opcode
        if opcode is not Opcode.ENGINE_HOLD
    )
    await world.say(FrameClass.HELLO, world.car.hello(capabilities=lacking))

    with pytest.raises(OrderRefusedError, match="engine_hold, a part of lock_and"):
        await world.order(DISABLE)

    assert sent_kinds(world) == []


@pytest.mark.broker
async def test_the_api_tells_of_each_part_by_long_poll_and_in_the_events(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # C8, I-11
    async with running_bridge(fleet, tmp_path) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        body = {"kind": "lock_and_disable", "rental_id": RENTAL.hex(), "mode": "park"}
        status, started = await running.order(body)
        frame = await running.broker.next_sent(FrameClass.CMD)
        first, second = started["parts"]

        polling = asyncio.create_task(
            running.get(f"/v1/commands/{started['id']}?wait_s=20")
        )
        refused = running.car.result(frame, Code.DOOR_OPEN, executed=Executed.NO)
        await running.say(FrameClass.RESULT, refused)
        _, ended = await polling

        async with running.client.get(
            f"{running.bridge.api_url}/v1/events?after=0"
        ) as stream:
            told = await event_of(stream.content, COMPOUND_TYPE)

    assert (status, started["state"]) == (202, "under_way")
    assert (first["kind"], first["state"]) == ("lock", "published")
    assert (second["kind"], second["state"]) == ("engine_hold", None)
    assert "waits" in second["meaning"]
    assert (ended["state"], ended["is_final"]) == ("rejected", True)
    assert "not sent" in ended["parts"][1]["meaning"]
    assert ended["parts"][0]["part_of"] == started["id"]
    assert told["data"]["command_id"] == started["id"]
    assert [part["state"] for part in told["data"]["parts"]] == ["rejected", None]


async def event_of(stream: Any, kind: str) -> dict[str, Any]:
    """Return the first event of a kind, waiting ten seconds at most."""
    async with asyncio.timeout(10):
        async for line in stream:
            if line.startswith(b"data:"):
                event: dict[str, Any] = json.loads(line[5:])
                if event["type"] == kind:
                    return event
    raise LookupError(kind)
