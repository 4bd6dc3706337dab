"""Actuations: read back, refused, or nobody knows (I-10)."""

import pytest

from gateway.core.actions import AllowEngine, DriveLocks
from gateway.core.actuation import SUPPLY_BACK_MV
from gateway.core.events import BoardRefusal
from gateway.core.prompts import PromptKey
from protocol.codes import Code, Condition, Executed, FaultKind, RentalMode, Retry
from protocol.event import (
    AccessGranted,
    EngineReleased,
    FaultCleared,
    FaultRaised,
    RentalStarted,
)
from protocol.result import Result
from tests.gateway.core.scene import (
    BoardMood,
    Scene,
    hold,
    lock,
    release,
    reserve,
    unlock,
)

REFUSALS = {
    BoardRefusal.DOOR_OPEN: (Code.DOOR_OPEN, Retry.AFTER_USER_ACTION),
    BoardRefusal.MOVING: (Code.VEHICLE_MOVING, Retry.AFTER_USER_ACTION),
    BoardRefusal.ENGINE_RUNNING: (Code.IGNITION_ON, Retry.AFTER_USER_ACTION),
    BoardRefusal.LOW_VOLTAGE: (Code.LOW_VOLTAGE, Retry.NEW_COMMAND),
    BoardRefusal.FAULT: (Code.ACTUATOR_FAULT, Retry.NEW_COMMAND),
}


def test_an_unlock_is_answered_when_the_bolts_are_read_back_open() -> None:
    # FF-RES-04.
    # "Sent" is never "done".
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.forget()

    scene.order(unlock())
    early = scene.told(Result)
    scene.report()
    still_locked = scene.told(Result)
    scene.board(locked=False)

    assert (early, still_locked) == ([], [])
    result = scene.one(Result)
    assert (result.code, result.executed) == (Code.OK, Executed.YES)
    assert result.snapshot.mode is RentalMode.STOPPED
    assert scene.mode is RentalMode.STOPPED


@pytest.mark.parametrize("refusal", list(BoardRefusal))
def test_the_boards_refusal_is_the_answer(refusal: BoardRefusal) -> None:
    # I-1: the board checks the physics at the moment of moving.
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.REFUSES
    scene.refusal = refusal

    scene.order(unlock())

    result = scene.told(Result)[-1]
    code, retry = REFUSALS[refusal]
    assert (result.code, result.executed, result.retry) == (code, Executed.NO, retry)
    assert scene.mode is RentalMode.RESERVED
    assert scene.state.pending is None


def test_a_refusal_when_nothing_was_asked_for_is_nothing() -> None:
    # Of hazard lights for instance.
    scene = Scene()
    before = scene.state

    decision = scene.refuse(BoardRefusal.LOW_VOLTAGE)

    assert decision.entries == ()
    assert decision.state.essence() == before.essence()


def test_a_refused_engine_does_not_fail_the_doors() -> None:
    # I-12: the bolts open all the same, so the rental must start with them.
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.order(unlock())

    scene.refuse(BoardRefusal.LOW_VOLTAGE, of_engine=True)
    scene.board(locked=False)

    assert scene.mode is RentalMode.STOPPED
    assert scene.told(Result)[-1].code is Code.OK


def test_refused_doors_do_not_fail_the_engine() -> None:
    scene = Scene()
    scene.rent()
    scene.mood = BoardMood.DEAF
    scene.order(release())

    scene.refuse(BoardRefusal.DOOR_OPEN)
    scene.board(engine_released=True)

    assert scene.told(Result)[-1].code is Code.OK
    assert scene.rental.pin_accepted


def test_a_lock_whose_engine_order_was_refused_may_still_close() -> None:
    # Two orders are on their way; the refusal of the first stops not the second.
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.order(lock())

    scene.refuse(BoardRefusal.FAULT, of_engine=True)

    result = scene.told(Result)[-1]
    assert (result.code, result.executed) == (Code.ACTUATOR_FAULT, Executed.MAYBE)


def test_a_board_that_says_nothing_may_have_moved() -> None:
    # FF-RES-03.
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.order(unlock())

    scene.advance(2.999)
    waiting = scene.state.pending
    scene.advance(0.001)

    result = scene.told(Result)[-1]
    assert waiting is not None
    assert (result.code, result.executed) == (Code.ACTUATOR_TIMEOUT, Executed.MAYBE)
    assert result.retry is Retry.NEW_COMMAND
    assert scene.one(FaultRaised).kind is FaultKind.LOCK_NO_READBACK
    assert scene.state.pending is None


def test_a_read_back_at_the_last_instant_is_too_late() -> None:
    # Deadlines have their effect before anything else counts.
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.order(unlock())
    scene.boot_ms += 3_000

    scene.board(locked=False)

    assert scene.told(Result)[-1].code is Code.ACTUATOR_TIMEOUT
    assert scene.mode is RentalMode.RESERVED


