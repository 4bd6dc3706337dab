"""A car that nobody has: it does not stay open, and not out of service for ever."""

import pytest

from gateway.core.actions import DriveLocks
from protocol.codes import (
    CancelReason,
    ClockQuality,
    Code,
    FaultKind,
    RentalMode,
)
from protocol.command import ANY_VERSION, CancelReservation
from protocol.event import FaultCleared, RentalEnded
from tests.gateway.core.scene import RENTAL, BoardMood, Scene


def closings(scene: Scene) -> list[DriveLocks]:
    return [order for order in scene.done(DriveLocks) if order.locked]


def reserved_and_open() -> Scene:
    """A reserved car whose bolts somebody opened by the mechanical key."""
    scene = Scene()
    scene.be(RentalMode.RESERVED)
    scene.board(locked=False)
    scene.forget()
    return scene


def test_a_free_car_that_is_found_open_after_a_restart_is_closed() -> None:
    # H15: green means free and shut
    scene = Scene()
    scene.board(locked=False)
    scene.restart()
    scene.forget()

    scene.board(locked=False)

    assert closings(scene) == [DriveLocks(locked=True)]


@pytest.mark.parametrize(
    "hindrance",
    [{"door_open": True}, {"engine_running": True}, {"speed_dkmh": None}],
    ids=["door", "engine", "speed"],
)
def test_a_free_car_is_not_closed_when_that_is_not_safe(
    hindrance: dict[str, object],
) -> None:
    # I-1
    scene = Scene()
    scene.restart()
    scene.forget()

    scene.board(locked=False, **hindrance)

    assert closings(scene) == []


def test_a_reservation_that_is_cancelled_on_an_open_car_closes_it() -> None:
    scene = reserved_and_open()

    result = scene.answer(CancelReservation(RENTAL, ANY_VERSION, CancelReason.OPERATOR))

    assert result.code is Code.OK
    assert closings(scene) == [DriveLocks(locked=True)]


def test_a_reservation_that_expires_on_an_open_car_closes_it() -> None:
    scene = reserved_and_open()
    reservation = scene.state.reservation
    assert reservation is not None
    scene.advance((reservation.until_ms - scene.boot_ms) / 1_000 - 1)
    scene.forget()

    scene.advance(1)

    assert scene.mode is RentalMode.AVAILABLE
    assert DriveLocks(locked=True) in closings(scene)


def test_locks_that_failed_are_tried_again_after_a_restart() -> None:
    # A car that nobody can reserve is never opened: only a start can forgive it.
    scene = Scene()
    scene.be(RentalMode.RESERVED)
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.advance(4)
    assert FaultKind.LOCK_NO_READBACK in scene.state.faults

    scene.restart()

    assert scene.state.faults == frozenset()
    assert FaultCleared(FaultKind.LOCK_NO_READBACK) in scene.told(FaultCleared)


def test_a_battery_clock_that_jumps_by_years_bills_nothing_for_the_gap() -> None:
    # I-29: the gap is bridged by what can be believed, and the report says estimated
    scene = Scene(quality=ClockQuality.RTC)
    scene.rent()

    scene.restart(off_s=10 * 365 * 24 * 3_600)
    scene.board()
    scene.advance(10)
    scene.tap_later()

    report = scene.one(RentalEnded)
    assert report.estimated
    assert report.total_ms < 120_000


def test_a_trusted_clock_bridges_a_gap_of_days() -> None:
    scene = Scene(quality=ClockQuality.GNSS)
    scene.rent()

    scene.restart(off_s=2 * 24 * 3_600)
    scene.board()
    scene.advance(10)
    scene.tap_later()

    assert scene.one(RentalEnded).total_ms > 2 * 24 * 3_600 * 1_000
