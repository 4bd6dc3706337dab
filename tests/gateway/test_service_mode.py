"""A disk that takes nothing: end, open anew, and the second time service mode (L13)."""

import apsw
import pytest

from gateway.runtime.holding import RETRY_MS
from gateway.storage.errors import StoreBrokenError
from gateway.storage.failure_note import MEMORY_MS
from protocol.codes import Code, Executed, LockMode, RentalMode
from protocol.command import ANY_VERSION, Lock, Unlock
from protocol.event import FaultCleared, FaultRaised
from protocol.vehicle_event import ServiceModeChanged
from tests.depth import some
from tests.gateway.oracle import require_sound
from tests.gateway.powerloss import Fault
from tests.gateway.world import ALICE, World, reservation

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)

RETRY_S = RETRY_MS / 1000


def failing(*kinds: str) -> Fault:
    return lambda kind, _name: apsw.IOError("planted") if kind in kinds else None


def mode(world: World) -> RentalMode:
    return world.state.mode


async def broken(world: World, *kinds: str) -> None:
    """Let the disk fail twice, so that the third start is one in service mode."""
    world.disk.fault = failing(*kinds)
    world.present(ALICE)
    await world.advance(1.0)
    for _ in range(2):
        assert not world.is_running
        assert isinstance(world.failure, StoreBrokenError)
        await world.stop()
        await world.start()
    assert world.is_running
    await world.advance(2.0)


@pytest.mark.parametrize("kinds", [("sync",), ("write", "sync")], ids=["sync", "both"])
async def test_a_rental_ends_in_service_mode_and_is_told_when_the_disk_takes_it(
    kinds: tuple[str, ...],
) -> None:
    # L13, row 4: by the card at the car, and the report reaches the fleet once.
    async with World() as world:
        await world.begin_rental()
        await world.advance(10.0)
        await broken(world, *kinds)
        assert mode(world) is RentalMode.STOPPED

        await world.end_rental()

        assert mode(world) is RentalMode.AVAILABLE
        assert world.board.locked
        assert world.board.light[1], "the fault pattern, never green"
        assert world.reports() == []
        assert await world.kept() == []
        world.disk.fault = None
        await world.advance(RETRY_S + 5.0)

        assert world.is_running
        assert len(world.reports()) == 1
        changes = [e for e in world.fleet.events() if isinstance(e, ServiceModeChanged)]
        assert [change.on for change in changes] == [True, False]
        assert FaultRaised in world.events()
        assert world.events()[-1] in {FaultCleared, ServiceModeChanged}
        assert await world.kept() == []
        await require_sound(world)
        await world.begin_rental()
        await world.power_cut()
        await require_sound(world)


async def test_no_rental_begins_and_none_is_reserved() -> None:
    async with World() as world:
        await world.reserve(ALICE)
        await broken(world, "write", "sync")

        await world.advance(2.0)
        world.present(ALICE)
        data = world.fleet.send(reservation(b"r" * 16, ALICE, world=world))
        await world.advance(2.0)

        assert world.board.locked
        assert world.fleet.codes_of(data) == [Code.STORAGE_CORRUPT]
        assert world.fleet.results_of(data)[0].executed is Executed.NO


async def test_a_rental_ends_by_command_in_service_mode() -> None:
    # Row 4: rental end still by remote; answered at once, told when it is durable.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        await world.advance(2.0)
        world.present(ALICE)
        await world.advance(10.0)
        await broken(world, "write", "sync")

        data = world.fleet.send(
            Lock(rental_id, ANY_VERSION, LockMode.END), ttl_ms=20_000
        )
        again = world.fleet.send(Unlock(rental_id, ANY_VERSION))
        await world.advance(3.0)

        assert Code.OK in world.fleet.codes_of(data)
        assert mode(world) is RentalMode.AVAILABLE
        assert Code.OK not in world.fleet.codes_of(again)
        assert world.reports() == []
        world.disk.fault = None
        await world.advance(RETRY_S + 5.0)
        assert len(world.reports()) == 1
        assert await world.kept() == []


async def test_a_power_cut_in_service_mode_loses_what_was_never_told_as_done() -> None:
    # The documented price: no entry of it was sent, so no sequence is given twice.
    async with World() as world:
        await world.begin_rental()
        await world.advance(10.0)
        await broken(world, "write", "sync")
        await world.end_rental()
        assert mode(world) is RentalMode.AVAILABLE

        world.disk.fault = None
        await world.power_cut()

        assert mode(world) is RentalMode.STOPPED
        await require_sound(world)
        # The bolts are closed, and the car knows of no end: a tap opens again.
        await world.end_rental()
        await world.end_rental()
        assert len(world.reports()) == 1


async def test_a_disk_that_fails_while_it_takes_what_waited_is_tried_on() -> None:
    # The ambiguous commit: kept or not, each entry is told once (I-21, I-27).
    for failing_at in some(range(1, 40), one_in=5):
        world = World()
        await world.start()
        await world.begin_rental()
        await world.advance(10.0)
        await broken(world, "write", "sync")
        await world.end_rental()
        first = world.disk.operations

        def fault(
            _kind: str, _name: str, world: World = world, at: int = first + failing_at
        ) -> apsw.Error | None:
            return apsw.IOError("planted") if world.disk.operations == at else None

        world.disk.fault = fault
        await world.advance(RETRY_S + 5.0)
        if not world.is_running:
            # It failed when service mode had ended already: a start settles it.
            await world.stop()
            await world.start()
        world.disk.fault = None
        await world.advance(3 * RETRY_S)

        assert world.is_running, failing_at
        assert len(world.reports()) == 1, failing_at
        await require_sound(world)
        await world.stop()


async def test_a_single_failure_begins_no_service_mode() -> None:
    async with World() as world:
        await world.reserve(ALICE)
        world.disk.fault = failing("sync")
        world.present(ALICE)
        await world.advance(1.0)
        assert not world.is_running

        world.disk.fault = None
        await world.restart()
        assert ServiceModeChanged not in world.events()
        world.present(ALICE)
        await world.advance(3.0)
        assert not world.board.locked


async def test_failures_of_long_ago_and_of_another_boot_do_not_count() -> None:
    world = World()
    await world.start()
    for _ in range(3):
        world.failures.add("boot 0", now_ms=world.clock.boot_ms)
    world.failures.add("boot 1", now_ms=world.clock.boot_ms)
    await world.advance(MEMORY_MS / 1000 + 1)

    hopeless = world.failures.is_hopeless("boot 1", now_ms=world.clock.boot_ms)
    world.failures.add("boot 1", now_ms=world.clock.boot_ms)
    once = world.failures.is_hopeless("boot 1", now_ms=world.clock.boot_ms)
    world.failures.add("boot 1", now_ms=world.clock.boot_ms)
    twice = world.failures.is_hopeless("boot 1", now_ms=world.clock.boot_ms)

    assert (hopeless, once, twice) == (False, False, True)
    await world.stop()
