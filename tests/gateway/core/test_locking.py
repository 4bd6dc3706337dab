"""Locking, parking and ending, and when the car refuses to (C24, C26, H20, I-1)."""

import pytest

from gateway.core.actions import AllowEngine, DriveLocks
from gateway.core.events import BoardRefusal
from gateway.core.prompts import Choice, PromptKey
from protocol.codes import (
    Bits,
    CardRefusal,
    Code,
    EndReason,
    Executed,
    FaultKind,
    LockDefault,
    LockMode,
    ModeRequest,
    RentalMode,
    Retry,
)
from protocol.event import CardRefused, FaultCleared, FaultRaised, Parked, RentalEnded
from protocol.result import Result
from tests.gateway.core.scene import (
    CARD,
    RENTAL,
    BoardMood,
    Scene,
    hold,
    lock,
    set_mode,
)

HINDRANCES = [
    ({"engine_running": True, "speed_dkmh": 0}, Code.IGNITION_ON),
    ({"ignition_on": True}, Code.IGNITION_ON),
    ({"speed_dkmh": 1}, Code.VEHICLE_MOVING),
    ({"speed_dkmh": None}, Code.VEHICLE_MOVING),
    ({"door_open": True}, Code.DOOR_OPEN),
    ({"boot_open": True}, Code.DOOR_OPEN),
]


@pytest.mark.parametrize("lock_mode", list(LockMode))
@pytest.mark.parametrize(("reading", "code"), HINDRANCES)
def test_nothing_is_locked_that_is_not_known_to_be_safe(
    reading: dict[str, object], code: Code, lock_mode: LockMode
) -> None:
    # FF-CMD-06.
    # I-1, I-2, H20: refused before the board is asked, which would refuse it too.
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.board(**reading)
    mode = scene.mode
    scene.forget()

    result = scene.answer(lock(lock_mode))

    assert (result.code, result.executed) == (code, Executed.NO)
    assert result.retry is Retry.AFTER_USER_ACTION
    assert scene.done(DriveLocks) == []
    assert scene.mode is mode


@pytest.mark.parametrize("lock_mode", list(LockMode))
def test_a_stale_reading_says_nothing_about_standing_still(lock_mode: LockMode) -> None:
    # I-2: two seconds.
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.advance(2.001, board_reports=False)

    result = scene.answer(lock(lock_mode))

    assert (result.code, result.retry) == (Code.BUS_ERROR, Retry.NEW_COMMAND)


def test_a_reading_of_two_seconds_is_fresh_enough() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.advance(2, board_reports=False)

    assert scene.answer(lock()).code is Code.OK


def test_a_silent_board_locks_nothing() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.lose_board()

    assert scene.answer(lock()).code is Code.BUS_ERROR
    assert scene.answer(hold()).code is Code.BUS_ERROR


@pytest.mark.parametrize("missing", ["key_present", "fuel_card_present"])
def test_a_rental_does_not_end_without_key_and_fuel_card(missing: str) -> None:
    # H20: the car says what is missing, and nobody is locked out.
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.board(**{missing: False})

    result = scene.answer(lock(LockMode.END))

    assert result.code is Code.KEY_OR_CARD_MISSING
    assert scene.mode is RentalMode.STOPPED


def test_a_car_parks_without_its_key() -> None:
    # The customer may keep it while shopping.
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.board(key_present=False)

    result = scene.answer(lock(LockMode.PARK))

    assert result.code is Code.OK
    assert scene.mode is RentalMode.PARKED


@pytest.mark.parametrize(
    ("reading", "reason", "prompt"),
    [
        ({"door_open": True}, CardRefusal.DOOR_OPEN, PromptKey.MISSING_TO_END),
        ({"boot_open": True}, CardRefusal.DOOR_OPEN, PromptKey.MISSING_TO_END),
        ({"key_present": False}, CardRefusal.NOT_READY, PromptKey.MISSING_TO_END),
        ({"speed_dkmh": None}, CardRefusal.ENGINE_RUNNING, PromptKey.MISSING_TO_END),
        ({"ignition_on": True}, CardRefusal.ENGINE_RUNNING, PromptKey.MISSING_TO_END),
    ],
)
def test_a_tap_that_cannot_lock_says_what_is_missing(
    reading: dict[str, object], reason: CardRefusal, prompt: PromptKey
) -> None:
    # H20
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.board(**reading)

    scene.tap()

    assert scene.one(CardRefused).reason is reason
    assert scene.prompt is prompt
    assert scene.light == "blinking red"
    assert scene.mode is RentalMode.STOPPED


