"""A disk without room for one more rental: none begins, and what runs ends (I-20)."""

import pytest

from gateway.core.actions import DriveLocks
from gateway.core.appearance import condition_of, is_rentable
from gateway.core.events import PinVerdict, RoomChanged
from gateway.core.prompts import PromptKey
from gateway.core.room import Room
from gateway.core.state import State
from protocol.codes import (
    CardRefusal,
    Code,
    Condition,
    Executed,
    LockMode,
    ModeRequest,
    RentalMode,
)
from protocol.event import CardRefused, RentalEnded, RentalStarted
from protocol.rental_codes import Rights
from protocol.rental_event import HandoverDone
from tests.gateway.core.invariants import without_face
from tests.gateway.core.scene import (
    OTHER_RENTAL,
    PIN,
    RENTAL,
    START_BOOT_MS,
    STRANGER,
    Scene,
    lock,
    reserve,
    set_mode,
    unlock,
)
from tests.gateway.core.two_drivers import BOB, SECOND, agreed

SCARCE = [Room.PROMISED, Room.RUNNING]


def fill(scene: Scene, room: Room) -> None:
    scene.happen(RoomChanged(room))
    scene.forget()


@pytest.mark.parametrize("room", SCARCE)
def test_a_grant_begins_no_rental_that_could_not_be_recorded_and_is_not_spent(
    room: Room,
) -> None:
    # FF-CMD-16.
    # H14, I-20
    scene = Scene()
    scene.grant()
    fill(scene, room)

    scene.tap()

    assert scene.mode is RentalMode.AVAILABLE
    assert scene.one(CardRefused).reason is CardRefusal.NOT_READY
    assert scene.light == "blinking red"
    assert scene.done(DriveLocks) == []

    scene.happen(RoomChanged(Room.ANOTHER))
    scene.tap_later()

    assert scene.one(RentalStarted).rental_id == RENTAL


@pytest.mark.parametrize("room", SCARCE)
def test_a_free_car_that_would_refuse_everybody_is_not_green(room: Room) -> None:
    # H15, I-16, I-20: neither at once nor after the rental that just ended.
    scene = Scene()
    fill(scene, room)

    assert scene.light == "blinking fault_pattern"
    assert condition_of(scene.state) is Condition.DEGRADED
    assert not is_rentable(scene.state)

    scene.happen(RoomChanged(Room.ANOTHER))

    assert scene.light == "green"
    assert condition_of(scene.state) is Condition.OK


@pytest.mark.parametrize("room", SCARCE)
def test_a_rental_that_runs_shows_nothing_of_the_disk_until_it_has_ended(
    room: Room,
) -> None:
    # H15, I-20
    scene = Scene()
    scene.be(RentalMode.STOPPED)
    fill(scene, room)
    assert scene.light == "red"
    assert condition_of(scene.state) is Condition.OK

    scene.order(lock(LockMode.END))

    assert scene.one(RentalEnded).rental_id == RENTAL
    assert scene.light == "blinking fault_pattern"


def test_a_promise_that_would_be_refused_is_told_to_the_fleet() -> None:
    # I-20: it can offer another car; the promise stands.
    scene = Scene()
    scene.reserve()

    fill(scene, Room.PROMISED)
    assert condition_of(scene.state) is Condition.OK

    fill(scene, Room.RUNNING)
    assert condition_of(scene.state) is Condition.DEGRADED
    assert scene.light == "yellow"


@pytest.mark.parametrize("room", SCARCE)
def test_a_strangers_card_is_refused_at_once_since_the_fleet_could_not_help(
    room: Room,
) -> None:
    # H19, I-20
    scene = Scene()
    fill(scene, room)

    scene.tap(STRANGER)

    assert scene.light == "blinking red"
    assert scene.state.walk_up is None
    assert scene.one(CardRefused).reason is CardRefusal.NO_RESERVATION


@pytest.mark.parametrize("room", SCARCE)
def test_no_reservation_is_taken_not_even_for_a_card_that_waits(room: Room) -> None:
    # FF-CMD-16.
    # H19, I-20
    scene = Scene()
    scene.tap()
    fill(scene, room)

    refused = scene.answer(reserve(START_BOOT_MS + 900_000))

    assert (refused.code, refused.executed) == (Code.STORAGE_FULL, Executed.NO)
    assert scene.mode is RentalMode.AVAILABLE
    assert scene.reading.locked


