"""Paying online at the pump, and the fuel card when it does not work (C19 to C22).

Also H2, H3 and H13.
"""

from dataclasses import replace

import pytest

from gateway.core.actions import AllowEngine
from gateway.core.appearance import snapshot_of
from gateway.core.events import (
    ConfigurationTold,
    PositionFixed,
    PumpEntered,
    UplinkConnected,
    UplinkLost,
)
from gateway.core.payment import PUMP_LIMIT, payment_id_of
from gateway.core.prompts import Choice, Prompt, PromptKey, term_of
from gateway.core.reading import Position
from gateway.core.state import PaymentStage
from gateway.core.vehicle import next_deadline
from protocol.board.message import Plug
from protocol.codes import (
    Bits,
    Code,
    ConfigKind,
    EnergyKind,
    ModeRequest,
    PaidBy,
    RentalMode,
)
from protocol.command import ANY_VERSION
from protocol.event import FuelPaidByCard, RefuelEnded
from protocol.rental_codes import PaymentOutcome
from protocol.rental_command import PaymentDecision
from protocol.rental_event import PaymentDecided, PaymentRequested
from protocol.station_list import Station, build_station_list
from tests.gateway.core.scene import (
    RENTAL,
    SEALED,
    BoardMood,
    Scene,
    hold,
    release,
    set_mode,
)

PLACE = Position(480_000_000, 110_000_000, 30, None)
STATION = Station(
    7, "Elm Street", PLACE.latitude_e7, PLACE.longitude_e7, pays_online=True
)
CHARGER = Station(
    8,
    "Dock",
    PLACE.latitude_e7,
    PLACE.longitude_e7,
    EnergyKind.ELECTRIC,
    pays_online=True,
)
FIRST = payment_id_of(RENTAL, 1)
FUEL_CARD = term_of(EnergyKind.FUEL)


def at_pump(*, station: Station = STATION, kind: EnergyKind = EnergyKind.FUEL) -> Scene:
    """Stop at a station with an open session, and refuel."""
    scene = Scene()
    scene.happen(UplinkConnected())
    scene.board(energy_kind=kind, energy_pct=20)
    body = build_station_list((station,))
    scene.happen(ConfigurationTold(ConfigKind.STATIONS, body))
    scene.rent_and_release()
    scene.drive_off()
    scene.happen(PositionFixed(PLACE))
    scene.board(engine_running=False, ignition_on=False, speed_dkmh=0)
    scene.choose(Choice.REFUEL)
    assert scene.mode is RentalMode.REFUELLING
    return scene


def waiting() -> Scene:
    """Ask the fleet to pay at pump 4."""
    scene = at_pump()
    scene.board(energy_pct=90)
    scene.choose(Choice.PAY_ONLINE)
    scene.happen(PumpEntered(4))
    return scene


def decision(
    outcome: PaymentOutcome = PaymentOutcome.PAID, payment_id: bytes = FIRST
) -> PaymentDecision:
    return PaymentDecision(RENTAL, ANY_VERSION, payment_id, outcome, b"EUR", 6_420)


def test_the_driver_pays_at_the_pump_and_drives_off() -> None:
    # F8, C19, C20, C21: every step in its order
    scene = at_pump()
    scene.board(energy_pct=90)

    scene.choose(Choice.PAY_ONLINE)
    asked = scene.prompt
    scene.happen(PumpEntered(4))
    assert scene.one(PaymentRequested) == PaymentRequested(RENTAL, FIRST, 7, 4)
    held = not scene.reading.engine_released
    paying = scene.prompt
    answer = scene.answer(decision())

    shown = (asked, paying, scene.prompt)
    assert shown == (
        PromptKey.PUMP_NUMBER,
        PromptKey.PAYMENT_PENDING,
        PromptKey.PAYMENT_DONE,
    )
    assert (held, answer.code) == (True, Code.OK)
    assert scene.one(PaymentDecided) == PaymentDecided(
        RENTAL, FIRST, PaymentOutcome.PAID
    )
    assert scene.reading.engine_released
    scene.choose(Choice.REFUEL_DONE)
    ended = scene.one(RefuelEnded)
    assert (ended.paid_by, ended.refuelled) == (PaidBy.ONLINE, True)
    scene.drive_off()
    assert scene.mode is RentalMode.DRIVING


