"""Technicians, service and update: the car is nobody's then (I-17, H15, K18)."""

import pytest

from gateway.core.appearance import condition_of
from gateway.core.events import BoardRefusal, UpdateBegan, UpdateEnded
from gateway.core.workshop import CARD_SERVICE_MS
from protocol.codes import CardRefusal, Code, Condition, LockMode, RentalMode
from protocol.command import ANY_VERSION
from protocol.event import AccessGranted, CardRefused, RentalStarted
from protocol.rental_codes import Rights, ServiceModeReason, ServiceRequest
from protocol.rental_command import Service
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import ServiceModeChanged
from tests.gateway.core.scene import (
    CARD,
    OTHER_RENTAL,
    RENTAL,
    SECOND_CARD,
    BoardMood,
    Scene,
    lock,
    release,
)

TECHNICIAN = SECOND_CARD


def with_technician() -> Scene:
    scene = Scene()
    rights = Rights.UNLOCK | Rights.SERVICE
    scene.grant(TECHNICIAN, rental_id=OTHER_RENTAL, rights=rights)
    return scene


def service(scene: Scene, request: ServiceRequest, seconds: float = 60) -> Service:
    until_ms = scene.boot_ms + int(seconds * 1_000)
    return Service(NO_RENTAL, ANY_VERSION, request, until_ms)


def in_service() -> Scene:
    scene = Scene()
    assert scene.answer(service(scene, ServiceRequest.ON)).code is Code.OK
    return scene


def test_a_technicians_card_opens_turns_blue_and_starts_no_rental() -> None:
    # H15, I-17
    scene = with_technician()

    scene.tap(TECHNICIAN)

    assert not scene.reading.locked
    assert scene.light == "blue"
    assert scene.mode is RentalMode.AVAILABLE
    assert condition_of(scene.state) is Condition.SERVICE
    assert scene.told(RentalStarted) == []
    assert scene.one(AccessGranted).rental_id == NO_RENTAL
    assert scene.one(ServiceModeChanged) == ServiceModeChanged(
        on=True, reason=ServiceModeReason.CARD
    )


def test_the_technicians_next_tap_locks_and_ends_service() -> None:
    scene = with_technician()
    scene.tap(TECHNICIAN)

    scene.tap_later(TECHNICIAN)

    assert scene.reading.locked
    assert scene.light == "green"
    assert scene.told(ServiceModeChanged)[-1] == ServiceModeChanged(
        on=False, reason=ServiceModeReason.CARD
    )


def test_the_card_may_be_used_again_and_again() -> None:
    scene = with_technician()
    for _ in range(3):
        scene.tap_later(TECHNICIAN)
        assert scene.light == "blue"
        scene.tap_later(TECHNICIAN)
        assert scene.light == "green"


def test_a_technician_does_not_lock_a_car_whose_boot_is_open() -> None:
    # I-1
    scene = with_technician()
    scene.tap(TECHNICIAN)
    scene.board(boot_open=True)

    scene.tap_later(TECHNICIAN)

    assert scene.one(CardRefused).reason is CardRefusal.DOOR_OPEN
    assert not scene.reading.locked
    scene.advance(3)
    assert scene.light == "blue"


def test_bolts_that_closed_by_themselves_open_again_in_service() -> None:
    scene = with_technician()
    scene.tap(TECHNICIAN)
    scene.board(locked=True)

    scene.tap_later(TECHNICIAN)

    assert not scene.reading.locked
    assert scene.light == "blue"
    assert len(scene.told(ServiceModeChanged)) == 1


def test_a_customer_gets_nothing_from_a_car_in_service() -> None:
    # I-17
    scene = with_technician()
    scene.grant(CARD, grant_id=b"2" * 16)
    scene.tap(TECHNICIAN)
    scene.advance(6)

    scene.tap(CARD)

    assert scene.one(CardRefused).reason is CardRefusal.NOT_READY
    assert scene.reserve().code is Code.WRONG_MODE
    assert scene.mode is RentalMode.AVAILABLE


def test_a_technicians_card_opens_no_rented_car() -> None:
    # I-12, I-17: no service during a rental
    scene = with_technician()
    scene.reserve(cards=(CARD,))
    scene.tap()
    scene.advance(6)

    scene.tap(TECHNICIAN)

    assert scene.one(CardRefused).reason is CardRefusal.NOT_FOR_THIS_RENTAL
    assert scene.state.workshop is None


def test_no_reservation_comes_between_a_technicians_tap_and_the_open_door() -> None:
    scene = with_technician()
    scene.mood = BoardMood.DEAF
    scene.tap(TECHNICIAN)

    assert scene.reserve().code is Code.BUSY


def test_a_board_that_refuses_begins_no_service() -> None:
    scene = with_technician()
    scene.mood = BoardMood.REFUSES
    scene.refusal = BoardRefusal.LOW_VOLTAGE

    scene.tap(TECHNICIAN)

    assert scene.state.workshop is None
    assert scene.light == "blinking red"