def test_a_fault_is_told_once_and_cleared_once() -> None:
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    for _ in range(3):
        scene.order(unlock())
        scene.advance(3)
    assert len(scene.told(FaultRaised)) == 1
    result = scene.told(Result)[-1]
    assert result.snapshot.condition is Condition.DEGRADED

    scene.mood = BoardMood.OBEYS
    scene.order(unlock())

    assert scene.one(FaultCleared).kind is FaultKind.LOCK_NO_READBACK
    assert scene.state.faults == frozenset()
    assert scene.told(Result)[-1].snapshot.condition is Condition.OK


def test_a_failing_actuator_is_a_fault() -> None:
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.REFUSES

    scene.refusal = BoardRefusal.FAULT
    scene.order(unlock())

    assert scene.one(FaultRaised).kind is FaultKind.LOCK_NO_READBACK


def test_a_lock_without_voltage_is_refused_in_red_and_told_once() -> None:
    # H15, row 11: at 9 V the motor would stop half-way
    scene = Scene()
    scene.reserve()
    scene.board(supply_mv=9_000)
    scene.mood, scene.refusal = BoardMood.REFUSES, BoardRefusal.LOW_VOLTAGE

    scene.tap()
    light, prompt = scene.light, scene.prompt
    scene.tap_later()

    assert (light, prompt) == ("blinking red", PromptKey.TRY_AGAIN)
    assert scene.one(FaultRaised).kind is FaultKind.LOCK_REFUSED
    assert scene.mode is RentalMode.RESERVED


def test_a_lock_is_believed_again_when_the_voltage_is_back() -> None:
    # I-13, row 11; a car that nobody can reserve is tried by nobody
    scene = Scene()
    scene.reserve(seconds=60)
    scene.board(supply_mv=9_000)
    scene.mood, scene.refusal = BoardMood.REFUSES, BoardRefusal.LOW_VOLTAGE
    scene.tap()
    scene.advance(60)
    dark = scene.light

    scene.board(supply_mv=SUPPLY_BACK_MV - 1)
    still = scene.light
    scene.board(supply_mv=SUPPLY_BACK_MV)

    assert (dark, still) == ("blinking fault_pattern", "blinking fault_pattern")
    assert scene.light == "green"
    assert scene.one(FaultCleared).kind is FaultKind.LOCK_REFUSED


def test_an_engine_without_voltage_is_a_fault_of_its_own_that_a_release_ends() -> None:
    # row 11
    scene = Scene()
    scene.rent()
    scene.board(supply_mv=None)
    scene.mood, scene.refusal = BoardMood.REFUSES, BoardRefusal.LOW_VOLTAGE
    scene.order(release())

    scene.mood = BoardMood.OBEYS
    scene.order(release())

    assert scene.one(FaultRaised).kind is FaultKind.ENGINE_REFUSED
    assert scene.one(FaultCleared).kind is FaultKind.ENGINE_REFUSED


def test_an_engine_that_is_not_released_is_a_fault_of_its_own() -> None:
    scene = Scene()
    scene.rent()
    scene.mood = BoardMood.DEAF

    scene.order(release())
    scene.advance(3)

    assert scene.one(FaultRaised).kind is FaultKind.ENGINE_NO_READBACK
    assert scene.told(EngineReleased) == []


def test_a_customer_at_the_car_is_told_that_it_did_not_work() -> None:
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.tap()

    scene.advance(3)
    light, prompt = scene.light, scene.prompt
    scene.advance(5)

    assert (light, prompt) == ("blinking red", PromptKey.TRY_AGAIN)
    assert (scene.light, scene.prompt) == ("yellow", PromptKey.NONE)


def test_a_customer_with_a_telephone_is_told_there() -> None:
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.order(unlock())

    scene.advance(3)

    assert (scene.light, scene.prompt) == ("yellow", PromptKey.NONE)


def test_doors_that_open_late_start_the_rental_with_the_next_tap() -> None:
    scene = Scene()
    scene.reserve()
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.advance(3)
    scene.board(locked=False)
    assert scene.told(RentalStarted) == []

    scene.tap()
    scene.report()

    assert scene.mode is RentalMode.STOPPED


@pytest.mark.parametrize(
    "command", [unlock(), lock(), release(), hold()], ids=lambda c: type(c).__name__
)
def test_one_actuation_at_a_time(command: object) -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.board(locked=True)
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.forget()

    result = scene.answer(command)  # type: ignore[arg-type] # one of Command

    assert (result.code, result.retry) == (Code.BUSY, Retry.SAME_BYTES)
    assert scene.done(DriveLocks) == []
    assert scene.done(AllowEngine) == []


