"""A card at the windscreen: who may open, and what a tap means.

The attackers considered: a stranger's card, a blocked one, a card of another rental, a
copied UID, and a reader that repeats itself. A tap authorises one narrow thing: to open
or close the car that its rental already has, or to begin what the fleet has signed for
this card (I-12, I-14). A UID is no secret, therefore the engine needs the
PIN as well (C11).

A tap means, by mode: reserved - open and start; stopped - lock, to park or to end;
parked - open and go on; refuelling - lock or unlock only; driving - nothing. At a free
car a grant decides, for a customer or for a technician; without one the fleet hears of
the card and has five seconds to reserve the car for it (H19).
"""

from typing import Final

from gateway.core.actuation import CLOSING, begin_actuation, why_not_lock
from gateway.core.appearance import is_rentable
from gateway.core.ending import missing_prompt, missing_to_end
from gateway.core.grants import find_grant
from gateway.core.handover import present_second_card
from gateway.core.prompts import Prompt, PromptKey
from gateway.core.service import is_in_service
from gateway.core.state import Purpose, Rental, Reservation, State, Tap, WalkUp
from gateway.core.table import Trigger
from gateway.core.turn import Turn
from protocol.codes import AccessMeans, CardRefusal, Code, LockDefault, RentalMode
from protocol.event import AccessGranted, CardRefused, ReservationStarted
from protocol.identity import card_digest
from protocol.rental_codes import Rights
from protocol.rental_command import Grant
from protocol.snapshot import NO_RENTAL

DEBOUNCE_MS: Final = 1_500
"""The same card again within this time is still the same tap, however long it lasts:
readers lose and find a card that is held still; assumed, to be measured with each."""

BOARDING_MS: Final = 5_000
"""After opening, a tap does not lock at once: a customer who taps again because the
doors took a moment must not end the rental by it (domain-facts.md 1.2). Who has chosen
at the display to park or to end means the tap."""

REFUSAL_RECORD_MS: Final = 30_000
"""A refused card is written to the ledger at most once in this time, so that nobody
fills the disk with a worthless card (I-20)."""

WALK_UP_MS: Final = 5_000
"""How long the fleet has to speak for a card at a free car (H19)."""

GRANT_OPEN_MS: Final = 60_000
"""How long a car stays reserved for a card with a grant whose doors did not open:
long enough to try again (assumed)."""

UID_SIZES: Final = frozenset({4, 7, 10})
"""Bytes of a UID (ISO/IEC 14443-3, 6.5.4)."""

AUTHORITY_SIZE: Final = 32

_LOCK_REFUSALS: Final = {
    Code.BUS_ERROR: (CardRefusal.NOT_READY, PromptKey.NOT_NOW),
    Code.IGNITION_ON: (CardRefusal.ENGINE_RUNNING, PromptKey.SWITCH_OFF),
    Code.VEHICLE_MOVING: (CardRefusal.ENGINE_RUNNING, PromptKey.SWITCH_OFF),
    Code.DOOR_OPEN: (CardRefusal.DOOR_OPEN, PromptKey.CLOSE_DOORS),
    Code.KEY_OR_CARD_MISSING: (CardRefusal.NOT_READY, PromptKey.NOT_NOW),
    Code.OUT_OF_ZONE: (CardRefusal.NOT_READY, PromptKey.NOT_NOW),
}


def present_card(turn: Turn, uid: bytes) -> None:
    """Decide on one tap."""
    state, now_ms = turn.state, turn.now.boot_ms
    repeated = _repeats(state, uid, now_ms)
    turn.change(tap=Tap(uid, now_ms))
    if repeated or state.pending is not None:
        return
    rental_id = state.rental_id
    if len(uid) not in UID_SIZES:
        shortened = uid[: max(UID_SIZES)]
        _refuse(
            turn,
            shortened,
            NO_RENTAL if rental_id is None else rental_id,
            CardRefusal.UNSUPPORTED_CARD,
            PromptKey.NOT_NOW,
        )
        return
    if rental_id is None:
        _tap_when_free(turn, uid)
        return
    if present_second_card(turn, uid):
        return
    digest = card_digest(rental_id, uid)
    if digest not in _cards(state):
        _refuse(
            turn, uid, rental_id, CardRefusal.NOT_FOR_THIS_RENTAL, PromptKey.OTHER_CARD
        )
        return
    _act_on_own_card(turn, uid, rental_id, digest)


