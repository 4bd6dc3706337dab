"""Paying at the pump without the fuel card: the fleet pays, the car waits (C19 to C22).

The driver asks for it at the display and types the number of the pump. The car makes
the payment's id, tells the fleet, and holds the engine until the payment is settled:
the fleet says that it is paid, or the driver confirms to have paid by fuel card. The
card can be chosen at any time, and is offered when the fleet refuses, does not answer
in a minute, or cannot be reached at all. So nobody who can pay is stranded (H2, I-19).

Both the fleet's answer and the driver's word may come twice, late, or after the car has
gone; each payment is decided once, and money back is the fleet's business (H3). While a
payment is open the car's snapshot shows a visit with an engine that is held, and the
car's answer to SNAPSHOT names the payment.
"""

import hashlib
from dataclasses import replace
from typing import Final

from gateway.core.actions import AllowEngine
from gateway.core.actuation import why_not_hold
from gateway.core.dialogue import card_term, is_asked
from gateway.core.events import PumpEntered
from gateway.core.prompts import Form, Prompt, PromptKey
from gateway.core.state import Payment, PaymentStage, Rental
from gateway.core.stations import known_station
from gateway.core.turn import Turn
from protocol.codes import Code, EnergyKind, RentalMode
from protocol.identity import ID_SIZE
from protocol.rental_codes import PaymentOutcome
from protocol.rental_command import PaymentDecision
from protocol.rental_event import PaymentDecided, PaymentRequested
from protocol.station_list import Station

PAYMENT_MS: Final = 60_000
"""An answer is waited for so long (H2)."""

PUMP_LIMIT: Final = 99
"""Numbers of pumps have two digits."""

CHARGER: Final = 0
"""The pump of an electric car: the charger that it is plugged into (H13)."""


_OPEN: Final = frozenset({PaymentStage.PENDING, PaymentStage.FALLBACK})


def payment_id_of(rental_id: bytes, number: int) -> bytes:
    """Return the id of a rental's payment: the same whenever it is made (H3).

    Args:
        rental_id: 16 bytes, of the fleet's making and used once.
        number: which payment of the rental, from 1.
    """
    named = b"ff-payment-v1\0" + rental_id + number.to_bytes(4, "big")
    return hashlib.sha256(named).digest()[:ID_SIZE]


def pay_online(turn: Turn) -> None:
    """Take the wish to pay online: ask for the pump, or say that it cannot be (C19)."""
    visit = turn.visit
    if _station(turn) is None:
        say_of_card(turn, PromptKey.PAYMENT_UNAVAILABLE)
    elif not _is_electric(turn):
        turn.change_rental(refuelling=replace(visit, asks_pump=True))
    elif visit.plugged:
        _request(turn, CHARGER)
    else:
        turn.notify(Prompt(PromptKey.PLUG_IN))


def enter_pump(turn: Turn, event: PumpEntered) -> None:
    """Take the number of the pump, if it is asked for (C19)."""
    if turn.state.pending is not None or not is_asked(turn.state, Form.PUMP):
        return
    if not 1 <= event.pump <= PUMP_LIMIT:
        turn.notify(Prompt(PromptKey.PUMP_MALFORMED, (PUMP_LIMIT,)))
        return
    turn.change_rental(refuelling=replace(turn.visit, asks_pump=False))
    _request(turn, event.pump)


def _request(turn: Turn, pump: int) -> None:
    """Tell the fleet, and hold the engine (C20, C21)."""
    station, rental = _station(turn), turn.rental
    if station is None:
        say_of_card(turn, PromptKey.PAYMENT_UNAVAILABLE)
        return
    number = rental.payments + 1
    payment = Payment(
        payment_id_of(turn.rental_id, number),
        PaymentStage.PENDING,
        turn.now.boot_ms + PAYMENT_MS,
    )
    turn.change_rental(
        payment=payment,
        payments=number,
        refuelling=replace(turn.visit, online=True),
    )
    turn.record(
        PaymentRequested(turn.rental_id, payment.payment_id, station.station_id, pump)
    )
    keep_engine(turn)


