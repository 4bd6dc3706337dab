"""Who has a right to what: judges the steps of explorations and of simulations."""

from typing import Final

from gateway.core.actions import AllowEngine, DriveLocks
from gateway.core.events import (
    CardPresented,
    CommandReceived,
    Event,
    PinChecked,
    PinVerdict,
)
from gateway.core.moment import Moment
from gateway.core.state import PaymentStage, State
from gateway.core.table import TABLE
from gateway.core.turn import Decision
from protocol.codes import RentalMode
from protocol.command import EngineRelease, Lock, Reserve, Unlock
from protocol.identity import card_digest
from protocol.rental_codes import Rights
from protocol.rental_event import HandoverDone
from tests.gateway.core.invariants import require_lawful


def require_all(
    before: State, event: Event, decision: Decision, *, now: Moment
) -> None:
    """Fail if one step broke an invariant, or did what nobody had a right to."""
    require_lawful(before, event, decision, now=now)
    _require_authority(before, event, decision, now)
    _require_paid(decision)
    _require_handed_over(before, event, decision)
    _require_table(before.mode, decision.state.mode)


def _require_paid(decision: Decision) -> None:
    """C21: an open payment holds the engine, whatever else happens."""
    rental = decision.state.rental
    released = AllowEngine(released=True) in decision.actions
    if released and rental is not None and rental.payment is not None:
        is_open = rental.payment.stage in {PaymentStage.PENDING, PaymentStage.FALLBACK}
        assert not is_open, "C21: engine released before it was paid"


def _require_handed_over(before: State, event: Event, decision: Decision) -> None:
    """H11: card or app, then the right PIN, with the engine off; never otherwise."""
    if not any(isinstance(entry, HandoverDone) for entry in decision.entries):
        return
    handover = None if before.rental is None else before.rental.handover
    reading = before.reading
    assert handover is not None, "H11: handed over to nobody"
    assert handover.asks_pin_until_ms is not None, "H11: without card or app"
    assert event == PinChecked(handover.offer_id, PinVerdict.RIGHT), "H11: no PIN"
    assert reading is not None, "H11: handed over blindly"
    assert not reading.engine_running, "H11: engine on"
    assert not reading.moving, "H11: it rolls"


def _require_authority(
    before: State, event: Event, decision: Decision, now: Moment
) -> None:
    """I-12, C11: nothing opens and nothing starts without a right to it."""
    for action in decision.actions:
        if action == DriveLocks(locked=False):
            assert _may_open(before, event, now), "I-12: opened without a right to it"
        elif action == DriveLocks(locked=True):
            free = decision.state.rental is None
            by_right = _holds_card(before, event) or _orders(event, Lock, before)
            assert free or by_right, "I-12: closed without a right to it"
        elif action == AllowEngine(released=True):
            assert _may_start(before, event), "C11: engine released without a right"


def _may_open(before: State, event: Event, now: Moment) -> bool:
    if _holds_card(before, event) or _orders(event, Unlock, before):
        return True
    if isinstance(event, CardPresented):
        # Grants are judged by trusted time.
        trusted_ms = -1 if now.trusted_ms is None else now.trusted_ms
        return before.rental_id is None and any(
            grant.card == card_digest(grant.rental_id, event.uid)
            and grant.not_before_wall_ms <= trusted_ms < grant.not_after_wall_ms
            and Rights.UNLOCK in grant.rights
            for grant in before.grants
        )
    waiting = before.walk_up
    return (
        waiting is not None
        and isinstance(event, CommandReceived)
        and isinstance(event.command, Reserve)
        and card_digest(event.command.rental_id, waiting.uid) in event.command.cards
    )


def _may_start(before: State, event: Event) -> bool:
    rental = before.rental
    proved = isinstance(event, PinChecked) and event.verdict is PinVerdict.RIGHT
    had = rental is not None and rental.pin_accepted
    return proved or had or _orders(event, EngineRelease, before)


def _holds_card(before: State, event: Event) -> bool:
    held = before.reservation if before.rental is None else before.rental.reservation
    return (
        isinstance(event, CardPresented)
        and held is not None
        and card_digest(held.rental_id, event.uid) in held.cards
    )


def _orders(event: Event, kind: type[object], before: State) -> bool:
    return (
        isinstance(event, CommandReceived)
        and isinstance(event.command, kind)
        and event.command.rental_id == before.rental_id
    )


def _within_two(before: RentalMode) -> frozenset[RentalMode]:
    once = {before, *TABLE[before].values()}
    return frozenset(once.union(*(TABLE[mode].values() for mode in once)))


_WITHIN_TWO: Final = {mode: _within_two(mode) for mode in RentalMode}


def _require_table(before: RentalMode, after: RentalMode) -> None:
    """I-17: the mode goes along the table; a deadline and an event may be two rows."""
    assert after in _WITHIN_TWO[before], (
        f"I-17: {before.name} to {after.name} is not in the table"
    )