def _tap_when_free(turn: Turn, uid: bytes) -> None:
    """Let a grant decide at a car that nobody has, else ask the fleet (H14, H19)."""
    state = turn.state
    service = find_grant(state, uid, Rights.SERVICE | Rights.UNLOCK, turn.now)
    grant = find_grant(state, uid, Rights.DRIVE | Rights.UNLOCK, turn.now)
    if service is not None and not (is_in_service(state) or state.updating):
        _tap_of_technician(turn, uid, service)
    elif not is_rentable(state):
        known = service is not None or grant is not None
        reason = CardRefusal.NOT_READY if known else CardRefusal.NO_RESERVATION
        _refuse(turn, uid, NO_RENTAL, reason, PromptKey.NOT_NOW)
    elif grant is not None:
        _start_by_grant(turn, grant)
    elif _may_record(state, turn.now.boot_ms):
        # The entry is how the fleet hears of the card; its RESERVE is the answer.
        _record_refusal(turn, uid, NO_RENTAL, CardRefusal.NO_RESERVATION)
        until_ms = turn.now.boot_ms + WALK_UP_MS
        turn.change(walk_up=WalkUp(uid, until_ms))
    else:
        _refuse(turn, uid, NO_RENTAL, CardRefusal.NO_RESERVATION, PromptKey.NOT_NOW)


def _tap_of_technician(turn: Turn, uid: bytes, grant: Grant) -> None:
    purpose = Purpose.SERVICE_OPEN
    if turn.state.workshop is not None and not _locked(turn.state):
        purpose = Purpose.SERVICE_CLOSE
    _lock_or_unlock(turn, uid, NO_RENTAL, grant.card, purpose)


def _start_by_grant(turn: Turn, grant: Grant) -> None:
    """Reserve for the card that is here, and open."""
    until_ms = turn.now.boot_ms + GRANT_OPEN_MS
    turn.transit(Trigger.GRANT_PRESENTED)
    turn.change(
        walk_up=None,
        reservation=Reservation(
            rental_id=grant.rental_id,
            until_ms=until_ms,
            lock_default=grant.lock_default,
            language=grant.language,
            cards=(grant.card,),
            sealed=grant.sealed,
        ),
    )
    turn.record(ReservationStarted(grant.rental_id, until_ms, grant.grant_id))
    _grant(turn, Purpose.START, grant.rental_id, grant.card)


def open_for_walk_up(turn: Turn) -> None:
    """Open for the card that waits, if the reservation that just came is for it."""
    walk_up, reservation = turn.state.walk_up, turn.state.reservation
    turn.change(walk_up=None)
    if walk_up is None or reservation is None:
        return
    digest = card_digest(reservation.rental_id, walk_up.uid)
    if digest in reservation.cards:
        _grant(turn, Purpose.START, reservation.rental_id, digest)


def give_up_walk_up(turn: Turn) -> None:
    """Refuse the card that waits: the fleet has not spoken for it (H19)."""
    turn.change(walk_up=None)
    turn.blink_refusal()


def _repeats(state: State, uid: bytes, now_ms: int) -> bool:
    tap = state.tap
    return tap is not None and tap.uid == uid and now_ms - tap.at_ms < DEBOUNCE_MS


def _cards(state: State) -> tuple[bytes, ...]:
    held = state.reservation if state.rental is None else state.rental.reservation
    return () if held is None else held.cards


