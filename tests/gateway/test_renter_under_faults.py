"""Who has the car gets in and out of it under every fault that a car can see (I-19).

One assertion for all rows: the renter of a parked car opens it by card within two
seconds, drives on after the PIN, and ends; a stranger's card opens it neither before
nor after. The gateway is whole, its devices, disk and link are fakes. Faults of
brokers, bridges and databases reach a car as one of the links below; how the real ones
fail is shown where they run (tests/tools/test_broker_faults.py).
"""

from collections.abc import Awaitable, Callable

import apsw
import pytest

from protocol.codes import (
    ClockQuality,
    Code,
    FaultKind,
    FrameClass,
    Light,
    LockMode,
    RentalMode,
)
from protocol.command import ANY_VERSION, Lock, Ping
from protocol.event import FaultCleared, FaultRaised
from protocol.identity import card_digest
from protocol.rental_codes import ServiceRequest
from protocol.rental_command import Service
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import LedgerReset
from tests.depth import times
from tests.gateway.test_ledger_reset import damage, lose
from tests.gateway.world import ALICE, MALLORY, PIN, World

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)

Fault = Callable[[World], Awaitable[None]]

BOUND_S = 2.0
"""I-13."""
DIGEST = card_digest(bytes(16), MALLORY)
TEN_YEARS_MS = 315_576_000_000


async def power_goes(world: World) -> None:
    """Row 1."""
    await world.power_cut(off_s=3_600)


async def agent_crashes(world: World) -> None:
    """Row 7: three times in a row."""
    for _ in range(3):
        await world.restart()


async def disk_is_full(world: World) -> None:
    """Row 3: by others' hand, all but the rental's own room."""
    assert world.store is not None
    world.store.free_kib = lambda: 20  # type: ignore[method-assign] # nearly full


async def disk_fails(world: World) -> None:
    """Row 4: the agent ends, starts anew, ends again and stays in service mode."""
    world.disk.fault = lambda kind, _name: (
        apsw.IOError("planted") if kind in {"write", "sync"} else None
    )
    world.fleet.send(Ping(NO_RENTAL, ANY_VERSION, bytes(16)))
    world.present(MALLORY)
    await world.advance(1.0)
    for _ in range(2):
        assert not world.is_running
        await world.stop()
        await world.start()
    await world.advance(3.0)


async def board_restarts(world: World) -> None:
    """Row 8: it is silent, and comes back without the engine's release."""
    world.board.is_stuck = True
    world.board.change(engine_released=False)
    await world.advance(5.0)
    world.board.is_stuck = False


async def strangers_flood_the_reader(world: World) -> None:
    """Row 10."""
    for number in range(200):
        world.present(bytes([4, *number.to_bytes(2, "big"), 1, 2, 3, 4]))
    await world.advance(3.0)


async def machine_sleeps(world: World) -> None:
    """Row 11: eight hours."""
    world.clock.suspend(8 * 3_600)
    await world.advance(1.0)


async def link_is_gone(world: World) -> None:
    """Rows 13, 18, 19, 22 and 24, as the car sees them: an hour, or three days."""
    world.air.cut()
    await world.advance(times(1, deep=72) * 3_600)


async def link_is_half_open(world: World) -> None:
    """Rows 14, 15 and 20: the broker takes everything, and nobody hears it."""
    world.air.is_deaf = True
    await world.advance(3_600)


async def broker_acknowledges_nothing(world: World) -> None:
    """Rows 20 and 26: frames are taken, and hang."""
    world.air.held = FrameClass.EVENT
    await world.advance(600)


async def link_breaks_all_the_time(world: World) -> None:
    """Row 16."""
    for _ in range(30):
        world.air.lose()
        await world.advance(5.0)


async def link_brings_rubbish(world: World) -> None:
    """Rows 17, 23 and 27."""
    for frame_class in (FrameClass.CMD, FrameClass.RECEIPT, FrameClass.TRUST):
        for size in (0, 1, 100, 4_096):
            world.air.deliver(frame_class, b"\xa5" * size)
    await world.advance(1.0)


async def bridge_gives_no_receipts(world: World) -> None:
    """Rows 25 to 28, as the car sees them."""
    world.fleet.gives_receipts = False
    await world.advance(3_600)


