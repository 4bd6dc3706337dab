"""Reservations: taken, taken back, and over by themselves (C2, F3, H1)."""

from dataclasses import replace

import pytest

from gateway.core.actions import DriveLocks
from gateway.core.events import ReaderLost
from protocol.codes import (
    CancelReason,
    Code,
    Executed,
    LockDefault,
    ModeRequest,
    RentalMode,
    Retry,
)
from protocol.event import (
    RentalStarted,
    ReservationCancelled,
    ReservationExpired,
    ReservationStarted,
)
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.scene import (
    OTHER_RENTAL,
    RENTAL,
    BoardMood,
    Scene,
    cancel,
    reserve,
    set_mode,
    unlock,
)


def test_a_reservation_turns_the_light_from_green_to_yellow() -> None:
    # C1, C2
    scene = Scene()
    assert scene.light == "green"

    result = scene.reserve()

    assert result.code is Code.OK
    assert result.executed is Executed.YES
    assert result.snapshot.mode is RentalMode.RESERVED
    assert result.snapshot.rental_id == RENTAL
    assert scene.light == "yellow"
    assert scene.one(ReservationStarted).reserved_until_ms == scene.boot_ms + 900_000


def test_nobody_comes_and_the_car_releases_itself() -> None:
    # H1, C5: no network is needed for it.
    scene = Scene()
    scene.reserve(seconds=900)

    scene.advance(899.999)
    assert scene.light == "yellow"
    scene.advance(0.001)

    assert scene.mode is RentalMode.AVAILABLE
    assert scene.light == "green"
    assert scene.one(ReservationExpired).rental_id == RENTAL


def test_a_tap_at_the_very_end_of_a_reservation_comes_too_late() -> None:
    # H1: deadlines have their effect before anything else counts.
    scene = Scene()
    scene.reserve(seconds=900)
    scene.boot_ms += 900_000

    scene.tap()

    assert scene.mode is RentalMode.AVAILABLE
    assert scene.done(DriveLocks) == []


def test_a_reservation_does_not_end_while_its_doors_are_being_opened() -> None:
    scene = Scene()
    scene.reserve(seconds=900)
    scene.advance(899)
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.reading = replace(scene.reading, locked=False)

    scene.advance(2)

    assert scene.mode is RentalMode.STOPPED
    assert scene.told(ReservationExpired) == []
    assert scene.one(RentalStarted).rental_id == RENTAL


def test_a_reservation_whose_doors_never_opened_ends_with_the_attempt() -> None:
    # One instant ends both: the attempt first, then the reservation, in one step.
    scene = Scene()
    scene.reserve(seconds=900)
    scene.advance(899)
    scene.mood = BoardMood.DEAF
    scene.tap()

    scene.advance(3)

    assert scene.mode is RentalMode.AVAILABLE
    assert scene.one(ReservationExpired).rental_id == RENTAL


def test_a_tap_after_a_failed_and_outlived_reservation_opens_nothing() -> None:
    # H1: the attempt and the reservation are both over when the second tap comes.
    scene = Scene()
    scene.reserve(seconds=900)
    scene.advance(899)
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.boot_ms += 3_000
    scene.forget()

    scene.tap()

    assert scene.mode is RentalMode.AVAILABLE
    assert scene.done(DriveLocks) == []


def test_a_reservation_is_taken_back_by_the_fleet() -> None:
    scene = Scene()
    scene.reserve()

    result = scene.answer(cancel())

    assert result.code is Code.OK
    assert scene.one(ReservationCancelled).reason is CancelReason.CUSTOMER
    assert scene.mode is RentalMode.AVAILABLE
    assert scene.light == "green"


def test_a_reservation_that_is_over_can_be_cancelled_again_for_nothing() -> None:
    scene = Scene()
    scene.reserve()
    scene.answer(cancel())

    result = scene.answer(cancel())

    assert (result.code, result.executed) == (Code.ALREADY_IN_STATE, Executed.NO)
    assert len(scene.told(ReservationCancelled)) == 1


def test_a_running_rental_is_not_cancelled() -> None:
    scene = Scene()
    scene.rent()

    result = scene.answer(cancel())

    assert (result.code, result.retry) == (Code.WRONG_MODE, Retry.AFTER_RESYNC)
    assert scene.mode is RentalMode.STOPPED


def test_a_reservation_is_not_cancelled_under_a_door_that_opens() -> None:
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.tap()

    result = scene.answer(cancel())

    assert (result.code, result.retry) == (Code.BUSY, Retry.SAME_BYTES)
    assert scene.mode is RentalMode.RESERVED


def test_the_same_reservation_twice_is_already_so() -> None:
    scene = Scene()
    scene.reserve()

    result = scene.reserve()

    assert (result.code, result.executed) == (Code.ALREADY_IN_STATE, Executed.NO)
    assert len(scene.told(ReservationStarted)) == 1


@pytest.mark.parametrize(
    "mode",
    [mode for mode in RentalMode if mode is not RentalMode.AVAILABLE],
)
def test_a_car_that_somebody_has_is_not_reserved_for_another(mode: RentalMode) -> None:
    # F4
    scene = Scene()
    scene.be(mode)

    result = scene.answer(reserve(scene.boot_ms + 60_000, rental_id=OTHER_RENTAL))

    assert result.code is Code.WRONG_MODE
    assert result.snapshot.rental_id == RENTAL


def test_a_reservation_needs_a_rental() -> None:
    scene = Scene()

    result = scene.answer(reserve(scene.boot_ms + 60_000, rental_id=NO_RENTAL))

    assert result.code is Code.BAD_PARAM
    assert scene.mode is RentalMode.AVAILABLE


@pytest.mark.parametrize("early_ms", [0, 1, 1_000_000])
def test_a_reservation_that_is_over_already_is_refused(early_ms: int) -> None:
    scene = Scene()

    result = scene.answer(reserve(scene.boot_ms - early_ms))

    assert result.code is Code.EXPIRED
    assert scene.mode is RentalMode.AVAILABLE


def test_a_car_that_could_not_be_opened_is_not_reserved() -> None:
    # H15: what is not green takes no customer.
    scene = Scene()
    scene.happen(ReaderLost())
    assert scene.light == "blinking fault_pattern"

    result = scene.reserve()

    assert result.code is Code.BUS_ERROR
    assert scene.mode is RentalMode.AVAILABLE


def test_an_available_car_opens_for_nobody() -> None:
    # I-12
    scene = Scene()

    result = scene.answer(unlock())

    assert result.code is Code.WRONG_RENTAL
    assert scene.done(DriveLocks) == []


def test_the_customers_default_is_kept_for_the_rental() -> None:
    # C28
    scene = Scene()

    scene.rent(lock_default=LockDefault.PARK)

    assert scene.rental.reservation.lock_default is LockDefault.PARK


def test_a_reserved_car_has_no_mode_to_choose() -> None:
    scene = Scene()
    scene.reserve()

    result = scene.answer(set_mode(ModeRequest.PARK))

    assert result.code is Code.WRONG_MODE
