"""What the exploration forgets of a state, and why nothing is missed by it.

Each thing is forgotten in one of two ways, and both let *more* happen than can happen.

*Forgotten and chosen anew.* Whatever can be one or the other at any time, or lets the
car refuse more, is taken as the harmless value between two steps; steps of the alphabet
try the other value (`tests.gateway.core.alphabet`, "with"). So are: how old the board's
report is, whether the disk or something small fails, how much it has room for, whether
the fleet can be reached, grants, what locking means, how many wrong PINs there were, a
question at the display, the card that was read last, and the seconds of boarding.

*Forgotten for good.* What no safety rule reads: sums that are billed, ids and versions,
languages, counts that only bound the disk, to whom an actuation is answered (I-10 is
judged by the state machine). Drivers are alike: who has taken the car over
is the customer from then on. All instants are moved to the same distance from now, and
any deadline that runs may be the next.

What is left is compared whole: two states are one only if they are equal.
"""

from dataclasses import replace
from typing import Final

from gateway.core.access import BOARDING_MS
from gateway.core.appearance import PIN_BLOCKS, light_of
from gateway.core.dialogue import screen_of
from gateway.core.facts import Facts
from gateway.core.moment import NEVER, Moment
from gateway.core.prompts import NO_PROMPT
from gateway.core.reading import Position
from gateway.core.room import Room
from gateway.core.state import (
    Handover,
    Inspection,
    Payment,
    PaymentStage,
    Pending,
    PinGuard,
    Refuelling,
    Rental,
    Reservation,
    State,
    Workshop,
)
from protocol.codes import AccessMeans, ClockQuality, FaultKind, LockDefault
from protocol.identity import card_digest
from protocol.rental_codes import PaymentOutcome
from protocol.station_list import Station
from tests.gateway.core.scene import (
    CARD,
    RENTAL,
    RESTING,
    SEALED,
    SECOND_CARD,
    START_BOOT_MS,
    START_WALL_MS,
)

NOW_MS: Final = START_BOOT_MS
"""Every step happens at this instant."""

NOW: Final = Moment(NOW_MS, START_WALL_MS, ClockQuality.NTP, START_WALL_MS)
"""The same on both clocks."""

_PLACE: Final = Position(480_000_000, 110_000_000, 30, None)
STATION: Final = Station(
    7, "Elm Street", _PLACE.latitude_e7, _PLACE.longitude_e7, pays_online=True
)
"""Where the car always is: nearer to online payment than any."""

CARDS: Final = tuple(card_digest(RENTAL, uid) for uid in (CARD, SECOND_CARD))
"""Of whoever has the car."""

PAYMENT: Final = bytes.fromhex("33" * 16)
"""Of every payment."""

OFFER: Final = bytes.fromhex("55" * 16)
"""Of every handover."""

_LATER_MS: Final = 900_000


def plain(state: State) -> State:
    """Return a state without what is forgotten, with a face that fits."""
    rental = state.rental
    bare = replace(
        state,
        version=0,
        reservation=_plain_reservation(state.reservation),
        rental=None if rental is None else _plain_rental(rental),
        grants=(),
        workshop=None if state.workshop is None else Workshop(NOW_MS + _LATER_MS),
        walk_up=(
            None
            if state.walk_up is None
            else replace(state.walk_up, until_ms=NOW_MS + _LATER_MS)
        ),
        pending=_plain_pending(state.pending),
        reading_at_ms=NOW_MS,
        position=_PLACE,
        position_at_ms=NOW_MS,
        facts=Facts(stations=(STATION,)),
        online=True,
        needs=frozenset(),
        suspects=(),
        room=Room.ANOTHER,
        faults=state.faults & {FaultKind.BOARD_SILENT, FaultKind.LEDGER_LOST},
        tap=None,
        refusal_told_ms=None,
        refusing_until_ms=None,
        notice=NO_PROMPT,
        notice_until_ms=None,
        restarted_ms=None,
        last=NEVER,
    )
    light, blinking = light_of(bare)
    return replace(
        bare,
        shown_light=light,
        shown_blinking=blinking,
        shown_prompt=screen_of(bare),
    )


def _plain_reservation(reservation: Reservation | None) -> Reservation | None:
    if reservation is None:
        return None
    return Reservation(
        rental_id=RENTAL,
        until_ms=NOW_MS + _LATER_MS,
        lock_default=LockDefault.END,
        language=b"en",
        cards=CARDS,
        sealed=SEALED,
    )


def _plain_rental(rental: Rental) -> Rental:
    parked = rental.parked_since_ms is not None
    reservation = _plain_reservation(rental.reservation)
    assert reservation is not None
    return Rental(
        reservation=reservation,
        means=AccessMeans.CARD,
        started=NEVER,
        running_since_ms=NOW_MS,
        carried_ms=0,
        parked_since_ms=NOW_MS if parked else None,
        stay_carried_ms=0,
        parking_ms=0,
        start=RESTING,
        lowest_energy_pct=None,
        refuel_gain_pct=0,
        refuelling=_plain_visit(rental.refuelling),
        low_told=False,
        parking_chosen=None,
        driven=False,
        opened_ms=NOW_MS - BOARDING_MS,
        pin=_plain_guard(rental.pin),
        pin_accepted=rental.pin_accepted,
        held=rental.held,
        estimated=False,
        inspection=Inspection.DONE,
        handover=_plain_handover(rental.handover),
        station=STATION.station_id,
        payment=_plain_payment(rental.payment),
    )


def _plain_guard(guard: PinGuard) -> PinGuard:
    """Open, blocked for a while, or for good."""
    if guard.blocks >= PIN_BLOCKS:
        return PinGuard(blocks=PIN_BLOCKS)
    blocked = guard.blocked_until_ms is not None
    return PinGuard(blocked_until_ms=NOW_MS + _LATER_MS if blocked else None)


def _plain_visit(visit: Refuelling | None) -> Refuelling | None:
    if visit is None:
        return None
    return Refuelling(before_pct=None, paid=visit.paid, online=visit.online)


def _plain_payment(payment: Payment | None) -> Payment | None:
    """Asked, the card offered, or settled, whichever way."""
    if payment is None:
        return None
    is_open = payment.stage in {PaymentStage.PENDING, PaymentStage.FALLBACK}
    paid = payment.stage is PaymentStage.PAID
    return Payment(
        PAYMENT,
        payment.stage if is_open or paid else PaymentStage.LEFT,
        NOW_MS + _LATER_MS,
        PaymentOutcome.PAID if paid else None,
    )


def _plain_handover(handover: Handover | None) -> Handover | None:
    if handover is None:
        return None
    asks = handover.asks_pin_until_ms is not None
    return Handover(
        offer_id=OFFER,
        until_ms=NOW_MS + _LATER_MS,
        latitude_e7=0,
        longitude_e7=0,
        cards=handover.cards,
        sealed=SEALED,
        asks_pin_until_ms=NOW_MS + _LATER_MS if asks else None,
        authority=bytes(32) if asks else b"",
    )


def _plain_pending(pending: Pending | None) -> Pending | None:
    if pending is None:
        return None
    return Pending(
        purpose=pending.purpose,
        deadline_ms=NOW_MS + _LATER_MS,
        means=AccessMeans.CARD,
        authority=bytes(32),
        request=None,
    )
