"""A car whose ledger was lost: it says so, changes nothing, and asks the fleet.

Who has the car was written in that ledger. Whether there was a rental, nobody at the
car knows; the fleet does, and its next word settles it.
"""

from collections.abc import Callable

import pytest

from gateway.core.actions import AllowEngine, DriveLocks
from gateway.core.appearance import snapshot_of
from gateway.core.events import (
    LedgerReplaced,
    ReaderLost,
    RoomChanged,
    UpdateBegan,
)
from gateway.core.reading import STALE_MS
from gateway.core.room import Room
from gateway.core.state import State
from protocol.codes import CardRefusal, Code, Condition, FaultKind, RentalMode
from protocol.command import ANY_VERSION
from protocol.event import (
    CardRefused,
    FaultCleared,
    FaultRaised,
    RentalEnded,
    RentalStarted,
    ReservationStarted,
)
from protocol.rental_codes import ResetReason, Rights, ServiceRequest
from protocol.rental_command import Service
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import LedgerReset
from tests.gateway.core.scene import (
    OTHER_RENTAL,
    RENTAL,
    SECOND_CARD,
    STRANGER,
    BoardMood,
    Scene,
    cancel,
    reserve,
)

RESET = LedgerReset(b"ledger-1", 7, b"h" * 32, ResetReason.CORRUPT)
LOST = frozenset({FaultKind.LEDGER_LOST})
NOBODY = Service(NO_RENTAL, ANY_VERSION, ServiceRequest.OFF, 0)


def lose(scene: Scene, **changes: object) -> Scene:
    """Begin anew with nothing known, at a car that the board reads as it stands."""
    scene.state = State()
    scene.forget()
    scene.happen(LedgerReplaced(RESET))
    scene.start()
    scene.board(**changes)
    return scene


def moved(scene: Scene) -> list[object]:
    return [*scene.done(DriveLocks), *scene.done(AllowEngine)]


def is_in_workshop(scene: Scene) -> bool:
    return scene.state.workshop is not None


def give_back(scene: Scene, rental_id: bytes = RENTAL) -> Code:
    return scene.answer(reserve(scene.boot_ms + 900_000, rental_id=rental_id)).code


def test_a_lost_ledger_is_told_first_and_shown_as_a_fault() -> None:
    # FF-LED-09, FF-LED-32, H15, I-16 (S): row 5
    scene = lose(Scene())

    assert [*scene.decisions[0].entries] == [RESET, FaultRaised(FaultKind.LEDGER_LOST)]
    assert scene.mode is RentalMode.AVAILABLE
    assert scene.light == "blinking fault_pattern"
    assert snapshot_of(scene.state).condition is Condition.FAULT


def test_a_new_car_has_lost_nothing() -> None:
    # H15: no fault of a car on the day of its delivery
    scene = Scene()

    assert scene.state.faults == frozenset()
    assert scene.light == "green"


@pytest.mark.parametrize("off_s", [None, 3_600.0], ids=["agent", "machine"])
def test_no_restart_forgets_that_the_ledger_was_lost(off_s: float | None) -> None:
    # FF-LED-33, I-28: a second power cut before the fleet has answered
    scene = lose(Scene())

    for _ in range(2):
        scene.restart(off_s=off_s)
        scene.report()

    assert scene.state.faults == LOST
    assert scene.light == "blinking fault_pattern"
    assert scene.told(FaultCleared) == []
    assert len(scene.told(FaultRaised)) == 1


@pytest.mark.parametrize("off_s", [None, 3_600.0], ids=["agent", "machine"])
def test_bolts_and_engine_stay_as_somebody_may_need_them(off_s: float | None) -> None:
    # FF-LED-36, I-19, I-28: the renter loads the boot, engine off, and comes back
    scene = lose(Scene(), locked=False, engine_released=True)
    scene.restart(off_s=off_s)
    scene.report()

    assert moved(scene) == []
    assert not scene.reading.locked
    assert scene.reading.engine_released


def test_no_card_begins_anything_and_the_fleet_hears_of_it() -> None:
    # FF-LED-34, I-12, I-19: a grant that came since does not open either
    scene = lose(Scene())
    scene.grant(SECOND_CARD, rights=Rights.UNLOCK | Rights.DRIVE)

    for uid in (STRANGER, SECOND_CARD):
        scene.advance(60)
        scene.tap(uid)

    reasons = [each.reason for each in scene.told(CardRefused)]
    assert reasons == [CardRefusal.NO_RESERVATION, CardRefusal.NOT_READY]
    assert moved(scene) == []
    assert scene.state.walk_up is None


def test_no_update_begins_under_the_hands_of_somebody() -> None:
    # I-17
    scene = lose(Scene())

    scene.happen(UpdateBegan())

    assert not scene.state.updating