def test_each_payment_has_an_id_of_its_own_and_always_the_same() -> None:
    # H3: made by the car; nothing is drawn, so a replay makes the same.
    ids = {payment_id_of(RENTAL, number) for number in range(1, 100)}

    assert len(ids) == 99
    assert all(len(each) == 16 for each in ids)
    assert payment_id_of(bytes(16), 1) != FIRST


def test_a_permission_that_comes_twice_is_one() -> None:
    # H3: idempotent on the payment's id
    scene = waiting()
    scene.answer(decision())
    scene.forget()

    again = scene.answer(decision())

    assert again.code is Code.ALREADY_IN_STATE
    assert scene.told(PaymentDecided) == []
    assert scene.done(AllowEngine) == []


def test_a_permission_is_not_taken_back() -> None:
    # C21, H3
    scene = waiting()
    scene.answer(decision())

    refused = scene.answer(decision(PaymentOutcome.REFUSED))

    assert refused.code is Code.WRONG_MODE
    assert scene.reading.engine_released


def test_a_decision_about_a_payment_that_nobody_asked_for_is_refused() -> None:
    # H3
    scene = at_pump()
    none_asked = scene.answer(decision())
    scene.choose(Choice.PAY_ONLINE)
    scene.happen(PumpEntered(4))

    other = scene.answer(decision(payment_id=bytes(16)))

    assert (none_asked.code, other.code) == (Code.BAD_PARAM, Code.BAD_PARAM)
    assert not scene.reading.engine_released


def test_a_decision_before_the_rental_has_begun_is_refused() -> None:
    scene = Scene()
    scene.reserve()

    assert scene.answer(decision()).code is Code.BAD_PARAM


def test_a_payment_that_is_refused_brings_the_fuel_card() -> None:
    # C22, H2
    scene = waiting()

    answer = scene.answer(decision(PaymentOutcome.REFUSED))
    said = scene.prompt
    scene.advance(6)

    assert answer.code is Code.OK
    assert said == PromptKey.PAYMENT_REFUSED
    assert scene.state.shown_prompt == Prompt(
        PromptKey.PAY_BY_CARD, sealed=SEALED, rental_id=RENTAL, terms=(FUEL_CARD,)
    )
    held = not scene.reading.engine_released
    scene.choose(Choice.PAID_BY_CARD)
    assert held
    assert scene.one(FuelPaidByCard) == FuelPaidByCard(RENTAL)
    assert scene.reading.engine_released
    scene.choose(Choice.REFUEL_DONE)
    assert scene.one(RefuelEnded).paid_by is PaidBy.FUEL_CARD


def test_a_payment_that_nobody_answers_in_a_minute_brings_the_fuel_card() -> None:
    # C22, H2: 60 s
    scene = waiting()

    scene.advance(59.9)
    before = scene.prompt
    scene.advance(0.2)
    said = scene.prompt
    scene.advance(6)

    assert (before, said, scene.prompt) == (
        PromptKey.PAYMENT_PENDING,
        PromptKey.PAYMENT_UNANSWERED,
        PromptKey.PAY_BY_CARD,
    )
    scene.choose(Choice.PAID_BY_CARD)
    assert scene.reading.engine_released


def test_a_permission_that_comes_late_still_counts() -> None:
    # H3: after a reconnect the fleet signs a fresh one.
    scene = waiting()
    scene.answer(decision(PaymentOutcome.REFUSED))
    scene.advance(100)

    answer = scene.answer(decision())

    assert answer.code is Code.OK
    assert scene.reading.engine_released
    assert scene.prompt is PromptKey.PAYMENT_DONE