async def certificates_are_refused(world: World) -> None:
    """Rows 34 and 35: expired, withdrawn, or by an authority that nobody knows."""
    world.air.cut()
    world.air.restore()
    world.air.refused = frozenset(FrameClass)
    await world.advance(3_600)


async def clock_is_ten_years_off(world: World) -> None:
    """Row 36: and nobody vouches for it any more."""
    world.clock.wall_offset_ms += TEN_YEARS_MS
    world.clock.quality = ClockQuality.UNSET
    await world.advance(60)


async def clock_goes_back_ten_years(world: World) -> None:
    """Row 36."""
    world.clock.wall_offset_ms -= TEN_YEARS_MS
    await world.power_cut(off_s=60)


FAULTS: list[Fault] = [
    power_goes,
    agent_crashes,
    disk_is_full,
    disk_fails,
    board_restarts,
    strangers_flood_the_reader,
    machine_sleeps,
    link_is_gone,
    link_is_half_open,
    broker_acknowledges_nothing,
    link_breaks_all_the_time,
    link_brings_rubbish,
    bridge_gives_no_receipts,
    certificates_are_refused,
    clock_is_ten_years_off,
    clock_goes_back_ten_years,
]


async def start_in_service(world: World) -> None:
    """Start as often as the disk needs to be given up (L13)."""
    for _ in range(3):
        await world.start()
        await world.advance(3.0)
        if world.is_running:
            return
        await world.stop()
    raise AssertionError("the car does not start any more")


async def park(world: World) -> None:
    """Begin Alice's rental, release the engine, and park by app."""
    rental_id = await world.begin_rental()
    world.display.type_pin(PIN)
    await world.advance(10.0)
    data = world.fleet.send(Lock(rental_id, ANY_VERSION, LockMode.PARK))
    await world.advance(1.0)
    assert world.fleet.codes_of(data) == [Code.OK]
    assert world.state.mode is RentalMode.PARKED


def require_bolts(world: World, *, closed: bool) -> None:
    assert world.board.locked is closed, "I-19: bolts"


def require_fault(world: World) -> None:
    assert world.state.faults == {FaultKind.LEDGER_LOST}, "I-16: not asked"
    assert world.state.shown_light is Light.FAULT_PATTERN, "H15: not shown"


async def require_closed_to_strangers(world: World) -> None:
    world.present(MALLORY)
    await world.advance(8.0)
    require_bolts(world, closed=True)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_under_every_fault_the_renter_gets_in_and_out_and_nobody_else_does(
    fault: Fault,
) -> None:
    """I-13 (F), I-19 (F), I-12: rows of section 5 as the car sees them."""
    async with World() as world:
        await park(world)
        await fault(world)
        assert world.is_running
        await require_closed_to_strangers(world)

        world.present(ALICE)
        await world.advance(BOUND_S)

        require_bolts(world, closed=False)
        world.display.type_pin(PIN)
        await world.advance(BOUND_S)
        assert world.board.car.engine_released
        await world.end_rental()
        require_bolts(world, closed=True)
        assert world.state.mode is RentalMode.AVAILABLE
        await world.advance(3.0)
        await require_closed_to_strangers(world)


async def test_after_the_loss_of_the_ledger_the_fleet_lets_the_renter_in() -> None:
    """Row 5, I-16 (F), I-19, FF-LED-33: the car asks, and the fleet gives it back.

    It is never green meanwhile, whatever restarts, and nobody gets in by the loss; a
    reservation of the same id is the same rental.
    """
    async with World() as world:
        await park(world)
        rental_id = world.state.rental_id
        await damage(world, "update vehicle set state = x'7b7d'")
        await world.start()
        assert LedgerReset in world.events()
        for again in (world.restart, world.power_cut):
            require_fault(world)
            require_bolts(world, closed=True)
            await require_closed_to_strangers(world)
            await again()
        require_fault(world)

        await world.reserve(ALICE, rental_id=rental_id)
        world.present(ALICE)
        await world.advance(BOUND_S)

        require_bolts(world, closed=False)
        assert world.state.rental_id == rental_id
        world.display.type_pin(PIN)
        await world.advance(BOUND_S)
        assert world.board.car.engine_released
        await world.end_rental()
        assert world.reports()[-1].rental_id == rental_id
        await world.advance(3.0)
        assert world.state.shown_light is Light.GREEN


