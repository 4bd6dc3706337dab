"""How a fleet learns that a car is gone (FF-DTH)."""

import pytest

from protocol.codes import DeathReason, FrameClass
from protocol.death import DEATH
from protocol.frame import parse_frame
from protocol.sync import Challenge
from tests.gateway.fleet_end import FleetEnd
from tests.gateway.world import World


def reasons(world: World) -> list[DeathReason]:
    """Return why the connections of a car ended, as it signed it."""
    published = [*world.air.frames(FrameClass.DEATH), *world.air.wills]
    return [DEATH.parse(parse_frame(data).payload).reason for data in published]


def is_current(fleet: FleetEnd) -> bool:
    """Return whether the last death is of the newest hello."""
    death, hello = fleet.deaths[-1], fleet.greetings[-1]
    return (death.seq, death.session_id) == (hello.seq, hello.session_id)


async def test_a_lost_link_is_told_by_the_will_of_its_hello() -> None:
    # FF-DTH-01.
    async with World() as world:
        world.air.cut()
        await world.settle()

        assert reasons(world) == [DeathReason.LOST]
        assert is_current(world.fleet)


async def test_every_connection_has_a_will_of_its_own() -> None:
    # FF-DTH-01.
    async with World() as world:
        for _ in range(3):
            world.air.lose()
            assert is_current(world.fleet)
            await world.advance(120.0)

        seqs = [death.seq for death in world.fleet.deaths]
        assert seqs == sorted(set(seqs))


async def test_stale_will_a_death_of_an_earlier_connection_is_below_the_hello() -> None:
    # FF-DTH-04: what a broker publishes late ends nothing.
    async with World() as world:
        world.air.lose()
        await world.advance(60.0)

        assert world.fleet.deaths[-1].seq < world.fleet.greetings[-1].seq


async def test_a_car_that_stops_in_order_says_so() -> None:
    # FF-DTH-03.
    world = World()
    async with world:
        hellos = len(world.fleet.greetings)

    assert reasons(world) == [DeathReason.STOPPED]
    assert world.fleet.deaths[-1].seq == world.fleet.greetings[hellos - 1].seq
    assert world.air.up[-1][0] is FrameClass.DEATH


async def test_a_car_that_stops_after_a_challenge_names_its_newest_hello() -> None:
    # FF-DTH-03.
    world = World()
    async with world:
        world.fleet.ask(Challenge(b"a nonce of today"))
        await world.settle()

    assert is_current(world.fleet)


@pytest.mark.parametrize("is_online", [True, False])
async def test_a_car_without_a_link_stops_without_a_word(is_online: bool) -> None:
    world = World(is_online=is_online)
    async with world:
        world.air.cut()
        await world.settle()
        published = len(world.air.up)

    assert len(world.air.up) == published


async def test_a_power_cut_says_nothing_but_the_will() -> None:
    async with World() as world:
        await world.power_cut()

        assert reasons(world) == [DeathReason.LOST]