def test_while_the_fleet_is_asked_the_fuel_card_can_be_used_too() -> None:
    # H2: its PIN is on the display, which the words of the prompt have a place for.
    scene = waiting()

    shown = scene.state.shown_prompt

    assert shown.key is PromptKey.PAYMENT_PENDING
    assert (shown.sealed, shown.rental_id) == (SEALED, RENTAL)


def test_a_connection_that_breaks_while_the_fleet_is_asked_brings_the_fuel_card() -> (
    None
):
    # C22, H2: at once, not after a minute; and it is only the screen that changes.
    scene = waiting()

    scene.happen(UplinkLost())
    alone = scene.state.shown_prompt
    held = scene.reading.engine_released
    scene.happen(UplinkConnected())

    assert (alone.key, alone.sealed) == (PromptKey.PAY_BY_CARD, SEALED)
    assert held is False
    assert scene.prompt is PromptKey.PAYMENT_PENDING
    assert scene.answer(decision()).code is Code.OK
    assert scene.reading.engine_released


def test_without_a_connection_the_card_settles_what_the_fleet_was_asked() -> None:
    # C22, H2: nobody who can pay is stranded (I-19)
    scene = waiting()
    scene.happen(UplinkLost())

    scene.choose(Choice.PAID_BY_CARD)

    assert scene.reading.engine_released
    assert scene.one(FuelPaidByCard).rental_id == RENTAL


def test_the_fuel_card_can_be_chosen_while_the_fleet_is_asked() -> None:
    # H2: and the permission that comes after it is told, and moves nothing.
    scene = waiting()

    scene.choose(Choice.PAID_BY_CARD)
    released = scene.reading.engine_released
    scene.forget()
    answer = scene.answer(decision())

    assert released
    assert answer.code is Code.OK
    assert scene.one(PaymentDecided).decision is PaymentOutcome.PAID
    assert scene.done(AllowEngine) == []
    assert scene.rental.payment is not None
    assert scene.rental.payment.stage is PaymentStage.CARD


def test_a_refusal_after_the_fuel_card_disturbs_nobody() -> None:
    # H2
    scene = waiting()
    scene.choose(Choice.PAID_BY_CARD)
    scene.advance(6)

    scene.answer(decision(PaymentOutcome.REFUSED))

    assert scene.prompt is PromptKey.FUEL_CARD_PIN
    assert scene.reading.engine_released


def test_without_a_connection_the_fuel_card_is_used_at_once() -> None:
    # C22, H2
    scene = at_pump()
    scene.happen(UplinkLost())

    scene.choose(Choice.PAY_ONLINE)

    assert scene.prompt is PromptKey.PAYMENT_UNAVAILABLE
    assert scene.told(PaymentRequested) == []
    assert scene.reading.engine_released


def test_a_connection_that_breaks_while_the_pump_is_typed_is_noticed() -> None:
    # C22
    scene = at_pump()
    scene.choose(Choice.PAY_ONLINE)
    scene.happen(UplinkLost())

    scene.happen(PumpEntered(4))
    said = scene.prompt
    scene.advance(6)

    assert (said, scene.prompt) == (
        PromptKey.PAYMENT_UNAVAILABLE,
        PromptKey.FUEL_CARD_PIN,
    )
    assert scene.told(PaymentRequested) == []


@pytest.mark.parametrize("pays", [True, False])
def test_online_payment_is_offered_where_the_fleet_can_pay(pays: bool) -> None:
    # C19: elsewhere the fuel card
    station = Station(7, "Elm", PLACE.latitude_e7, PLACE.longitude_e7, pays_online=pays)
    scene = at_pump(station=station)

    scene.choose(Choice.PAY_ONLINE)

    expected = PromptKey.PUMP_NUMBER if pays else PromptKey.PAYMENT_UNAVAILABLE
    assert scene.prompt is expected


def test_away_from_any_station_nothing_is_paid_online() -> None:
    # C19
    scene = Scene()
    scene.happen(UplinkConnected())
    scene.be(RentalMode.REFUELLING)

    scene.choose(Choice.PAY_ONLINE)

    assert scene.prompt is PromptKey.PAYMENT_UNAVAILABLE