def _station(turn: Turn) -> Station | None:
    """Return where can be paid online now, None for nowhere (C22).

    Once in a visit: an unanswered payment may have been made.
    """
    visit = turn.visit
    station = known_station(turn.state, turn.rental.station)
    if station is None or not station.pays_online or not turn.state.online:
        return None
    return None if visit.online or visit.paid else station


def _is_electric(turn: Turn) -> bool:
    reading = turn.state.reading
    return reading is not None and reading.energy_kind is EnergyKind.ELECTRIC


def holds(rental: Rental) -> bool:
    """Return whether an open payment holds the engine (C21, H2)."""
    return rental.payment is not None and rental.payment.stage in _OPEN


def keep_engine(turn: Turn) -> None:
    """Hold the engine while a payment is open, and release it when none is.

    With every report of the board, until it reads back so; it survives lost orders and
    restarts. Never withdrawn from an engine that runs or a car that moves (I-2).
    """
    state, rental = turn.state, turn.state.rental
    stands = state.mode in {RentalMode.REFUELLING, RentalMode.STOPPED}
    if rental is None or rental.payment is None or not stands:
        return
    if state.pending is not None or state.reading is None:
        return
    wanted = rental.pin_accepted and not holds(rental)
    if state.reading.engine_released is wanted:
        return
    if wanted or why_not_hold(state, turn.now.boot_ms) is None:
        turn.act(AllowEngine(released=wanted))


def pending_of(rental: Rental | None) -> Payment | None:
    """Return the payment that the fleet has not answered yet."""
    payment = None if rental is None else rental.payment
    if payment is None or payment.stage is not PaymentStage.PENDING:
        return None
    return payment


def give_up(turn: Turn, payment: Payment) -> None:
    """Offer the fuel card, since nobody has answered (H2)."""
    _move_on(turn, payment, PaymentStage.FALLBACK)
    say_of_card(turn, PromptKey.PAYMENT_UNANSWERED)


def settle(turn: Turn, stage: PaymentStage) -> None:
    """Let a payment hold the engine no longer; one that holds nothing stays.

    Args:
        turn: the turn.
        stage: how it came: by card, waived by the fleet, or the car has gone.
    """
    payment = turn.rental.payment
    if payment is not None and payment.stage in _OPEN:
        _move_on(turn, payment, stage)
        keep_engine(turn)


def decide(turn: Turn, command: PaymentDecision) -> Code:
    """Take the fleet's decision, and return the code of the answer (C21, H3).

    The same decision again changes nothing. A refusal may be followed by a permission,
    since the fleet may try again; a permission stands.
    """
    rental = turn.state.rental
    payment = None if rental is None else rental.payment
    if payment is None or payment.payment_id != command.payment_id:
        return Code.BAD_PARAM
    if payment.decision is command.decision:
        return Code.ALREADY_IN_STATE
    if payment.decision is PaymentOutcome.PAID:
        return Code.WRONG_MODE
    turn.record(PaymentDecided(turn.rental_id, payment.payment_id, command.decision))
    payment = replace(payment, decision=command.decision)
    turn.change_rental(payment=payment)
    if command.decision is PaymentOutcome.PAID:
        settle(turn, PaymentStage.PAID)
    elif payment.stage is PaymentStage.PENDING:
        _move_on(turn, payment, PaymentStage.FALLBACK)
        say_of_card(turn, PromptKey.PAYMENT_REFUSED)
    return Code.OK


def say_of_card(turn: Turn, key: PromptKey) -> None:
    """Show a passing word that names the car's payment card."""
    turn.notify(Prompt(key, terms=(card_term(turn.state),)))


def _move_on(turn: Turn, payment: Payment, stage: PaymentStage) -> None:
    turn.hush()
    turn.change_rental(payment=replace(payment, stage=stage))