def test_a_reservation_that_the_car_has_is_confirmed_on_a_full_disk() -> None:
    scene = Scene()
    scene.reserve()
    fill(scene, Room.RUNNING)

    repeated = scene.answer(reserve(START_BOOT_MS + 900_000))
    another = scene.answer(reserve(START_BOOT_MS + 900_000, rental_id=OTHER_RENTAL))

    assert repeated.code is Code.ALREADY_IN_STATE
    assert another.code is Code.STORAGE_FULL


@pytest.mark.parametrize("by_app", [False, True])
def test_a_promise_is_kept_while_its_rental_can_be_recorded_whole(
    by_app: bool,
) -> None:
    # H1, I-20
    scene = Scene()
    scene.reserve()
    fill(scene, Room.PROMISED)

    if by_app:
        scene.order(unlock())
    else:
        scene.tap()

    assert scene.one(RentalStarted).rental_id == RENTAL


def test_a_promise_that_could_not_be_recorded_is_not_begun_and_stays() -> None:
    # I-20
    scene = Scene()
    scene.reserve()
    fill(scene, Room.RUNNING)

    refused = scene.answer(unlock())
    scene.tap()

    assert (refused.code, refused.executed) == (Code.STORAGE_FULL, Executed.NO)
    assert scene.one(CardRefused).reason is CardRefusal.NOT_READY
    assert scene.state.reservation is not None
    assert scene.reading.locked

    scene.happen(RoomChanged(Room.PROMISED))
    scene.tap_later()

    assert scene.one(RentalStarted).rental_id == RENTAL


@pytest.mark.parametrize("room", SCARCE)
@pytest.mark.parametrize("by_app", [False, True])
def test_a_full_disk_asks_no_second_driver_for_a_pin(room: Room, by_app: bool) -> None:
    # FF-CMD-16.
    # H11, I-20
    scene = agreed()
    fill(scene, room)

    if by_app:
        assert scene.answer(unlock(SECOND)).code is Code.STORAGE_FULL
    else:
        scene.tap(BOB)
        assert scene.prompt is PromptKey.NOT_NOW
    scene.type_pin()

    assert scene.told(HandoverDone) == []
    assert scene.state.rental_id == RENTAL


@pytest.mark.parametrize("room", SCARCE)
def test_a_disk_that_fills_before_the_second_pin_leaves_the_car_with_the_first(
    room: Room,
) -> None:
    # FF-CMD-16.
    # H11, I-20
    scene = agreed()
    scene.tap(BOB)
    fill(scene, room)

    scene.check(PinVerdict.RIGHT, SECOND)

    assert scene.prompt is PromptKey.NOT_NOW
    assert scene.told(RentalEnded) == []
    assert scene.state.rental_id == RENTAL

    scene.happen(RoomChanged(Room.ANOTHER))
    scene.type_pin(PIN)

    assert scene.one(HandoverDone).new_rental_id == SECOND


@pytest.mark.parametrize("room", SCARCE)
@pytest.mark.parametrize("mode", [mode for mode in RentalMode if mode.in_rental])
def test_every_rental_ends_however_full_the_disk_is(
    mode: RentalMode, room: Room
) -> None:
    # I-19, I-20: as it would with room, step by step.
    full, roomy = Scene(), Scene()
    for scene in (full, roomy):
        scene.be(mode)
        scene.happen(RoomChanged(room if scene is full else Room.ANOTHER))
        scene.forget()
        scene.board(engine_running=False, ignition_on=False, speed_dkmh=0)
        scene.tap_later()
        scene.type_pin()
        if scene.mode is RentalMode.REFUELLING:
            scene.order(set_mode(ModeRequest.REFUEL_DONE))
        scene.tap_later()
        scene.order(lock(LockMode.END))

    said, wanted = (
        [without_face(decision).entries for decision in scene.decisions]
        for scene in (full, roomy)
    )
    assert said == wanted
    assert full.one(RentalEnded).rental_id == RENTAL


@pytest.mark.parametrize("room", SCARCE)
def test_a_technician_opens_a_car_whose_disk_is_full(room: Room) -> None:
    scene = Scene()
    scene.grant(rights=Rights.SERVICE | Rights.UNLOCK)
    fill(scene, room)

    scene.tap()

    assert not scene.reading.locked
    assert scene.told(RentalStarted) == []


def test_what_was_measured_is_not_kept_over_a_start() -> None:
    # The disk may be another one then; the shell measures before it counts.
    scene = Scene()
    scene.happen(RoomChanged(Room.RUNNING))

    assert scene.state.essence() == Scene().state.essence()
    assert scene.state.kept().room is Room.ANOTHER

    scene.start(boot_counter=2, same_boot=True)

    assert scene.state.room is Room.ANOTHER is State().room