def test_what_was_paid_by_card_is_not_paid_online_too() -> None:
    # H2
    scene = at_pump()
    scene.choose(Choice.PAID_BY_CARD)

    scene.choose(Choice.PAY_ONLINE)

    assert scene.prompt is PromptKey.PAYMENT_UNAVAILABLE


@pytest.mark.parametrize("pump", [0, -1, PUMP_LIMIT + 1, 10**9])
def test_what_is_no_number_of_a_pump_is_asked_again(pump: int) -> None:
    # C19
    scene = at_pump()
    scene.choose(Choice.PAY_ONLINE)

    scene.happen(PumpEntered(pump))
    said = scene.prompt
    scene.advance(6)

    assert (said, scene.prompt) == (PromptKey.PUMP_MALFORMED, PromptKey.PUMP_NUMBER)
    assert scene.told(PaymentRequested) == []


def test_a_pump_that_nobody_asked_for_is_nothing() -> None:
    scene = at_pump()

    scene.happen(PumpEntered(4))

    assert scene.told(PaymentRequested) == []


def test_the_driver_may_go_back_from_the_pumps_number() -> None:
    # C19
    scene = at_pump()
    scene.choose(Choice.PAY_ONLINE)

    scene.choose(Choice.BACK)

    assert scene.prompt is PromptKey.FUEL_CARD_PIN


def test_the_snapshot_shows_a_pending_payment() -> None:
    # H3: a visit with the engine held is one; the ledger has its id.
    scene = at_pump()
    before = snapshot_of(scene.state)
    scene.choose(Choice.PAY_ONLINE)

    scene.happen(PumpEntered(4))

    after = snapshot_of(scene.state)
    assert before.mode is after.mode is RentalMode.REFUELLING
    assert Bits.ENGINE_RELEASED in before.bits
    assert Bits.ENGINE_RELEASED not in after.bits


def test_a_restart_keeps_the_payment_and_holds_the_engine_again() -> None:
    # H3, I-28
    scene = waiting()
    scene.advance(20)
    scene.reading = replace(scene.reading, engine_released=True)

    scene.restart(off_s=30)
    scene.report()

    assert scene.reading.engine_released is False
    alone = scene.prompt
    scene.happen(UplinkConnected())
    assert (alone, scene.prompt) == (PromptKey.PAY_BY_CARD, PromptKey.PAYMENT_PENDING)
    assert next_deadline(scene.state) == scene.boot_ms + 60_000
    assert scene.answer(decision()).code is Code.OK
    assert scene.reading.engine_released


def test_a_board_that_lost_the_order_is_ordered_again() -> None:
    # C21, H2: neither a car that drives off unpaid nor one that is stranded.
    scene = at_pump()
    scene.choose(Choice.PAY_ONLINE)
    scene.mood = BoardMood.DEAF
    scene.happen(PumpEntered(4))
    scene.mood = BoardMood.OBEYS
    scene.report()
    held = not scene.reading.engine_released
    scene.mood = BoardMood.DEAF
    scene.order(decision())
    scene.mood = BoardMood.OBEYS

    scene.report()

    assert held
    assert scene.reading.engine_released


def test_a_board_that_is_away_holds_the_engine_when_it_is_back() -> None:
    # C21, I-2: not known to stand still, not held.
    scene = at_pump()
    scene.choose(Choice.PAY_ONLINE)
    scene.lose_board()
    scene.happen(PumpEntered(4))
    assert scene.done(AllowEngine)[-1] == AllowEngine(released=True)

    scene.report()

    assert not scene.reading.engine_released


def test_a_car_that_may_be_moving_is_held_when_it_stands() -> None:
    # I-2: an unknown speed counts as moving.
    scene = at_pump()
    scene.choose(Choice.PAY_ONLINE)
    scene.board(speed_dkmh=None)
    scene.happen(PumpEntered(4))
    before = scene.reading.engine_released

    scene.board(speed_dkmh=0)

    assert before
    assert not scene.reading.engine_released


