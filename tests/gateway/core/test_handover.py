"""Handing the car to the next driver without parking (C31 to C33, F14 to F16, H11)."""

from dataclasses import replace

import pytest

from gateway.core.events import DiskFailed, PinVerdict
from gateway.core.handover import OFFERS_LIMIT, accept, offer_id_of
from gateway.core.prompts import Choice, PromptKey
from gateway.core.screens import SCREENS
from gateway.core.turn import Turn
from protocol.codes import (
    AccessMeans,
    Code,
    EndReason,
    Executed,
    LockMode,
    ModeRequest,
    RentalMode,
)
from protocol.event import (
    AccessGranted,
    CardRefused,
    PinAccepted,
    PinBlocked,
    RentalEnded,
    RentalStarted,
)
from protocol.identity import card_digest
from protocol.rental_event import (
    HandoverAccepted,
    HandoverDone,
    HandoverOffered,
    InspectionDone,
)
from protocol.snapshot import NO_RENTAL
from tests.gateway.core.scene import (
    PIN,
    RENTAL,
    STRANGER,
    WRONG_PIN,
    BoardMood,
    Scene,
    hold,
    lock,
    set_mode,
    unlock,
)
from tests.gateway.core.two_drivers import (
    BOB,
    REQUEST,
    SECOND,
    agreed,
    offer_of,
    request_of,
)


def test_a_planned_handover_is_told_by_the_fleet_and_shown() -> None:
    # C31, F14
    scene = Scene()
    scene.rent_and_release()

    result = scene.answer(offer_of(scene))

    assert result.code is Code.OK
    assert scene.prompt is PromptKey.HANDOVER_AGREED
    assert scene.one(HandoverOffered) == HandoverOffered(RENTAL, SECOND)


def test_a_repeated_word_of_the_fleet_is_told_once() -> None:
    scene = Scene()
    scene.rent_and_release()

    scene.answer(offer_of(scene))
    scene.answer(offer_of(scene, seconds=1_000))

    assert len(scene.told(HandoverOffered)) == 1


@pytest.mark.parametrize("is_driving", [False, True])
def test_the_driver_offers_the_car_at_the_display(*, is_driving: bool) -> None:
    # C32, F15: on arrival, also while still looking for a place to park
    scene = Scene()
    scene.rent_and_release()
    if is_driving:
        scene.drive_off()
    else:
        scene.drive()

    scene.choose(Choice.OFFER_HANDOVER)

    assert scene.prompt is PromptKey.HANDOVER_OFFERED
    assert scene.one(HandoverOffered) == HandoverOffered(RENTAL, offer_id_of(RENTAL, 1))


def test_the_fleets_answer_to_the_drivers_offer_is_no_second_offer() -> None:
    # C32
    scene = Scene()
    scene.rent_and_release()
    scene.drive()
    scene.choose(Choice.OFFER_HANDOVER)

    scene.answer(offer_of(scene, offer_id=offer_id_of(RENTAL, 1)))

    assert len(scene.told(HandoverOffered)) == 1


def test_a_driver_makes_so_many_offers_and_no_more() -> None:
    # I-20
    scene = Scene()
    scene.rent_and_release()
    scene.drive()
    for _ in range(OFFERS_LIMIT + 1):
        scene.choose(Choice.OFFER_HANDOVER)

    assert len(scene.told(HandoverOffered)) == OFFERS_LIMIT
    assert scene.prompt is PromptKey.NOT_NOW


def test_nobody_offers_a_car_that_is_promised_or_free() -> None:
    scene = agreed()
    scene.forget()
    scene.choose(Choice.OFFER_HANDOVER)
    free = Scene()

    free.choose(Choice.OFFER_HANDOVER)

    assert scene.told(HandoverOffered) == []
    assert free.told(HandoverOffered) == []


def test_nobody_offers_a_car_whose_engine_the_fleet_holds() -> None:
    # H11: it would be handed over to nobody; also at a screen that has the whole menu.
    scene = Scene()
    scene.rent_and_release()
    scene.order(hold())
    held = SCREENS[scene.prompt].offers
    scene.choose(Choice.END)

    scene.choose(Choice.OFFER_HANDOVER)

    assert Choice.OFFER_HANDOVER not in held
    assert scene.prompt is PromptKey.NOT_NOW
    assert scene.told(HandoverOffered) == []