async def test_the_loss_of_the_ledger_locks_out_nobody_who_is_at_the_car() -> None:
    """Row 5, I-19, I-28, FF-LED-36: open, and with its engine released, it stays so."""
    async with World() as world:
        await world.begin_rental()
        world.display.type_pin(PIN)
        await world.advance(BOUND_S)
        await damage(world, "update vehicle set state = x'7b7d'")

        await world.start()
        await world.advance(10.0)
        await world.power_cut()
        await world.advance(10.0)

        require_fault(world)
        require_bolts(world, closed=False)
        assert world.board.car.engine_released


async def test_the_fleet_may_say_that_nobody_has_a_car_that_lost_its_ledger() -> None:
    """Row 5, FF-LED-33: the signed end of service closes it, and it serves again."""
    async with World() as world:
        await world.begin_rental()
        await damage(world, "update vehicle set state = x'7b7d'")
        await world.start()
        nobody = Service(NO_RENTAL, ANY_VERSION, ServiceRequest.OFF, 0)

        data = world.fleet.send(nobody)
        await world.advance(BOUND_S)

        assert world.fleet.codes_of(data) == [Code.OK]
        require_bolts(world, closed=True)
        assert world.state.shown_light is Light.GREEN
        assert FaultCleared(FaultKind.LEDGER_LOST) in world.fleet.events()
        await world.begin_rental()


async def test_a_loss_while_the_disk_takes_nothing_is_told_when_it_does() -> None:
    """Rows 4 and 5, FF-LED-09, FF-LED-32: never free in between, never green after."""
    async with World() as world:
        await park(world)
        await lose(world)
        broken = False

        def fault(kind: str, name: str) -> apsw.Error | None:
            nonlocal broken
            # The new file is made, and from its first entry on nothing is written.
            broken |= kind == "write" and name.endswith("-note1")
            fails = broken and kind in {"write", "sync"}
            return apsw.IOError("planted") if fails else None

        world.disk.fault = fault
        await start_in_service(world)
        assert world.state.shown_light is Light.FAULT_PATTERN
        world.disk.fault = None

        await world.advance(90.0)

        assert FaultKind.STORAGE_FAILED not in world.state.faults
        require_fault(world)
        told = world.fleet.events()
        assert isinstance(told[0], LedgerReset)
        assert told[1] == FaultRaised(FaultKind.LEDGER_LOST)


async def test_a_ledger_that_cannot_even_be_made_anew_leaves_the_car_as_it_is() -> None:
    """Rows 4 and 5, I-19, I-28: nothing is known, and nothing can be written either."""
    async with World() as world:
        await world.begin_rental()
        world.display.type_pin(PIN)
        await world.advance(BOUND_S)
        await lose(world)
        world.disk.fault = lambda kind, _name: (
            apsw.IOError("planted") if kind in {"write", "sync"} else None
        )

        await start_in_service(world)

        assert world.state.shown_light is Light.FAULT_PATTERN
        require_bolts(world, closed=False)
        assert world.board.car.engine_released
        world.disk.fault = None
        for _ in range(2):
            await world.advance(90.0)
            if not world.is_running:
                # The disk has another ledger now than the none that was looked at.
                await world.stop()
                await world.start()
        require_fault(world)
        require_bolts(world, closed=False)


@pytest.mark.parametrize("cards", [(), (DIGEST,)], ids=["renter out", "all in"])
async def test_a_fault_that_locks_out_or_lets_in_is_seen(
    cards: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-12, I-19: what the assertion above is worth."""

    async def planted(_world: World) -> None:
        monkeypatch.setattr("gateway.core.access._cards", lambda _state: cards)
        monkeypatch.setattr(
            "gateway.core.access.card_digest", lambda _rental_id, _uid: DIGEST
        )

    with pytest.raises(AssertionError, match="I-19: bolts"):
        await test_under_every_fault_the_renter_gets_in_and_out_and_nobody_else_does(
            planted
        )