def test_a_car_that_got_away_is_not_held_while_it_drives() -> None:
    # I-2: the key was turned before the order came.
    scene = at_pump()
    scene.choose(Choice.PAY_ONLINE)
    scene.mood = BoardMood.DEAF
    scene.happen(PumpEntered(4))
    scene.mood = BoardMood.OBEYS
    scene.forget()

    scene.drive_off()
    answer = scene.answer(decision())

    assert scene.mode is RentalMode.DRIVING
    assert scene.one(RefuelEnded).paid_by is PaidBy.UNKNOWN
    assert answer.code is Code.OK
    assert scene.done(AllowEngine) == []


def test_an_app_cannot_end_the_visit_while_a_payment_is_open() -> None:
    # C21
    scene = waiting()

    result = scene.answer(set_mode(ModeRequest.REFUEL_DONE))

    assert result.code is Code.WRONG_MODE
    assert scene.mode is RentalMode.REFUELLING


def test_the_fleet_can_release_the_engine_without_a_payment() -> None:
    # H2: support on the telephone
    scene = waiting()

    scene.order(release())
    scene.report()

    assert scene.reading.engine_released
    assert scene.prompt is PromptKey.FUEL_CARD_PIN
    scene.advance(100)
    assert scene.reading.engine_released


def test_an_engine_that_the_fleet_holds_stays_held_when_it_is_paid() -> None:
    # C21
    scene = at_pump()
    scene.order(hold())
    scene.choose(Choice.PAY_ONLINE)
    scene.happen(PumpEntered(4))

    scene.order(decision())
    scene.report()

    assert not scene.reading.engine_released


def test_an_actuation_under_way_is_not_disturbed() -> None:
    # I-10: one order to the engine at a time
    scene = waiting()
    scene.mood = BoardMood.DEAF
    scene.order(release())
    scene.forget()

    scene.happen(PumpEntered(4))
    scene.report()

    assert scene.done(AllowEngine) == []


def test_an_electric_car_pays_for_the_charger_that_it_is_plugged_into() -> None:
    # H13: plug state instead of a pump
    scene = at_pump(station=CHARGER, kind=EnergyKind.ELECTRIC)
    scene.choose(Choice.PAY_ONLINE)
    before = scene.prompt

    scene.board(plug=Plug.IN)
    scene.board(energy_pct=80)
    scene.board(plug=Plug.OUT)
    scene.choose(Choice.PAY_ONLINE)

    assert before is PromptKey.PLUG_IN
    assert scene.one(PaymentRequested) == PaymentRequested(RENTAL, FIRST, 8, 0)
    scene.order(decision())
    scene.choose(Choice.REFUEL_DONE)
    assert scene.one(RefuelEnded).refuelled


def test_charging_earns_by_the_same_rule_as_refuelling() -> None:
    # H5, H13
    scene = at_pump(station=CHARGER, kind=EnergyKind.ELECTRIC)

    scene.board(plug=Plug.IN, energy_pct=29)
    scene.choose(Choice.REFUEL_DONE)

    assert not scene.one(RefuelEnded).refuelled


def test_a_second_visit_may_pay_again_and_has_another_id() -> None:
    # H3
    scene = waiting()
    scene.order(decision())
    scene.choose(Choice.PAY_ONLINE)
    scene.choose(Choice.REFUEL_DONE)
    scene.choose(Choice.REFUEL)
    scene.choose(Choice.PAY_ONLINE)

    scene.happen(PumpEntered(9))

    first, second = scene.told(PaymentRequested)
    assert (first.payment_id, second.payment_id) == (FIRST, payment_id_of(RENTAL, 2))
    assert scene.answer(decision(payment_id=FIRST)).code is Code.BAD_PARAM


def test_a_start_of_the_agent_does_not_know_of_a_connection() -> None:
    # C22
    scene = at_pump()

    scene.start(same_boot=True)
    scene.report()
    scene.choose(Choice.PAY_ONLINE)

    assert scene.prompt is PromptKey.PAYMENT_UNAVAILABLE
