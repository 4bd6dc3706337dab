"""Indicator and display as functions of the state (H15, I-16)."""

from dataclasses import replace

import pytest

from gateway.core.actuation import complete
from gateway.core.appearance import condition_of, light_of, snapshot_of
from gateway.core.events import PinEntered, ReaderLost, ReaderRecovered
from gateway.core.prompts import PromptKey
from gateway.core.rental import known
from gateway.core.state import Pending, Purpose, State
from gateway.core.turn import Turn
from protocol.codes import (
    AccessMeans,
    Bits,
    Condition,
    FaultKind,
    Light,
    LockDefault,
    RentalMode,
)
from protocol.event import FaultCleared, FaultRaised
from tests.gateway.core.scene import RESTING, BoardMood, Scene

LIGHTS = {
    RentalMode.AVAILABLE: "green",
    RentalMode.RESERVED: "yellow",
    RentalMode.STOPPED: "red",
    RentalMode.DRIVING: "red",
    RentalMode.PARKED: "red",
    RentalMode.REFUELLING: "red",
}


@pytest.mark.parametrize("mode", list(RentalMode))
def test_the_light_follows_the_mode(mode: RentalMode) -> None:
    # H15, C1 to C4
    scene = Scene()

    scene.be(mode)

    assert scene.light == LIGHTS[mode]


@pytest.mark.parametrize("mode", list(RentalMode))
def test_a_silent_board_is_the_fault_pattern_in_every_mode(mode: RentalMode) -> None:
    scene = Scene()
    scene.be(mode)

    scene.lose_board()

    assert scene.light == "blinking fault_pattern"
    assert snapshot_of(scene.state).condition is Condition.FAULT
    scene.report()
    assert scene.light == LIGHTS[mode]


@pytest.mark.parametrize("mode", list(RentalMode))
@pytest.mark.parametrize("fault", list(FaultKind))
def test_nothing_is_green_that_does_not_work(
    mode: RentalMode, fault: FaultKind
) -> None:
    # H15
    state = State(mode=mode, reading=RESTING, faults=frozenset({fault}))

    light, _blinking = light_of(state)

    assert light is not Light.GREEN
    assert condition_of(state) is not Condition.OK


def test_a_dead_reader_makes_a_car_degraded_and_ends_no_rental() -> None:
    scene = Scene()
    scene.rent()

    scene.happen(ReaderLost())
    scene.happen(ReaderLost())

    assert condition_of(scene.state) is Condition.DEGRADED
    assert scene.light == "red"
    assert scene.one(FaultRaised).kind is FaultKind.READER_GONE
    scene.happen(ReaderRecovered())
    scene.happen(ReaderRecovered())
    assert scene.one(FaultCleared).kind is FaultKind.READER_GONE


def test_a_silent_board_is_told_once_for_each_episode() -> None:
    scene = Scene()
    for _ in range(2):
        scene.lose_board()
        scene.lose_board()
        scene.report()

    assert len(scene.told(FaultRaised)) == len(scene.told(FaultCleared)) == 2


def test_a_driver_without_a_board_is_told_no_level() -> None:
    scene = Scene()
    scene.be(RentalMode.DRIVING)
    scene.board(energy_pct=10)
    before = scene.prompt

    scene.lose_board()

    assert (before, scene.prompt) == (PromptKey.ENERGY_LOW, PromptKey.NONE)


def test_a_driver_without_a_board_is_promised_no_engine() -> None:
    scene = Scene()
    scene.rent_and_release()
    before = scene.prompt

    scene.lose_board()

    assert (before, scene.prompt) == (PromptKey.MAY_START, PromptKey.WAIT)


def test_a_snapshot_without_a_reading_knows_nothing_of_the_car() -> None:
    scene = Scene()
    scene.rent()

    scene.lose_board()

    snapshot = snapshot_of(scene.state)
    assert snapshot.bits == Bits(0)
    assert (snapshot.energy_pct, snapshot.odometer_m) == (None, None)
    assert snapshot.mode is RentalMode.STOPPED
    assert snapshot.rental_id == scene.state.rental_id


def test_a_parked_car_shows_nothing_at_the_display() -> None:
    scene = Scene()
    scene.be(RentalMode.PARKED)

    assert scene.prompt is PromptKey.NONE


def test_a_passing_word_stands_for_five_seconds() -> None:
    scene = Scene()
    scene.rent()
    scene.happen(PinEntered("letters"))

    scene.advance(4.999)
    passing = scene.prompt
    scene.advance(0.001)

    assert (passing, scene.prompt) == (PromptKey.PIN_MALFORMED, PromptKey.ENTER_PIN)


def test_an_opening_by_card_takes_the_refusal_before_it_away() -> None:
    scene = Scene()
    scene.reserve()
    scene.tap(bytes(4))
    assert scene.light == "blinking red"
    scene.mood = BoardMood.DEAF

    scene.tap()

    assert scene.light == "yellow"


def test_asking_for_a_rental_where_there_is_none_is_a_fault_of_the_program() -> None:
    turn = Turn(State(), Scene().now)

    with pytest.raises(LookupError, match="mode AVAILABLE without a rental"):
        turn.change_rental(driven=True)


def test_asking_for_a_visit_where_there_is_none_is_a_fault_of_the_program() -> None:
    scene = Scene()
    scene.rent()
    turn = Turn(scene.state, scene.now)

    with pytest.raises(LookupError, match="mode STOPPED without a visit"):
        _ = turn.visit


def test_changing_a_reservation_where_there_is_none_is_a_fault_of_the_program() -> None:
    turn = Turn(State(), Scene().now)

    with pytest.raises(LookupError, match="AVAILABLE without a reservation"):
        turn.change_reservation(lock_default=LockDefault.PARK)


def test_what_no_read_back_brought_is_not_read() -> None:
    turn = Turn(State(), Scene().now)

    with pytest.raises(LookupError, match="a read-back without a reading"):
        known(turn)


def test_a_rental_does_not_start_without_a_reservation() -> None:
    turn = Turn(State(mode=RentalMode.RESERVED, reading=RESTING), Scene().now)
    pending = Pending(Purpose.START, 5, AccessMeans.CARD, bytes(32), None)

    with pytest.raises(LookupError, match="starts from a reservation only"):
        complete(turn, pending)


def test_typed_pins_do_not_show_in_the_event() -> None:
    assert "2580" not in repr(replace(PinEntered("0000"), pin="2580"))
