"""A visit to the station, paid by the fuel card (C17, H2, H5, H6)."""

import pytest

from gateway.core.prompts import Choice, Prompt, PromptKey, term_of
from gateway.core.screens import SCREENS
from protocol.codes import (
    Code,
    EnergyKind,
    Executed,
    LockMode,
    ModeRequest,
    PaidBy,
    RentalMode,
)
from protocol.event import FuelPaidByCard, RefuelEnded, RefuelStarted, RentalEnded
from tests.gateway.core.scene import RENTAL, SEALED, Scene, lock, set_mode


def test_the_fuel_cards_pin_is_shown_in_refuel_mode() -> None:
    # C17: the display gets it sealed, and opens it for this prompt only (H6).
    scene = Scene()
    scene.rent_and_release()
    scene.drive()

    scene.choose(Choice.REFUEL)

    assert scene.mode is RentalMode.REFUELLING
    assert scene.light == "red"
    assert scene.state.shown_prompt == Prompt(
        PromptKey.FUEL_CARD_PIN,
        terms=(term_of(EnergyKind.FUEL),),
        sealed=SEALED,
        rental_id=RENTAL,
    )
    assert scene.one(RefuelStarted).energy_pct == 80


@pytest.mark.parametrize(("after", "refuelled"), [(39, False), (40, True), (95, True)])
def test_ten_points_count_as_refuelled(after: int, refuelled: bool) -> None:
    # H5
    scene = Scene()
    scene.rent_and_release()
    scene.board(energy_pct=30)
    scene.choose(Choice.REFUEL)
    scene.board(energy_pct=after)

    scene.choose(Choice.REFUEL_DONE)

    ended = scene.one(RefuelEnded)
    assert (ended.before_pct, ended.after_pct) == (30, after)
    assert ended.refuelled is refuelled
    assert scene.mode is RentalMode.STOPPED


def test_paying_is_the_drivers_word_and_told_once() -> None:
    # H2
    scene = Scene()
    scene.be(RentalMode.REFUELLING)

    scene.choose(Choice.PAID_BY_CARD)
    thanks = scene.prompt
    scene.choose(Choice.PAID_BY_CARD)
    scene.choose(Choice.REFUEL_DONE)

    assert thanks is PromptKey.PAYMENT_NOTED
    assert len(scene.told(FuelPaidByCard)) == 1
    assert scene.one(RefuelEnded).paid_by is PaidBy.FUEL_CARD


def test_a_visit_without_a_word_on_payment_says_so() -> None:
    scene = Scene()
    scene.be(RentalMode.REFUELLING)

    scene.choose(Choice.REFUEL_DONE)

    assert scene.one(RefuelEnded).paid_by is PaidBy.UNKNOWN


def test_the_gains_of_several_visits_add_up_in_the_report() -> None:
    # FF-LED-29.
    # H5
    scene = Scene()
    scene.rent_and_release()
    for before, after in ((10, 30), (20, 45), (45, 40)):
        scene.board(energy_pct=before)
        scene.choose(Choice.REFUEL)
        scene.board(energy_pct=after)
        scene.choose(Choice.REFUEL_DONE)

    scene.tap_later()

    assert scene.one(RentalEnded).refuel_gain_pct == 45


def test_a_gain_beyond_one_byte_is_reported_as_its_largest_number() -> None:
    # FF-LED-29.
    scene = Scene()
    scene.rent_and_release()
    for _ in range(3):
        scene.board(energy_pct=0)
        scene.choose(Choice.REFUEL)
        scene.board(energy_pct=100)
        scene.choose(Choice.REFUEL_DONE)

    scene.tap_later()

    assert scene.one(RentalEnded).refuel_gain_pct == 255


@pytest.mark.parametrize(("before", "after"), [(None, 90), (10, None)])
def test_a_level_that_is_not_measured_is_no_gain(
    before: int | None, after: int | None
) -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.board(energy_pct=before)
    scene.choose(Choice.REFUEL)
    scene.board(energy_pct=after)

    scene.choose(Choice.REFUEL_DONE)

    assert not scene.one(RefuelEnded).refuelled
    assert scene.rental.refuel_gain_pct == 0


def test_driving_off_reports_the_visit_too() -> None:
    scene = Scene()
    scene.be(RentalMode.REFUELLING)
    scene.board(energy_pct=95)

    scene.drive_off()

    assert scene.one(RefuelEnded).refuelled
    assert scene.rental.refuel_gain_pct == 15