def test_the_renter_who_is_given_the_car_back_goes_on_by_card_and_pin() -> None:
    # FF-LED-35, I-19: the same rental, as the fleet has it in its books
    scene = Scene()
    scene.rent_and_release()
    lose(scene)

    assert give_back(scene) is Code.OK

    assert scene.one(FaultCleared).kind is FaultKind.LEDGER_LOST
    assert scene.one(ReservationStarted).rental_id == RENTAL
    assert scene.light == "yellow"
    assert moved(scene) == [DriveLocks(locked=True), AllowEngine(released=False)]
    scene.tap()
    assert scene.one(RentalStarted).rental_id == RENTAL
    scene.type_pin()
    assert scene.reading.engine_released
    scene.drive()
    scene.tap_later()
    assert scene.one(RentalEnded).rental_id == RENTAL
    assert scene.light == "green"


def test_who_drives_keeps_the_engine_when_the_car_is_given_back() -> None:
    # I-2, I-19
    scene = Scene()
    scene.rent_and_release()
    driving = {"engine_running": True, "ignition_on": True, "speed_dkmh": 500}
    lose(scene, **driving)

    assert give_back(scene) is Code.OK

    assert moved(scene) == []
    scene.board(engine_running=False, ignition_on=False, speed_dkmh=0)
    scene.tap()
    assert scene.mode is RentalMode.STOPPED


def test_a_dead_reader_does_not_keep_a_rental_from_being_given_back() -> None:
    # I-19: it would not have ended it either; remote opening is left
    scene = lose(Scene())
    scene.happen(ReaderLost())

    assert give_back(scene) is Code.OK

    assert scene.state.faults == {FaultKind.READER_GONE}


def _silence(scene: Scene) -> None:
    scene.lose_board()


def _fill(scene: Scene) -> None:
    scene.happen(RoomChanged(Room.RUNNING))


@pytest.mark.parametrize(
    ("hinder", "code"),
    [(_silence, Code.BUS_ERROR), (_fill, Code.STORAGE_FULL)],
    ids=["silent board", "full disk"],
)
def test_what_could_not_go_on_is_not_given_back_and_the_loss_stays(
    hinder: Callable[[Scene], object], code: Code
) -> None:
    # I-20
    scene = lose(Scene())
    hinder(scene)

    assert give_back(scene) is code

    assert FaultKind.LEDGER_LOST in scene.state.faults
    assert scene.told(FaultCleared) == []


def test_the_fleets_word_that_nobody_has_the_car_closes_it_and_turns_it_green() -> None:
    # FF-LED-35, H15: and the engine is held again (I-28)
    scene = lose(Scene(), locked=False, engine_released=True)

    assert scene.answer(NOBODY).code is Code.OK

    assert scene.one(FaultCleared).kind is FaultKind.LEDGER_LOST
    scene.report()
    assert scene.reading.locked
    assert not scene.reading.engine_released
    assert scene.light == "green"
    assert give_back(scene, OTHER_RENTAL) is Code.OK


@pytest.mark.parametrize(
    ("hindrance", "code"),
    [
        ({"engine_running": True, "ignition_on": True}, Code.IGNITION_ON),
        ({"speed_dkmh": 30}, Code.VEHICLE_MOVING),
        ({"locked": False, "door_open": True}, Code.DOOR_OPEN),
    ],
    ids=["engine", "moving", "door"],
)
def test_a_car_in_somebodys_hands_is_not_declared_free(
    hindrance: dict[str, object], code: Code
) -> None:
    # FF-LED-35, I-1, I-2: whatever the books say
    scene = lose(Scene(), **hindrance)

    assert scene.answer(NOBODY).code is code

    assert scene.state.faults == LOST
    assert moved(scene) == []


def test_a_car_of_which_the_board_told_long_ago_is_not_declared_free() -> None:
    scene = lose(Scene())
    scene.advance((STALE_MS + 1) / 1_000, board_reports=False)

    assert scene.answer(NOBODY).code is Code.BUS_ERROR

    assert scene.state.faults == LOST


def test_a_car_that_is_just_opening_for_a_technician_is_not_declared_free() -> None:
    scene = lose(Scene())
    rights = Rights.UNLOCK | Rights.SERVICE
    scene.grant(SECOND_CARD, rental_id=OTHER_RENTAL, rights=rights)
    scene.mood = BoardMood.DEAF
    scene.tap(SECOND_CARD)

    assert scene.answer(NOBODY).code is Code.BUSY

    assert scene.state.faults == LOST


def test_a_technician_looks_after_it_and_the_fault_stays_until_the_fleet_says() -> None:
    # K18, H15: the technician's card ends service, not the question who has the car
    scene = lose(Scene())
    rights = Rights.UNLOCK | Rights.SERVICE
    scene.grant(SECOND_CARD, rental_id=OTHER_RENTAL, rights=rights)

    scene.tap(SECOND_CARD)
    assert is_in_workshop(scene)
    assert scene.light == "blinking fault_pattern"
    scene.advance(10)
    scene.tap(SECOND_CARD)

    assert not is_in_workshop(scene)
    assert scene.reading.locked
    assert scene.state.faults == LOST


def test_a_reservation_that_is_taken_back_does_not_settle_who_has_the_car() -> None:
    # FF-LED-33: it was the old ledger's, if there was one
    scene = lose(Scene())

    assert scene.answer(cancel()).code is Code.ALREADY_IN_STATE

    assert scene.state.faults == LOST