def test_who_searches_near_is_shown_to_the_driver() -> None:
    # C33, F16
    scene = Scene()
    scene.rent_and_release()
    scene.drive_off()

    result = scene.answer(request_of(scene))

    assert result.code is Code.OK
    shown = scene.state.shown_prompt
    assert (shown.key, shown.words, shown.numbers) == (
        PromptKey.HANDOVER_REQUEST,
        ("Bob",),
        (350,),
    )


def test_the_driver_accepts_who_searches() -> None:
    # C33
    scene = Scene()
    scene.rent_and_release()
    scene.answer(request_of(scene))

    scene.choose(Choice.ACCEPT_HANDOVER)

    assert scene.one(HandoverAccepted) == HandoverAccepted(RENTAL, REQUEST)
    assert scene.prompt is PromptKey.HANDOVER_ACCEPTED


@pytest.mark.parametrize("declines", [True, False])
def test_a_request_is_over_when_it_is_declined_or_nobody_answers(
    *, declines: bool
) -> None:
    # C33
    scene = Scene()
    scene.rent_and_release()
    scene.answer(request_of(scene))

    if declines:
        scene.choose(Choice.DECLINE_HANDOVER)
    else:
        scene.advance(60)

    assert scene.prompt is PromptKey.MAY_START
    assert scene.told(HandoverAccepted) == []


def test_a_parked_car_asks_nobody() -> None:
    scene = Scene()
    scene.be(RentalMode.PARKED)

    scene.answer(request_of(scene))

    assert scene.prompt is PromptKey.NONE


def test_card_and_pin_end_one_rental_and_begin_the_next_at_one_instant() -> None:
    """H11: the second driver has the car from the instant of the right PIN."""
    scene = agreed()
    scene.forget()

    scene.tap(BOB)
    asked, still = scene.prompt, scene.state.rental_id
    scene.type_pin()

    assert (asked, still) == (PromptKey.HANDOVER_PIN, RENTAL)
    ended, started = scene.one(RentalEnded), scene.one(RentalStarted)
    assert (ended.rental_id, started.rental_id) == (RENTAL, SECOND)
    assert ended.reason is EndReason.HANDOVER
    assert ended.authority[:16] == card_digest(SECOND, BOB)
    assert (ended.end_odometer_m, ended.end_energy_pct) == (
        started.odometer_m,
        started.energy_pct,
    )
    assert scene.one(HandoverDone) == HandoverDone(RENTAL, SECOND)
    assert scene.one(AccessGranted).rental_id == SECOND
    assert scene.one(PinAccepted) == PinAccepted(SECOND)
    assert scene.rental.started == scene.now
    assert scene.reading.engine_released


def test_the_light_stays_red_through_a_handover() -> None:
    # H11
    scene = agreed()

    scene.tap(BOB)
    scene.type_pin()

    assert (scene.light, scene.mode) == ("red", RentalMode.STOPPED)


def test_the_next_driver_is_shown_the_damage_and_drives_on_an_own_bill() -> None:
    # H11, C9
    scene = agreed()
    scene.tap(BOB)
    scene.type_pin()
    shown = scene.prompt
    scene.forget()

    scene.look_around()
    scene.drive(seconds=600, metres=4_000)
    scene.tap_later(BOB)

    ended = scene.one(RentalEnded)
    assert shown is PromptKey.NO_KNOWN_DAMAGE
    assert (ended.rental_id, ended.distance_m) == (SECOND, 4_000)
    assert 600_000 <= ended.total_ms < 620_000


def test_a_next_driver_who_drives_off_at_once_is_asked_what_next_afterwards() -> None:
    # H11, C16: the questions of boarding do not stand in the way of the menu.
    scene = agreed()
    scene.tap(BOB)
    scene.type_pin()
    scene.forget()

    scene.drive()

    assert scene.prompt is PromptKey.CHOOSE_NEXT
    assert scene.one(InspectionDone).rental_id == SECOND


def test_the_first_drivers_card_is_a_strangers_afterwards() -> None:
    # I-12
    scene = agreed()
    scene.tap(BOB)
    scene.type_pin()
    scene.forget()

    scene.tap_later()

    assert scene.one(CardRefused).rental_id == SECOND
    assert scene.mode is RentalMode.STOPPED


def test_the_second_drivers_app_stands_for_the_card() -> None:
    # H11
    scene = agreed()
    scene.forget()

    result = scene.answer(unlock(SECOND))
    scene.type_pin()

    assert (result.code, result.executed) == (Code.OK, Executed.YES)
    assert scene.one(RentalStarted).means is AccessMeans.COMMAND
    assert scene.state.rental_id == SECOND


