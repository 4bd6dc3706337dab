"""The engine, the drive and the level (C13, C14, C16, N2)."""

from gateway.core.prompts import Choice, Prompt, PromptKey
from protocol.codes import AccessMeans, Code, Executed, LockMode, RentalMode
from protocol.event import (
    EnergyLow,
    EngineStarted,
    EngineStopped,
    Parked,
    RentalEnded,
)
from protocol.result import Result
from tests.gateway.core.scene import RENTAL, BoardMood, Scene, lock, unlock


def test_the_running_engine_is_driving() -> None:
    scene = Scene()
    scene.rent_and_release()

    scene.drive_off()

    assert scene.mode is RentalMode.DRIVING
    assert scene.light == "red"
    assert scene.prompt is PromptKey.NONE
    assert scene.one(EngineStarted).odometer_m == 12_345_000


def test_with_the_engine_off_the_driver_is_asked_what_next() -> None:
    # C16
    scene = Scene()
    scene.rent_and_release()

    scene.drive(metres=700)

    assert scene.mode is RentalMode.STOPPED
    assert scene.prompt is PromptKey.CHOOSE_NEXT
    stopped = scene.one(EngineStopped)
    assert (stopped.odometer_m, stopped.energy_pct) == (12_345_700, 80)


def test_the_driver_goes_on_without_the_pin_as_long_as_nothing_was_locked() -> None:
    scene = Scene()
    scene.rent_and_release()

    scene.drive()
    scene.drive()

    assert len(scene.told(EngineStarted)) == 2
    assert scene.prompt is PromptKey.CHOOSE_NEXT


def test_a_low_level_is_told_once_in_a_rental() -> None:
    # C13, C14, N2: below 25 %, not at it.
    scene = Scene()
    scene.be(RentalMode.DRIVING)

    scene.board(energy_pct=25)
    assert scene.told(EnergyLow) == []
    scene.board(energy_pct=24, range_km=120)
    assert scene.state.shown_prompt == Prompt(PromptKey.ENERGY_LOW, (24,))
    scene.board(energy_pct=23)
    scene.board(energy_pct=30)
    scene.board(energy_pct=24)

    told = scene.one(EnergyLow)
    assert (told.rental_id, told.energy_pct, told.range_km) == (RENTAL, 24, 120)


def test_a_level_that_nobody_measures_is_not_low() -> None:
    scene = Scene()
    scene.be(RentalMode.DRIVING)

    scene.board(energy_pct=None)

    assert scene.told(EnergyLow) == []
    assert scene.prompt is PromptKey.NONE


def test_a_car_that_is_free_tells_no_low_level() -> None:
    scene = Scene()

    scene.board(energy_pct=5)

    assert scene.told(EnergyLow) == []


def test_the_lowest_level_of_the_rental_is_reported() -> None:
    # B20: it decides the bonus.
    scene = Scene()
    scene.rent_and_release()
    for level in (40, 17, 60):
        scene.board(energy_pct=level)

    scene.tap_later()

    assert scene.one(RentalEnded).lowest_energy_pct == 17


def test_a_level_that_is_measured_late_becomes_the_lowest() -> None:
    scene = Scene()
    scene.board(energy_pct=None)
    scene.rent_and_release()
    scene.board(energy_pct=50)

    scene.tap_later()

    report = scene.one(RentalEnded)
    assert (report.start_energy_pct, report.lowest_energy_pct) == (None, 50)


def test_an_engine_that_starts_under_a_lock_keeps_the_rental() -> None:
    # I-1: the customer changed her mind; the lock must neither park nor end.
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.order(lock(LockMode.END))

    scene.drive_off()

    result = scene.told(Result)[-1]
    assert (result.code, result.executed) == (Code.IGNITION_ON, Executed.MAYBE)
    assert scene.mode is RentalMode.DRIVING
    assert scene.told(RentalEnded) == []


def test_a_rental_does_not_end_by_a_read_back_with_the_engine_running() -> None:
    # I-1: evaluated at actuation, not at receipt.
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.tap()

    scene.board(
        locked=True,
        engine_released=False,
        engine_running=True,
        ignition_on=True,
        speed_dkmh=10,
    )

    assert scene.mode is RentalMode.DRIVING
    assert scene.told(RentalEnded) == []
    assert scene.told(Parked) == []


def test_an_engine_that_starts_at_a_parked_car_does_not_end_its_rental() -> None:
    scene = Scene()
    scene.be(RentalMode.PARKED)
    scene.advance(1)
    scene.mood = BoardMood.DEAF
    scene.order(lock(LockMode.END))

    scene.board(engine_running=True)

    assert scene.mode is RentalMode.PARKED
    assert scene.told(RentalEnded) == []


def test_driving_off_from_the_station_ends_the_visit() -> None:
    # C17: whoever forgot to press "done" is not held up.
    scene = Scene()
    scene.be(RentalMode.REFUELLING)

    scene.drive_off()

    assert scene.mode is RentalMode.DRIVING
    assert scene.rental.refuelling is None


def test_doors_of_a_driving_car_are_not_unlocked() -> None:
    scene = Scene()
    scene.be(RentalMode.DRIVING)
    scene.board(locked=True)

    result = scene.answer(unlock())

    assert result.code is Code.VEHICLE_MOVING


def test_doors_that_are_open_already_are_no_trouble_while_driving() -> None:
    scene = Scene()
    scene.be(RentalMode.DRIVING)

    result = scene.answer(unlock())

    assert result.code is Code.ALREADY_IN_STATE


def test_a_choice_while_driving_is_nothing() -> None:
    scene = Scene()
    scene.be(RentalMode.DRIVING)
    scene.forget()

    scene.choose(Choice.PARK)

    assert scene.rental.parking_chosen is None


def test_an_engine_that_runs_when_the_doors_open_is_driving_at_once() -> None:
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.tap()

    scene.board(locked=False, engine_running=True, ignition_on=True)

    assert scene.mode is RentalMode.DRIVING
    assert scene.rental.means is AccessMeans.CARD


def test_an_engine_that_starts_takes_a_passing_word_away() -> None:
    # Nobody reads thanks on the way out of the station.
    scene = Scene()
    scene.be(RentalMode.REFUELLING)
    scene.choose(Choice.PAID_BY_CARD)
    before = scene.prompt

    scene.drive_off()

    assert (before, scene.prompt) == (PromptKey.PAYMENT_NOTED, PromptKey.NONE)