def test_an_engine_is_held_when_it_is_read_back_held() -> None:
    scene = Scene()
    scene.rent_and_release()

    result = scene.answer(hold())

    assert result.code is Code.OK
    assert not scene.reading.engine_released
    assert scene.prompt is PromptKey.ENGINE_HELD


def test_a_hold_that_was_refused_leaves_the_engine_as_it_was() -> None:
    # I-19: "not executed" means that the driver goes on as before.
    scene = Scene()
    scene.rent_and_release()
    scene.mood = BoardMood.REFUSES
    scene.refusal = BoardRefusal.LOW_VOLTAGE

    scene.order(hold())

    result = scene.told(Result)[-1]
    assert (result.code, result.executed) == (Code.LOW_VOLTAGE, Executed.NO)
    assert scene.prompt is PromptKey.MAY_START


def test_after_a_hold_that_nobody_read_back_the_pin_is_asked_for() -> None:
    # I-19: the engine may be held, so there must be a way to release it.
    scene = Scene()
    scene.rent_and_release()
    scene.mood = BoardMood.DEAF
    scene.order(hold())
    scene.advance(3)
    scene.board(engine_released=False)
    scene.mood = BoardMood.OBEYS
    assert scene.prompt is PromptKey.ENTER_PIN

    scene.type_pin()

    assert scene.reading.engine_released


def test_a_hold_before_the_pin_releases_nothing_when_it_fails() -> None:
    # C11
    scene = Scene()
    scene.rent()
    scene.mood = BoardMood.REFUSES
    scene.order(hold())

    assert not scene.rental.pin_accepted
    assert AllowEngine(released=True) not in scene.done(AllowEngine)


@pytest.mark.parametrize("speed_dkmh", [1, 900, None])
def test_an_engine_is_never_held_in_a_car_that_may_move(speed_dkmh: int | None) -> None:
    # FF-CMD-06.
    # I-2
    scene = Scene()
    scene.rent_and_release()
    scene.board(speed_dkmh=speed_dkmh)

    result = scene.answer(hold())

    assert result.code is Code.VEHICLE_MOVING
    assert scene.reading.engine_released


def test_an_engine_that_runs_is_never_held() -> None:
    # I-2
    scene = Scene()
    scene.rent_and_release()
    scene.drive_off()
    scene.board(speed_dkmh=0)

    assert scene.answer(hold()).code is Code.IGNITION_ON


def test_a_stale_reading_holds_no_engine() -> None:
    # I-2
    scene = Scene()
    scene.rent_and_release()
    scene.advance(2.001, board_reports=False)

    assert scene.answer(hold()).code is Code.BUS_ERROR


def test_an_engine_that_starts_under_a_hold_is_not_held() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.mood = BoardMood.DEAF
    scene.order(hold())

    scene.drive_off()

    assert scene.told(Result)[-1].code is Code.IGNITION_ON
    assert scene.mode is RentalMode.DRIVING


def test_opening_by_command_is_written_before_the_bolts_move() -> None:
    scene = Scene()
    scene.reserve()

    scene.order(unlock())

    granted = scene.one(AccessGranted)
    assert granted.authority == (2).to_bytes(16, "big")
    assert scene.rental.means.name == "COMMAND"


def test_an_open_car_needs_no_unlock() -> None:
    scene = Scene()
    scene.rent()

    result = scene.answer(unlock())

    assert (result.code, result.executed) == (Code.ALREADY_IN_STATE, Executed.NO)


def test_a_car_whose_board_is_silent_is_unlocked_all_the_same() -> None:
    # I-19: nobody knows whether it is open, so it is tried.
    scene = Scene()
    scene.rent()
    scene.lose_board()

    scene.order(unlock())

    assert scene.told(Result)[-1].code is Code.OK


def test_a_customer_who_was_let_in_by_command_may_tap_without_ending() -> None:
    # I-14
    scene = Scene()
    scene.rent_and_release()
    scene.drive()
    scene.board(locked=True)
    scene.advance(6)
    scene.order(unlock())

    scene.tap()

    assert scene.mode is RentalMode.STOPPED


def test_a_car_with_a_failed_lock_takes_no_customer() -> None:
    # H15: never green when it cannot be rented.
    scene = Scene()
    scene.reserve(seconds=2)
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.advance(10)
    assert scene.mode is RentalMode.AVAILABLE

    result = scene.answer(reserve(scene.boot_ms + 60_000))

    assert scene.light == "blinking fault_pattern"
    assert result.code is Code.BUS_ERROR


def test_an_engine_that_the_fleet_holds_is_not_released_by_a_pin() -> None:
    # C11: an operator's hold holds against a customer who knows the PIN.
    scene = Scene()
    scene.rent_and_release()
    scene.answer(hold())

    scene.type_pin()
    held = scene.reading.engine_released
    scene.answer(release())

    assert held is False
    assert scene.reading.engine_released
    assert not scene.rental.held
