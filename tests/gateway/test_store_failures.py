"""A disk that is full or broken: nothing half done, nothing told that is not kept."""

import itertools
import random

import apsw
import pytest

from gateway.core.room import Room
from gateway.ports import StoreError
from gateway.storage.errors import StoreBrokenError
from protocol.codes import Code, Condition, Executed, Light, RentalMode
from protocol.command import ANY_VERSION, Ping, Unlock
from protocol.snapshot import NO_RENTAL
from tests.gateway.oracle import require_sound
from tests.gateway.powerloss import Fault
from tests.gateway.world import ALICE, World, reservation

pytestmark = pytest.mark.filterwarnings(
    # apsw warns of errors that SQLite met while it closed or rolled back.
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


def failing(error: type[apsw.Error], *kinds: str) -> Fault:
    """Return a fault that hits every operation of these kinds."""
    return lambda kind, _name: error("planted") if kind in kinds else None


async def test_a_full_disk_leaves_the_old_state_and_moves_nothing() -> None:
    # FF-CMD-07.
    # I-20, row 3; architecture.md: if the commit fails, nothing was done.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        before = world.state.essence()
        world.disk.fault = failing(apsw.FullError, "write")

        world.present(ALICE)
        data = world.fleet.send(Unlock(rental_id, ANY_VERSION))
        await world.advance(3.0)

        assert world.board.orders == []
        assert world.board.locked
        assert world.state.essence() == before
        assert world.fleet.codes_of(data) == [Code.STORAGE_FULL]
        assert world.fleet.results_of(data)[0].executed is Executed.NO
        assert world.is_running


async def test_the_car_works_again_when_there_is_room_again() -> None:
    async with World() as world:
        await world.reserve(ALICE)
        world.disk.fault = failing(apsw.FullError, "write")
        world.present(ALICE)
        await world.advance(3.0)

        world.disk.fault = None
        world.present(ALICE)
        await world.advance(3.0)

        assert not world.board.locked
        await require_sound(world)


async def test_a_rental_that_cannot_be_recorded_as_over_is_not_told_as_over() -> None:
    # FF-LED-30.
    # H21: the light stays red and the rental runs until the report is durable.
    async with World() as world:
        await world.begin_rental()
        await world.advance(10.0)
        world.disk.fault = failing(apsw.FullError, "sync")

        world.present(ALICE)
        await world.advance(1.0)

        assert world.board.light == (Light.RED, False)
        assert world.state.mode is RentalMode.STOPPED
        world.disk.fault = None
        await world.end_rental()
        assert world.board.light == (Light.GREEN, False)
        assert len(world.reports()) == 1


@pytest.mark.parametrize("kind", ["write", "sync"])
async def test_an_io_error_ends_the_gateway_before_anything_moves(kind: str) -> None:
    # FF-LED-04, FF-CMD-07.
    # L13, row 4: end, open anew, and start from what the disk holds.
    async with World() as world:
        await world.reserve(ALICE)
        world.disk.fault = failing(apsw.IOError, kind)

        world.present(ALICE)
        await world.advance(1.0)

        assert not world.is_running
        assert isinstance(world.failure, StoreBrokenError)
        assert world.failure.may_have_taken_effect
        assert world.board.orders == []

        world.disk.fault = None
        await world.restart()
        await require_sound(world)
        world.present(ALICE)
        await world.advance(3.0)
        assert not world.board.locked


async def test_a_command_that_met_an_io_error_is_answered_after_the_restart() -> None:
    # FF-CMD-09.
    # Whether it was kept is unknown, so it is not called refused; I-10 settles it.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        world.disk.fault = failing(apsw.IOError, "sync")
        data = world.fleet.send(Unlock(rental_id, ANY_VERSION))
        await world.advance(1.0)
        assert world.fleet.codes_of(data) == []
        message = world.air.down[-1]
        assert not message.is_done

        world.disk.fault = None
        await world.restart()
        await world.advance(1.0)

        assert world.board.orders == []
        assert set(world.fleet.codes_of(data)) <= {Code.INDETERMINATE_AFTER_REBOOT}


async def test_a_failed_receipt_frees_nothing_and_the_next_one_does() -> None:
    async with World() as world:
        world.fleet.gives_receipts = False
        await world.begin_rental()
        before = await world.kept()
        world.disk.fault = failing(apsw.FullError, "write")
        world.fleet.give_receipt()
        await world.settle()
        assert await world.kept() == before
        assert not world.air.down[-1].is_done

        world.disk.fault = None
        world.fleet.give_receipt()
        await world.settle()

        assert await world.kept() == []


async def test_a_nearly_full_ledger_takes_no_reservation_but_runs_the_rental() -> None:
    # FF-CMD-16, FF-LED-11.
    # I-20: space for the end of a rental is always there.
    async with World() as world:
        await world.begin_rental()
        assert world.store is not None
        world.store.free_kib = lambda: 100  # type: ignore[method-assign] # nearly full
        await world.end_rental()
        assert len(world.reports()) == 1

        refused = world.fleet.send(reservation(b"r" * 16, ALICE, world=world))
        ping = world.fleet.send(Ping(NO_RENTAL, ANY_VERSION, bytes(16)))
        await world.settle()

        assert world.fleet.codes_of(refused) == [Code.STORAGE_FULL]
        assert world.fleet.codes_of(ping) == [Code.OK]


async def test_a_free_car_whose_disk_fills_stops_promising_and_tells_the_fleet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # H15, I-16, I-20: others fill the disk, nobody comes, and no entry is spent on it.
    async with World() as world:
        assert world.store is not None
        assert world.board.light == (Light.GREEN, False)
        told, written = len(world.fleet.hellos), len(world.written())
        left = 100  # KiB
        monkeypatch.setattr(world.store, "free_kib", lambda: left)

        await world.advance(11.0)

        assert world.board.light == (Light.FAULT_PATTERN, True)
        [hello] = world.fleet.hellos[told:]
        assert hello.snapshot.condition is Condition.DEGRADED
        assert hello.storage_free_kib == left

        left = 10_000
        await world.advance(11.0)

        assert world.board.light == (Light.GREEN, False)
        assert world.fleet.hellos[-1].snapshot.condition is Condition.OK
        assert len(world.fleet.hellos) == told + 2
        assert len(world.written()) == written


async def test_a_car_that_starts_on_a_full_disk_is_not_green(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # H15: room is measured with the board's first report.
    async with World() as world:
        monkeypatch.setattr(type(world.store), "free_kib", lambda _store: 100)

        await world.restart()

        assert world.board.light == (Light.FAULT_PATTERN, True)


async def test_the_hello_of_a_full_disk_waits_for_the_outcome_of_the_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # I-11: one without it would say that the order was never carried out.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        told = len(world.fleet.hellos)
        monkeypatch.setattr(world.store, "free_kib", lambda: 100)

        world.board.is_stuck = True
        data = world.fleet.send(Unlock(rental_id, ANY_VERSION))
        await world.advance(1.0)
        assert world.state.room is Room.PROMISED
        assert world.state.pending is not None
        assert len(world.fleet.hellos) == told

        world.board.change(locked=False)
        await world.settle()

        [hello] = world.fleet.hellos[told:]
        assert world.fleet.codes_of(data) == [Code.OK]
        assert Code.OK in {outcome.code for outcome in hello.outcomes}


async def test_a_start_that_could_not_be_kept_leaves_the_next_one_a_reboot() -> None:
    # I-28, I-29, H1: the boot clock began anew, and the start that should have carried
    # the reservation over met a full disk. The one after it must carry it over.
    async with World() as world:
        await world.reserve(ALICE)
        await world.advance(60.0)
        await world.stop()
        world.disk = world.disk.after_power_cut(random.Random(1))  # noqa: S311 - test
        world.clock.reboot(60.0)
        world.reboot_mark()
        opening = itertools.count(1)
        # The start itself is counted, its first decision is not kept.
        world.disk.fault = lambda kind, _name: (
            apsw.FullError("planted") if kind == "sync" and next(opening) > 1 else None
        )
        await world.start()
        assert not world.is_running

        world.disk.fault = None
        await world.restart()
        reservation_left = world.state.reservation
        assert reservation_left is not None

        left_ms = reservation_left.until_ms - world.clock.boot_ms
        assert left_ms <= (15 * 60 - 120) * 1000


async def test_a_disk_that_fails_at_the_start_ends_the_gateway() -> None:
    world = World()
    world.disk.fault = failing(apsw.IOError, "write")

    await world.start()

    assert not world.is_running
    assert isinstance(world.failure, StoreError)
    await world.stop()