def test_an_app_that_nobody_told_of_opens_nothing() -> None:
    # I-12, I-7
    scene = Scene()
    scene.rent_and_release()

    assert scene.answer(unlock(SECOND)).code is Code.WRONG_RENTAL


@pytest.mark.parametrize(
    "state",
    [
        {"engine_running": True, "ignition_on": True, "speed_dkmh": 0},
        {"engine_running": True, "ignition_on": True, "speed_dkmh": 300},
        {"speed_dkmh": 5},
    ],
)
def test_a_car_that_does_not_stand_still_is_not_handed_over(
    state: dict[str, object],
) -> None:
    # H11: stationary, engine off
    scene = agreed()
    scene.board(**state)

    scene.tap(BOB)
    by_app = scene.answer(unlock(SECOND))

    assert scene.light == "blinking red"
    assert scene.prompt is PromptKey.SWITCH_OFF
    assert by_app.code in {Code.VEHICLE_MOVING, Code.WRONG_MODE}
    assert scene.state.rental_id == RENTAL


def test_bolts_that_move_are_waited_for() -> None:
    scene = agreed()
    scene.mood = BoardMood.DEAF
    scene.order(lock(LockMode.PLAIN))

    assert scene.answer(unlock(SECOND)).code is Code.BUSY


def test_a_car_that_the_fleet_holds_is_not_handed_over() -> None:
    scene = agreed()
    scene.answer(hold())

    assert scene.answer(unlock(SECOND)).code is Code.WRONG_MODE


def test_a_car_that_rolls_when_the_pin_is_right_stays_the_firsts() -> None:
    # H11
    scene = agreed()
    scene.tap(BOB)
    scene.board(speed_dkmh=5)

    scene.type_pin()

    assert scene.prompt is PromptKey.NOT_NOW
    assert scene.state.rental_id == RENTAL


def test_a_stranger_takes_over_nothing() -> None:
    # I-12
    scene = agreed()

    scene.tap(STRANGER)
    scene.type_pin()

    assert scene.state.rental_id == RENTAL


def test_three_wrong_pins_end_the_handover_and_not_the_rental() -> None:
    # H6, H11
    scene = agreed()
    scene.tap(BOB)

    prompts = []
    for _ in range(3):
        scene.type_pin(WRONG_PIN)
        prompts.append(scene.prompt)

    assert prompts == [
        PromptKey.PIN_WRONG,
        PromptKey.PIN_WRONG,
        PromptKey.HANDOVER_OVER,
    ]
    assert scene.rental.handover is None
    assert scene.state.rental_id == RENTAL
    assert scene.rental.pin_accepted


def test_three_wrong_pins_of_a_second_driver_are_reported() -> None:
    # H6: under the id of the rental that would have begun
    scene = agreed()
    scene.tap(BOB)
    for _ in range(2):
        scene.type_pin(WRONG_PIN)
    before = scene.told(PinBlocked)

    scene.type_pin(WRONG_PIN)

    assert before == []
    assert scene.one(PinBlocked) == PinBlocked(SECOND, 1)


def test_an_offer_told_anew_keeps_the_question_and_forgives_no_wrong_pin() -> None:
    # H6, H11: the fleet may repeat its word at any time, also while a PIN is typed.
    scene = agreed()
    scene.tap(BOB)
    scene.type_pin(WRONG_PIN)

    scene.answer(offer_of(scene, seconds=1_000))
    scene.advance(6)

    assert scene.prompt is PromptKey.HANDOVER_PIN
    assert scene.state.shown_prompt.numbers == (2,)
    scene.type_pin()
    assert scene.state.rental_id == SECOND


def test_other_cards_of_an_offer_ask_for_a_card_again() -> None:
    # H11: the card that asked may be one that was taken away.
    scene = agreed()
    scene.tap(BOB)
    scene.type_pin(WRONG_PIN)
    others = (card_digest(SECOND, STRANGER),)

    scene.answer(replace(offer_of(scene), cards=others))
    scene.advance(6)

    assert scene.prompt is PromptKey.CHOOSE_NEXT
    assert scene.rental.handover is not None
    assert scene.rental.handover.wrong == 1


def test_what_cannot_be_a_pin_costs_nothing() -> None:
    scene = agreed()
    scene.tap(BOB)

    scene.type_pin("letters")

    assert scene.prompt is PromptKey.PIN_MALFORMED
    assert scene.rental.handover is not None