@pytest.mark.parametrize(
    ("reading", "prompt"),
    [
        ({"door_open": True}, PromptKey.CLOSE_DOORS),
        ({"boot_open": True}, PromptKey.CLOSE_DOORS),
        ({"ignition_on": True}, PromptKey.SWITCH_OFF),
    ],
)
def test_a_tap_that_cannot_park_says_so(
    reading: dict[str, object], prompt: PromptKey
) -> None:
    # C24, I-1
    scene = Scene()
    scene.rent_and_release(lock_default=LockDefault.PARK)
    scene.advance(6)
    scene.board(**reading)

    scene.tap()

    assert scene.prompt is prompt
    assert not scene.reading.locked


def test_a_tap_under_a_stale_reading_is_refused_as_not_ready() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6, board_reports=False)

    scene.tap()

    assert scene.one(CardRefused).reason is CardRefusal.NOT_READY
    assert scene.mode is RentalMode.STOPPED


def test_parking_holds_the_engine_before_the_bolts_close() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.choose(Choice.PARK)
    scene.advance(6)
    scene.forget()

    decision = scene.tap()

    moves = [a for a in decision.actions if isinstance(a, AllowEngine | DriveLocks)]
    assert moves == [AllowEngine(released=False), DriveLocks(locked=True)]


def test_locked_doors_with_a_released_engine_are_not_yet_parked() -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.choose(Choice.PARK)
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.tap()

    scene.board(locked=True)
    half = scene.mode
    scene.board(engine_released=False)

    assert half is RentalMode.STOPPED
    assert scene.mode is RentalMode.PARKED


@pytest.mark.parametrize(
    ("lock_mode", "default", "mode"),
    [
        (LockMode.DEFAULT, LockDefault.END, RentalMode.AVAILABLE),
        (LockMode.DEFAULT, LockDefault.PARK, RentalMode.PARKED),
        (LockMode.PARK, LockDefault.END, RentalMode.PARKED),
        (LockMode.END, LockDefault.PARK, RentalMode.AVAILABLE),
        (LockMode.PLAIN, LockDefault.END, RentalMode.STOPPED),
    ],
)
def test_the_app_locks_as_it_says_or_by_the_default(
    lock_mode: LockMode, default: LockDefault, mode: RentalMode
) -> None:
    # C24, C26, C28, H8
    scene = Scene()
    scene.rent_and_release(lock_default=default)
    scene.advance(6)

    result = scene.answer(lock(lock_mode))

    assert result.code is Code.OK
    assert scene.reading.locked
    assert scene.mode is mode


@pytest.mark.parametrize(
    ("request_", "mode"),
    [
        (ModeRequest.PARK, RentalMode.PARKED),
        (ModeRequest.END, RentalMode.AVAILABLE),
        (ModeRequest.RESUME, RentalMode.PARKED),
    ],
)
def test_a_choice_made_in_the_app_counts_for_the_next_lock(
    request_: ModeRequest, mode: RentalMode
) -> None:
    # H8; RESUME takes the choice back, and the default to park counts again.
    scene = Scene()
    scene.rent_and_release(lock_default=LockDefault.PARK)
    scene.answer(set_mode(ModeRequest.END))
    scene.answer(set_mode(request_))

    scene.tap_later()

    assert scene.mode is mode


def test_a_parked_rental_is_ended_without_opening_the_car() -> None:
    scene = Scene()
    scene.be(RentalMode.PARKED)
    scene.advance(60)

    result = scene.answer(lock(LockMode.END))

    assert result.code is Code.OK
    assert scene.mode is RentalMode.AVAILABLE
    ended = scene.one(RentalEnded)
    assert ended.reason is EndReason.COMMAND
    assert ended.authority == result.request_hash
    assert ended.parking_ms == 60_000


@pytest.mark.parametrize("lock_mode", [LockMode.DEFAULT, LockMode.PARK, LockMode.PLAIN])
def test_a_parked_car_is_already_locked(lock_mode: LockMode) -> None:
    scene = Scene()
    scene.be(RentalMode.PARKED)

    result = scene.answer(lock(lock_mode))

    assert (result.code, result.executed) == (Code.ALREADY_IN_STATE, Executed.NO)
    assert len(scene.told(Parked)) == 1


@pytest.mark.parametrize("lock_mode", list(LockMode))
def test_a_reserved_car_is_not_locked_by_command(lock_mode: LockMode) -> None:
    scene = Scene()
    scene.reserve()

    assert scene.answer(lock(lock_mode)).code is Code.WRONG_MODE