def test_a_forgotten_service_ends_after_a_shift_and_the_car_closes() -> None:
    scene = with_technician()
    scene.tap(TECHNICIAN)

    scene.advance(CARD_SERVICE_MS / 1_000 - 1)
    assert scene.light == "blue"
    scene.advance(1)

    assert scene.told(ServiceModeChanged)[-1].reason is ServiceModeReason.EXPIRED
    scene.advance(1)
    assert scene.light == "green"


def test_service_is_ordered_and_ended_by_command() -> None:
    scene = in_service()
    assert scene.light == "blue"
    assert scene.one(ServiceModeChanged).reason is ServiceModeReason.COMMAND

    assert scene.answer(service(scene, ServiceRequest.OFF)).code is Code.OK

    assert scene.light == "green"
    assert not scene.told(ServiceModeChanged)[-1].on


def test_service_that_is_off_is_already_so() -> None:
    scene = Scene()

    result = scene.answer(service(scene, ServiceRequest.OFF))

    assert result.code is Code.ALREADY_IN_STATE
    assert scene.told(ServiceModeChanged) == []


def test_service_by_command_ends_by_itself() -> None:
    scene = in_service()

    scene.advance(60)

    assert scene.light == "green"
    assert scene.told(ServiceModeChanged)[-1].reason is ServiceModeReason.EXPIRED


def test_service_can_be_made_longer_and_is_told_once() -> None:
    scene = in_service()
    scene.order(service(scene, ServiceRequest.ON, 120))

    scene.advance(100)

    assert scene.light == "blue"
    assert len(scene.told(ServiceModeChanged)) == 1


def test_service_whose_end_is_past_is_refused() -> None:
    scene = Scene()

    assert scene.answer(service(scene, ServiceRequest.ON, 0)).code is Code.EXPIRED


@pytest.mark.parametrize(
    "mode", [mode for mode in RentalMode if mode is not RentalMode.AVAILABLE]
)
def test_no_service_and_no_update_while_somebody_has_the_car(mode: RentalMode) -> None:
    # I-17
    scene = Scene()
    scene.be(mode)

    result = scene.answer(service(scene, ServiceRequest.ON))
    scene.happen(UpdateBegan())

    assert result.code is Code.WRONG_MODE
    assert not scene.state.updating
    assert scene.mode is mode


def test_no_update_begins_under_a_technicians_hands() -> None:
    # I-17: by the card as by command
    by_card = with_technician()
    by_card.tap(TECHNICIAN)
    for scene in (by_card, in_service()):
        scene.happen(UpdateBegan())

        assert not scene.state.updating
        assert condition_of(scene.state) is Condition.SERVICE

    by_card.tap_later(TECHNICIAN)
    by_card.happen(UpdateBegan())

    assert condition_of(by_card.state) is Condition.UPDATE


def test_no_service_begins_while_the_program_is_exchanged() -> None:
    # I-17: by the card as by command
    scene = with_technician()
    scene.happen(UpdateBegan())

    scene.tap(TECHNICIAN)
    ordered = scene.answer(service(scene, ServiceRequest.ON))

    assert scene.one(CardRefused).reason is CardRefusal.NOT_READY
    assert ordered.code is Code.BUSY
    assert scene.state.workshop is None
    assert scene.reading.locked


def test_service_waits_until_the_bolts_stand_still() -> None:
    scene = with_technician()
    scene.mood = BoardMood.DEAF
    scene.tap(TECHNICIAN)

    assert scene.answer(service(scene, ServiceRequest.ON)).code is Code.BUSY


def test_the_engine_stays_held_in_service() -> None:
    # K18: who moves the car rents it
    scene = in_service()

    result = scene.answer(release(NO_RENTAL))

    assert not result.code.succeeded
    assert not scene.reading.engine_released


def test_service_survives_restarts_and_power_cuts() -> None:
    # I-28
    scene = in_service()
    scene.restart()
    scene.report()
    assert scene.light == "blue"

    scene.restart(off_s=30)
    scene.report()

    assert scene.light == "blue"
    scene.advance(61)
    assert scene.light == "green"


def test_an_update_is_blue_and_takes_no_reservation() -> None:
    # H15, I-17
    scene = Scene()

    scene.happen(UpdateBegan())

    assert scene.light == "blue"
    assert condition_of(scene.state) is Condition.UPDATE
    assert scene.reserve().code is Code.WRONG_MODE
    scene.happen(UpdateEnded())
    assert scene.light == "green"


def test_a_start_of_the_agent_ends_the_update() -> None:
    scene = Scene()
    scene.happen(UpdateBegan())

    scene.restart()
    scene.report()

    assert scene.light == "green"


def test_a_silent_board_is_the_fault_pattern_in_service_too() -> None:
    # H15: the state is unknown
    scene = in_service()

    scene.lose_board()

    assert scene.light == "blinking fault_pattern"


def test_commands_for_the_rental_find_none_in_service() -> None:
    scene = in_service()

    assert scene.answer(lock(LockMode.END, RENTAL)).code is Code.WRONG_RENTAL