def test_secrets_that_do_not_open_end_the_handover() -> None:
    scene = agreed()
    scene.tap(BOB)
    scene.vault_answers = False
    scene.type_pin()

    scene.check(PinVerdict.UNREADABLE, SECOND)

    assert scene.prompt is PromptKey.HANDOVER_OVER


def test_a_verdict_on_the_first_drivers_pin_hands_nothing_over() -> None:
    # H11
    scene = agreed()
    scene.tap(BOB)

    scene.check(PinVerdict.RIGHT, RENTAL)

    assert scene.state.rental_id == RENTAL
    assert scene.prompt is PromptKey.HANDOVER_PIN


def test_the_first_driver_sends_the_second_away() -> None:
    # H11: until then the first driver has the car
    scene = agreed()
    scene.tap(BOB)

    scene.choose(Choice.DECLINE_HANDOVER)

    assert scene.rental.handover is None
    assert scene.prompt is PromptKey.CHOOSE_NEXT


def test_a_pin_that_is_not_typed_leaves_the_offer_standing() -> None:
    scene = agreed()
    scene.tap(BOB)

    scene.advance(120)
    again = scene.prompt
    scene.tap(BOB)

    assert again is PromptKey.CHOOSE_NEXT
    assert scene.prompt is PromptKey.HANDOVER_PIN


def test_an_offer_ends_by_the_cars_own_clock() -> None:
    scene = agreed()
    scene.tap(BOB)
    scene.advance(100)
    scene.tap_later(BOB)

    scene.advance(900)

    assert scene.rental.handover is None


def test_driving_off_hides_the_second_drivers_pin() -> None:
    scene = agreed()
    scene.tap(BOB)

    scene.drive_off()
    scene.type_pin()

    assert scene.prompt is PromptKey.HANDOVER_AHEAD
    assert scene.state.rental_id == RENTAL


@pytest.mark.parametrize(
    ("offer_id", "seconds", "code"),
    [
        (NO_RENTAL, 60, Code.BAD_PARAM),
        (RENTAL, 60, Code.BAD_PARAM),
        (SECOND, 0, Code.EXPIRED),
    ],
)
def test_an_offer_that_makes_no_sense_is_refused(
    offer_id: bytes, seconds: float, code: Code
) -> None:
    scene = Scene()
    scene.rent_and_release()

    result = scene.answer(offer_of(scene, seconds=seconds, offer_id=offer_id))

    assert result.code is code


def test_a_request_that_is_over_is_refused() -> None:
    scene = Scene()
    scene.rent_and_release()

    assert scene.answer(request_of(scene, seconds=0)).code is Code.EXPIRED


def test_a_car_that_is_only_reserved_is_handed_to_nobody() -> None:
    scene = Scene()
    scene.reserve()

    assert scene.answer(offer_of(scene)).code is Code.WRONG_MODE
    assert scene.answer(request_of(scene)).code is Code.WRONG_MODE


def test_a_power_cut_forgets_the_offer_and_keeps_the_rental() -> None:
    # I-28: its end was an instant of the old boot
    scene = agreed()
    scene.answer(request_of(scene))

    scene.restart(off_s=30)
    scene.report()

    assert scene.state.rental_id == RENTAL
    assert scene.rental.handover is None
    assert scene.rental.search is None


def test_a_restart_of_the_agent_keeps_the_offer() -> None:
    # I-28
    scene = agreed()

    scene.restart()
    scene.report()
    scene.tap(BOB)
    scene.type_pin(PIN)

    assert scene.state.rental_id == SECOND


def test_a_visit_to_a_station_hands_nothing_over() -> None:
    # H11
    scene = agreed()
    scene.answer(set_mode(ModeRequest.REFUEL))

    assert scene.answer(unlock(SECOND)).code is Code.WRONG_MODE


def test_a_request_that_ends_leaves_the_offer_standing() -> None:
    scene = agreed()
    scene.answer(request_of(scene, seconds=5))

    scene.advance(5)

    assert scene.rental.search is None
    assert scene.rental.handover is not None


def test_nobody_is_accepted_where_nobody_asked() -> None:
    """The screen that offers it stands only for somebody who asks."""
    scene = agreed()

    with pytest.raises(LookupError):
        accept(Turn(scene.state, scene.now))


def test_while_the_disk_takes_nothing_no_rental_begins_by_handover() -> None:
    # L13, H21
    scene = agreed()
    scene.happen(DiskFailed())

    scene.tap(BOB)

    assert scene.prompt is PromptKey.NOT_NOW
    assert scene.state.rental_id == RENTAL