def _act_on_own_card(turn: Turn, uid: bytes, rental_id: bytes, digest: bytes) -> None:
    match turn.state.mode:
        case RentalMode.RESERVED if not _may_start(turn.state):
            _refuse(turn, uid, rental_id, CardRefusal.NOT_READY, PromptKey.NOT_NOW)
        case RentalMode.RESERVED:
            _grant(turn, Purpose.START, rental_id, digest)
        case RentalMode.PARKED:
            _grant(turn, Purpose.RESUME, rental_id, digest)
        case RentalMode.REFUELLING:
            purpose = (
                Purpose.PLAIN_UNLOCK if _locked(turn.state) else Purpose.PLAIN_LOCK
            )
            _lock_or_unlock(turn, uid, rental_id, digest, purpose)
        case RentalMode.STOPPED:
            _tap_when_stopped(turn, uid, rental_id, digest)
        case _:
            reason = CardRefusal.ENGINE_RUNNING
            _refuse(turn, uid, rental_id, reason, PromptKey.SWITCH_OFF)


def _may_start(state: State) -> bool:
    """Return whether a rental that was promised can be recorded to its end (I-20)."""
    return state.room.keeps_promise and not is_in_service(state)


def _tap_when_stopped(turn: Turn, uid: bytes, rental_id: bytes, digest: bytes) -> None:
    rental = turn.rental
    if _locked(turn.state):
        # The bolts closed without us, or a lock was cut off by a restart: whoever
        # stands outside wants in, and must not end the rental by it.
        _grant(turn, Purpose.PLAIN_UNLOCK, rental_id, digest)
        return
    boarding = turn.now.boot_ms - rental.opened_ms < BOARDING_MS
    if boarding and not rental.driven and rental.parking_chosen is None:
        return
    _lock_or_unlock(turn, uid, rental_id, digest, lock_purpose(rental))


def lock_purpose(rental: Rental) -> Purpose:
    """Return what locking means: the driver's choice, else the default (C26, H8)."""
    chosen = rental.parking_chosen
    if chosen is None:
        chosen = rental.reservation.lock_default is LockDefault.PARK
    return Purpose.PARK if chosen else Purpose.END


def _locked(state: State) -> bool:
    return state.reading is not None and state.reading.locked


def _lock_or_unlock(
    turn: Turn, uid: bytes, rental_id: bytes, digest: bytes, purpose: Purpose
) -> None:
    if purpose in CLOSING:
        now_ms = turn.now.boot_ms
        code = why_not_lock(turn.state, purpose, now_ms)
        if code is not None:
            reason, prompt = _LOCK_REFUSALS[code]
            _refuse(turn, uid, rental_id, reason, prompt)
            if purpose is Purpose.END and missing_to_end(turn.state, now_ms):
                turn.notify(missing_prompt(turn.state, now_ms))
            return
    _grant(turn, purpose, rental_id, digest)


def _grant(turn: Turn, purpose: Purpose, rental_id: bytes, digest: bytes) -> None:
    turn.hush()
    turn.change(refusing_until_ms=None)
    turn.record(AccessGranted(rental_id, AccessMeans.CARD, digest))
    begin_actuation(
        turn,
        purpose,
        means=AccessMeans.CARD,
        authority=digest.ljust(AUTHORITY_SIZE, b"\0"),
        request=None,
    )


def _refuse(
    turn: Turn, uid: bytes, rental_id: bytes, reason: CardRefusal, prompt: PromptKey
) -> None:
    turn.blink_refusal()
    if turn.state.rental is not None:
        turn.notify(Prompt(prompt))
    if _may_record(turn.state, turn.now.boot_ms):
        _record_refusal(turn, uid, rental_id, reason)


def _may_record(state: State, now_ms: int) -> bool:
    told = state.refusal_told_ms
    return told is None or now_ms - told >= REFUSAL_RECORD_MS


def _record_refusal(
    turn: Turn, uid: bytes, rental_id: bytes, reason: CardRefusal
) -> None:
    turn.change(refusal_told_ms=turn.now.boot_ms)
    turn.record(CardRefused(rental_id, reason, card_digest(rental_id, uid)))