@pytest.mark.parametrize("choice", [Choice.PARK, Choice.END])
@pytest.mark.parametrize("refusal", list(BoardRefusal))
def test_a_board_that_refuses_to_lock_leaves_the_driver_with_an_engine(
    refusal: BoardRefusal, choice: Choice
) -> None:
    # I-19: the engine was held for the lock; without the lock it is released again.
    scene = Scene()
    scene.rent_and_release()
    scene.drive()
    scene.choose(choice)
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.mood = BoardMood.OBEYS
    scene.board(engine_released=False)

    scene.refuse(refusal)

    assert scene.mode is RentalMode.STOPPED
    assert scene.reading.engine_released
    assert scene.prompt is {
        BoardRefusal.DOOR_OPEN: PromptKey.CLOSE_DOORS,
        BoardRefusal.MOVING: PromptKey.SWITCH_OFF,
        BoardRefusal.ENGINE_RUNNING: PromptKey.SWITCH_OFF,
    }.get(refusal, PromptKey.TRY_AGAIN)


def test_a_lock_that_is_never_read_back_leaves_the_driver_with_an_engine() -> None:
    # I-19
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.order(lock(LockMode.END))
    scene.mood = BoardMood.OBEYS
    scene.board(engine_released=False)

    scene.advance(3)

    assert scene.told(Result)[-1].code is Code.ACTUATOR_TIMEOUT
    assert scene.reading.engine_released
    assert scene.one(FaultRaised).kind is FaultKind.LOCK_NO_READBACK


def test_a_lock_whose_engine_is_not_held_names_the_engine_and_not_the_bolts() -> None:
    # I-11: an engineer is sent for the part that failed
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.order(lock(LockMode.END))
    scene.board(locked=True)

    scene.advance(3)

    result = scene.told(Result)[-1]
    assert (result.code, result.executed) == (Code.ACTUATOR_TIMEOUT, Executed.MAYBE)
    assert Bits.LOCKED | Bits.ENGINE_RELEASED in result.snapshot.bits
    assert scene.one(FaultRaised).kind is FaultKind.ENGINE_NO_READBACK

    scene.mood = BoardMood.OBEYS
    scene.order(lock(LockMode.END))

    assert scene.mode is RentalMode.AVAILABLE
    assert scene.one(FaultCleared).kind is FaultKind.ENGINE_NO_READBACK


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (BoardRefusal.FAULT, FaultKind.ENGINE_NO_READBACK),
        (BoardRefusal.LOW_VOLTAGE, FaultKind.ENGINE_REFUSED),
    ],
)
def test_a_relay_that_refuses_under_a_lock_names_the_engine(
    reason: BoardRefusal, kind: FaultKind
) -> None:
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.order(lock(LockMode.PARK))

    scene.refuse(reason, of_engine=True)

    assert scene.one(FaultRaised).kind is kind


def test_a_lock_that_fails_before_the_pin_releases_no_engine() -> None:
    # C11
    scene = Scene()
    scene.rent()
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.forget()

    scene.refuse(BoardRefusal.FAULT)

    assert scene.done(AllowEngine) == []


def test_a_lock_cut_short_by_the_engine_keeps_the_engine_released() -> None:
    # I-2: the hold that was ordered with the lock must not outlive it.
    scene = Scene()
    scene.rent_and_release()
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.forget()

    scene.drive_off()

    assert scene.done(AllowEngine) == [AllowEngine(released=True)]


def test_the_choice_stands_after_a_lock_that_failed() -> None:
    scene = Scene()
    scene.rent_and_release(lock_default=LockDefault.END)
    scene.choose(Choice.PARK)
    scene.advance(6)
    scene.mood = BoardMood.DEAF
    scene.tap()
    scene.refuse(BoardRefusal.DOOR_OPEN)
    scene.mood = BoardMood.OBEYS

    scene.tap_later()

    assert scene.mode is RentalMode.PARKED


def test_the_end_is_told_after_the_report_is_in_the_same_decision() -> None:
    # FF-LED-30.
    # H21: the shell commits the entries before it performs the actions.
    scene = Scene()
    scene.rent_and_release()

    scene.tap_later(CARD)

    last = scene.decisions[-1]
    assert any(isinstance(entry, RentalEnded) for entry in last.entries)
    assert scene.prompt is PromptKey.RENTAL_ENDED
    assert last.state.rental_id is None
    assert scene.one(RentalEnded).rental_id == RENTAL
