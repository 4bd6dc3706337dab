"""Grants: what a card may do with no network at all (H14, I-12, I-18).

A grant comes as a signed command and stands in the state: up to 16, each for one card,
one rental and a span of time. Its span is judged by trusted time; without trusted time
no grant counts, since whoever can set a clock could open cars. A grant starts one
rental and is then spent. A card that the fleet blocks has its grants withdrawn: a card
without a grant opens nothing, whatever it is. A withdrawal that names the reservation
or rental of now takes the card away from that too, since a card may be stolen while its
rental runs; the customer's app opens as before.
"""

from dataclasses import replace
from typing import Final

from gateway.core.moment import Moment
from gateway.core.state import Reservation, State
from gateway.core.turn import Turn
from protocol.codes import Code
from protocol.identity import card_digest
from protocol.rental_codes import GrantAction, Rights
from protocol.rental_command import Grant
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import GrantChanged

GRANTS_LIMIT: Final = 16
"""Stored at once (H14)."""

SPAN_LIMIT_MS: Final = 30 * 24 * 3_600 * 1_000
"""Longest span of a grant: 30 days bound what a car without a network believes (I-18);
assumed to be longer than any booking in advance."""


def find_grant(state: State, uid: bytes, rights: Rights, now: Moment) -> Grant | None:
    """Return the grant that lets this card do this now, if any.

    Args:
        state: holds the grants.
        uid: the card.
        rights: all of them must be in the grant.
        now: its trusted time decides.
    """
    if now.trusted_ms is None:
        return None
    for grant in state.grants:
        in_span = grant.not_before_wall_ms <= now.trusted_ms < grant.not_after_wall_ms
        if in_span and rights in grant.rights and _is_for(grant, uid):
            return grant
    return None


def _is_for(grant: Grant, uid: bytes) -> bool:
    return card_digest(grant.rental_id, uid) == grant.card


def why_not_change(state: State, command: Grant, now: Moment) -> Code | None:
    """Return why a grant is not added or withdrawn; None if it is.

    `Code.ALREADY_IN_STATE` says that it is so already.
    """
    held = next((g for g in state.grants if g.grant_id == command.grant_id), None)
    if command.action is GrantAction.WITHDRAW:
        is_so = held is None and _opened_by(state, command) is None
        return Code.ALREADY_IN_STATE if is_so else None
    span_ms = command.not_after_wall_ms - command.not_before_wall_ms
    is_over = now.trusted_ms is not None and now.trusted_ms >= command.not_after_wall_ms
    is_full = len(_counting(state, now)) >= GRANTS_LIMIT and held is None
    reasons = (
        (command == held, Code.ALREADY_IN_STATE),
        (command.rental_id == NO_RENTAL, Code.BAD_PARAM),
        (not 0 < span_ms <= SPAN_LIMIT_MS, Code.BAD_PARAM),
        (is_over, Code.EXPIRED),
        (is_full, Code.QUEUE_FULL),
    )
    return next((code for hinders, code in reasons if hinders), None)


def change_grants(turn: Turn, command: Grant) -> None:
    """Add or withdraw a grant, and tell it; what is over makes room."""
    kept = tuple(
        grant
        for grant in _counting(turn.state, turn.now)
        if grant.grant_id != command.grant_id
    )
    added = (command,) if command.action is GrantAction.ADD else ()
    turn.change(grants=kept + added)
    if command.action is GrantAction.WITHDRAW:
        _block(turn, command)
    turn.record(GrantChanged(command.grant_id, command.action))


def _block(turn: Turn, command: Grant) -> None:
    """Take the card away from the reservation or rental of now, if it opens that."""
    held = _opened_by(turn.state, command)
    if held is None:
        return
    cards = tuple(card for card in held.cards if card != command.card)
    if turn.state.rental is None:
        turn.change(reservation=replace(held, cards=cards))
    else:
        turn.change_rental(reservation=replace(held, cards=cards))


def _opened_by(state: State, command: Grant) -> Reservation | None:
    """Return the reservation of now if it is the grant's, and its card opens it."""
    held = state.reservation if state.rental is None else state.rental.reservation
    if held is None or held.rental_id != command.rental_id:
        return None
    return held if command.card in held.cards else None


def spend_grants(turn: Turn, rental_id: bytes) -> None:
    """Forget the grants of a rental that has begun: no rental begins twice."""
    kept = tuple(g for g in turn.state.grants if g.rental_id != rental_id)
    turn.change(grants=kept)


def _counting(state: State, now: Moment) -> tuple[Grant, ...]:
    """Return the grants without those that are over for sure."""
    if now.trusted_ms is None:
        return state.grants
    trusted_ms = now.trusted_ms
    return tuple(g for g in state.grants if trusted_ms < g.not_after_wall_ms)