def test_a_board_that_is_silent_leaves_the_levels_unknown() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.lose_board()
    scene.choose(Choice.REFUEL)

    scene.choose(Choice.REFUEL_DONE)

    started, ended = scene.one(RefuelStarted), scene.one(RefuelEnded)
    assert (started.energy_pct, started.odometer_m) == (None, None)
    assert (ended.before_pct, ended.after_pct) == (None, None)


def test_the_fleet_can_begin_and_end_a_visit_as_the_driver_can() -> None:
    scene = Scene()
    scene.rent_and_release()

    began = scene.answer(set_mode(ModeRequest.REFUEL))
    during = scene.mode
    ended = scene.answer(set_mode(ModeRequest.REFUEL_DONE))

    assert (began.code, ended.code) == (Code.OK, Code.OK)
    assert (during, scene.mode) == (RentalMode.REFUELLING, RentalMode.STOPPED)


@pytest.mark.parametrize(
    "request_", [ModeRequest.PARK, ModeRequest.END, ModeRequest.REFUEL]
)
def test_at_the_station_nothing_else_can_be_chosen(request_: ModeRequest) -> None:
    scene = Scene()
    scene.be(RentalMode.REFUELLING)

    result = scene.answer(set_mode(request_))

    assert result.code is Code.WRONG_MODE


@pytest.mark.parametrize("choice", [Choice.PARK, Choice.END, Choice.REFUEL])
def test_other_choices_at_the_station_are_nothing(choice: Choice) -> None:
    scene = Scene()
    scene.be(RentalMode.REFUELLING)
    before = scene.rental

    scene.choose(choice)

    assert scene.rental == before


@pytest.mark.parametrize("choice", [Choice.REFUEL_DONE, Choice.PAID_BY_CARD])
def test_choices_of_the_station_are_nothing_elsewhere(choice: Choice) -> None:
    scene = Scene()
    scene.rent_and_release()
    before = scene.rental

    scene.choose(choice)

    assert scene.rental == before


def test_refuelling_is_done_only_where_it_began() -> None:
    scene = Scene()
    scene.rent_and_release()

    result = scene.answer(set_mode(ModeRequest.REFUEL_DONE))

    assert result.code is Code.WRONG_MODE


@pytest.mark.parametrize("lock_mode", [LockMode.PLAIN, LockMode.DEFAULT])
def test_at_the_station_locking_only_locks(lock_mode: LockMode) -> None:
    scene = Scene()
    scene.be(RentalMode.REFUELLING)

    result = scene.answer(lock(lock_mode))

    assert result.code is Code.OK
    assert scene.reading.locked
    assert scene.reading.engine_released
    assert scene.mode is RentalMode.REFUELLING


@pytest.mark.parametrize("lock_mode", [LockMode.PARK, LockMode.END])
def test_a_visit_is_neither_parked_nor_ended(lock_mode: LockMode) -> None:
    scene = Scene()
    scene.be(RentalMode.REFUELLING)

    result = scene.answer(lock(lock_mode))

    assert result.code is Code.WRONG_MODE
    assert not scene.reading.locked


def test_a_card_without_the_pin_does_not_bring_up_the_fuel_cards_pin() -> None:
    # H6: a UID can be copied, and the fuel card's PIN is money.
    scene = Scene()
    scene.rent()

    offered = SCREENS[scene.prompt].offers
    scene.choose(Choice.REFUEL)
    result = scene.answer(set_mode(ModeRequest.REFUEL))

    assert Choice.REFUEL not in offered
    assert scene.mode is RentalMode.STOPPED
    assert scene.prompt is PromptKey.ENTER_PIN
    assert (result.code, result.executed) == (Code.PIN_REQUIRED, Executed.NO)


def test_an_electric_car_speaks_of_a_charging_card() -> None:
    # H13: on the screen that has its PIN, and in passing
    scene = Scene()
    scene.rent_and_release()
    scene.board(energy_kind=EnergyKind.ELECTRIC)
    scene.choose(Choice.REFUEL)
    shown = scene.state.shown_prompt

    scene.choose(Choice.PAID_BY_CARD)

    card = (term_of(EnergyKind.ELECTRIC),)
    assert (shown.key, shown.terms) == (PromptKey.FUEL_CARD_PIN, card)
    assert scene.state.shown_prompt == Prompt(PromptKey.PAYMENT_NOTED, terms=card)


def test_who_has_chosen_to_park_is_told_that_the_pin_comes_before_refuelling() -> None:
    # C17, H6: that screen has the whole menu, whether the PIN was typed or not.
    scene = Scene()
    scene.rent()
    scene.choose(Choice.PARK)

    scene.choose(Choice.REFUEL)

    assert scene.prompt is PromptKey.PIN_FIRST
    assert scene.mode is RentalMode.STOPPED
