"""Incident tools in the whole gateway: a command of the fleet, and what follows."""

from gateway.runtime.parts import AgentRestartError
from protocol.codes import Code
from protocol.command import ANY_VERSION, Reboot, RequestSnapshot, Restart
from protocol.rental_codes import Component
from protocol.snapshot import NO_RENTAL
from tests.gateway.world import World


def of(component: Component) -> Restart:
    return Restart(NO_RENTAL, ANY_VERSION, component)


async def test_a_restarted_uplink_greets_again_and_its_order_is_answered() -> None:
    """I-33: always answered, though the link goes down by it."""
    async with World() as world:
        greetings = len(world.fleet.greetings)

        data = world.fleet.send(of(Component.UPLINK))
        await world.advance(70.0)

        assert len(world.fleet.greetings) > greetings
        assert set(world.fleet.codes_of(data)) == {Code.OK}


async def test_a_restarted_agent_ends_after_its_answer_is_durable() -> None:
    """I-33, I-5: the order is not carried out again by the next start."""
    async with World() as world:
        data = world.fleet.send(of(Component.AGENT))
        await world.advance(1.0)
        ended = world.failure
        starts = len(world.fleet.greetings)

        await world.restart()
        await world.advance(5.0)

        assert isinstance(ended, AgentRestartError)
        assert not ended.of_machine
        assert world.is_running
        assert len(world.fleet.greetings) > starts
        assert set(world.fleet.codes_of(data)) == {Code.OK}


async def test_a_reboot_is_left_to_who_supervises_the_agent() -> None:
    # I-33
    async with World() as world:
        world.fleet.send(Reboot(NO_RENTAL, ANY_VERSION))
        await world.advance(1.0)

        assert isinstance(world.failure, AgentRestartError)
        assert world.failure.of_machine


async def test_a_restarted_reader_takes_cards_again() -> None:
    # I-33, I-15
    async with World() as world:
        data = world.fleet.send(of(Component.READER))
        await world.advance(1.0)

        await world.begin_rental()

        assert set(world.fleet.codes_of(data)) == {Code.OK}


async def test_a_snapshot_is_answered_with_the_state_of_now() -> None:
    # I-33
    async with World() as world:
        data = world.fleet.send(RequestSnapshot(NO_RENTAL, ANY_VERSION))
        await world.advance(1.0)

        assert set(world.fleet.codes_of(data)) == {Code.OK}
