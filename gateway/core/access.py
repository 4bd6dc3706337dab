"""A card at the windscreen: who may open, and what a tap means.

The attackers considered: a stranger's card, a blocked one, a card of another rental, a
copied UID, and a reader that repeats itself. A tap authorises one narrow thing: to open
or close the car that its rental already has. It enrols nothing and starts no rental
that nobody reserved (I-12, I-14). A UID is no secret, therefore the engine needs the
PIN as well (C11).

A tap means, by mode: reserved - open and start; stopped - lock, to park or to end;
parked - open and go on; refuelling - lock or unlock only; driving - nothing.
"""

from typing import Final

from gateway.core.actuation import begin_actuation, why_not_lock
from gateway.core.ending import missing_prompt, missing_to_end
from gateway.core.prompts import Prompt, PromptKey
from gateway.core.service import is_in_service
from gateway.core.state import Purpose, Rental, State, Tap
from gateway.core.turn import Turn
from protocol.codes import AccessMeans, CardRefusal, Code, LockDefault, RentalMode
from protocol.event import AccessGranted, CardRefused
from protocol.identity import card_digest
from protocol.snapshot import NO_RENTAL

DEBOUNCE_MS: Final = 1_500
"""The same card again within this time is still the same tap, however long it lasts:
readers lose and find a card that is held still; assumed, to be measured with each."""

BOARDING_MS: Final = 5_000
"""After opening, a tap does not lock at once: a customer who taps again because the
doors took a moment must not end the rental by it (domain-facts.md 1.2)."""

REFUSAL_RECORD_MS: Final = 30_000
"""A refused card is written to the ledger at most once in this time, so that nobody
fills the disk with a worthless card (I-20)."""

UID_SIZES: Final = frozenset({4, 7, 10})
"""Bytes of a UID (ISO/IEC 14443-3, 6.5.4)."""

AUTHORITY_SIZE: Final = 32

_LOCK_REFUSALS: Final = {
    Code.BUS_ERROR: (CardRefusal.NOT_READY, PromptKey.NOT_NOW),
    Code.IGNITION_ON: (CardRefusal.ENGINE_RUNNING, PromptKey.NOT_NOW),
    Code.VEHICLE_MOVING: (CardRefusal.ENGINE_RUNNING, PromptKey.NOT_NOW),
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
        _refuse(turn, uid, NO_RENTAL, CardRefusal.NO_RESERVATION, PromptKey.NOT_NOW)
        return
    digest = card_digest(rental_id, uid)
    if digest not in _cards(state):
        _refuse(
            turn, uid, rental_id, CardRefusal.NOT_FOR_THIS_RENTAL, PromptKey.NOT_NOW
        )
        return
    _act_on_own_card(turn, uid, rental_id, digest)


def _repeats(state: State, uid: bytes, now_ms: int) -> bool:
    tap = state.tap
    return tap is not None and tap.uid == uid and now_ms - tap.at_ms < DEBOUNCE_MS


def _cards(state: State) -> tuple[bytes, ...]:
    held = state.reservation if state.rental is None else state.rental.reservation
    return () if held is None else held.cards


def _act_on_own_card(turn: Turn, uid: bytes, rental_id: bytes, digest: bytes) -> None:
    match turn.state.mode:
        case RentalMode.RESERVED if is_in_service(turn.state):
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
            _refuse(turn, uid, rental_id, CardRefusal.ENGINE_RUNNING, PromptKey.NOT_NOW)


def _tap_when_stopped(turn: Turn, uid: bytes, rental_id: bytes, digest: bytes) -> None:
    rental = turn.rental
    if _locked(turn.state):
        # The bolts closed without us, or a lock was cut off by a restart: whoever
        # stands outside wants in, and must not end the rental by it.
        _grant(turn, Purpose.PLAIN_UNLOCK, rental_id, digest)
        return
    boarding = turn.now.boot_ms - rental.opened_ms < BOARDING_MS
    if boarding and not rental.driven:
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
    if purpose is not Purpose.PLAIN_UNLOCK:
        code = why_not_lock(turn.state, purpose, turn.now.boot_ms)
        if code is not None:
            reason, prompt = _LOCK_REFUSALS[code]
            _refuse(turn, uid, rental_id, reason, prompt)
            if purpose is Purpose.END and missing_to_end(turn.state):
                turn.notify(missing_prompt(turn.state))
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
    told = turn.state.refusal_told_ms
    if told is None or turn.now.boot_ms - told >= REFUSAL_RECORD_MS:
        turn.change(refusal_told_ms=turn.now.boot_ms)
        turn.record(CardRefused(rental_id, reason, card_digest(rental_id, uid)))
