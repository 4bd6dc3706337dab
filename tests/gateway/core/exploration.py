"""Every reachable state of the abstracted core, breadth first.

It decides I-1, I-2, I-12, I-16 and I-17 as far as an alphabet of events goes. The
production `handle` is called for every event of an alphabet in every state that can
be reached, and each step is judged by the invariants. Two states count as one if they
differ only in what no invariant speaks of: durations that are billed, ids and versions,
words on the display, and how long something still lasts, of which the order of the
deadlines is kept. That is the abstraction; all else is the core itself. Breadth first
means that the first violation comes with one of the shortest ways to it.

    python -m tests.gateway.core.exploration [--deep]
"""

import sys
import time
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.core.access import BOARDING_MS, DEBOUNCE_MS
from gateway.core.actions import AllowEngine, DriveLocks
from gateway.core.appearance import light_of
from gateway.core.dialogue import screen_of
from gateway.core.events import (
    AgentStarted,
    BoardReported,
    CardPresented,
    CommandReceived,
    Event,
    PinChecked,
    PinVerdict,
)
from gateway.core.moment import NEVER, Moment
from gateway.core.prompts import NO_PROMPT
from gateway.core.reading import STALE_MS
from gateway.core.state import PaymentStage, Rental, State
from gateway.core.table import TABLE
from gateway.core.turn import Decision
from gateway.core.vehicle import handle
from protocol.codes import ClockQuality, RentalMode
from protocol.command import EngineRelease, Lock, Reserve, Unlock
from protocol.identity import card_digest
from protocol.rental_codes import Rights
from tests.gateway.core.alphabet import DEEP, SHORT, Step
from tests.gateway.core.invariants import require_lawful
from tests.gateway.core.scene import RESTING, START_BOOT_MS, START_WALL_MS


@dataclass(frozen=True)
class Violation:
    """A broken invariant and a shortest way to it."""

    complaint: str
    way: tuple[str, ...]
    """Names of the steps, from a resting car on."""


@dataclass(frozen=True)
class Findings:
    """What an exploration has seen."""

    states: int
    transitions: int
    modes: frozenset[RentalMode]
    """Which modes were reached."""
    violation: Violation | None
    is_complete: bool
    """Whether nothing was left to visit."""

    def __str__(self) -> str:
        seen = f"{self.states} states and {self.transitions} transitions"
        if self.violation is not None:
            way = "\n  ".join(self.violation.way)
            return f"violated after {seen}: {self.violation.complaint}\n  {way}"
        whole = "all of them" if self.is_complete else "not all of them"
        return f"visited {seen}, {whole}; no invariant is violated"


def explore(alphabet: Sequence[Step], *, limit: int = 10_000_000) -> Findings:
    """Visit every reachable state, or as many as the limit allows."""
    begin = _rested()
    begin_ms = START_BOOT_MS
    came_from: dict[Hashable, tuple[Hashable, str] | None] = {}
    first = _key(begin, begin_ms)
    came_from[first] = None
    waiting = deque([(begin, begin_ms, first)])
    transitions = 0
    modes = {begin.mode}
    while waiting and len(came_from) < limit:
        state, now_ms, key = waiting.popleft()
        for step in alphabet:
            transitions += 1
            event, at_ms = step.take(state, now_ms)
            now = _moment(at_ms)
            try:
                decision = handle(state, event, now=now)
                _require_all(state, event, decision, now)
            except (AssertionError, LookupError) as error:
                way = (*_way(came_from, key), step.name)
                violation = Violation(str(error).partition("\n")[0], way)
                return _findings(came_from, transitions, modes, violation, whole=False)
            after = _plain(decision.state, at_ms)
            found = _key(after, at_ms)
            if found not in came_from:
                came_from[found] = (key, step.name)
                modes.add(after.mode)
                waiting.append((after, at_ms, found))
    return _findings(came_from, transitions, modes, None, whole=not waiting)


def _findings(
    came_from: dict[Hashable, tuple[Hashable, str] | None],
    transitions: int,
    modes: set[RentalMode],
    violation: Violation | None,
    *,
    whole: bool,
) -> Findings:
    return Findings(len(came_from), transitions, frozenset(modes), violation, whole)


def _rested() -> State:
    """Return a car that has started and waits for a customer."""
    now = _moment(START_BOOT_MS)
    started = handle(State(), AgentStarted(1, bytes(4), same_boot=False), now=now)
    return _plain(
        handle(started.state, BoardReported(RESTING), now=now).state, START_BOOT_MS
    )


def _moment(boot_ms: int) -> Moment:
    return Moment(boot_ms, START_WALL_MS, ClockQuality.NTP, START_WALL_MS)


def _way(
    came_from: dict[Hashable, tuple[Hashable, str] | None], key: Hashable
) -> tuple[str, ...]:
    names: list[str] = []
    while (before := came_from[key]) is not None:
        key, name = before
        names.append(name)
    return tuple(reversed(names))


# --- the abstraction --------------------------------------------------------------


def _plain(state: State, now_ms: int) -> State:
    """Take away what no invariant speaks of, and let the face fit again."""
    rental = state.rental
    light, blinking = light_of(state)
    return replace(
        state,
        version=0,
        last=NEVER,
        notice=NO_PROMPT,
        notice_until_ms=None,
        refusal_told_ms=None,
        rental=None if rental is None else _plain_rental(rental, now_ms),
        shown_light=light,
        shown_blinking=blinking,
        shown_prompt=screen_of(state),
    )


def _plain_rental(rental: Rental, now_ms: int) -> Rental:
    parked = rental.parked_since_ms is not None
    return replace(
        rental,
        started=NEVER,
        running_since_ms=now_ms,
        carried_ms=0,
        parked_since_ms=now_ms if parked else None,
        stay_carried_ms=0,
        parking_ms=0,
        start=RESTING,
        lowest_energy_pct=None,
        refuel_gain_pct=0,
        reports=0,
        estimated=False,
        payments=0,
    )


def _key(state: State, now_ms: int) -> Hashable:
    """Return what tells two states apart."""
    rental, pending, tap = state.rental, state.pending, state.tap
    return (
        state.mode,
        state.reading,
        now_ms - state.reading_at_ms <= STALE_MS,
        state.faults,
        state.grants,
        state.workshop is not None,
        state.updating,
        None if state.walk_up is None else state.walk_up.uid,
        state.refusing_until_ms is not None,
        None if tap is None or now_ms - tap.at_ms >= DEBOUNCE_MS else tap.uid,
        None
        if state.reservation is None
        else (state.reservation.rental_id, state.reservation.lock_default),
        None
        if pending is None
        else (pending.purpose, pending.request is not None, pending.means),
        None if rental is None else _rental_key(rental, now_ms),
        _order(state),
    )


def _rental_key(rental: Rental, now_ms: int) -> Hashable:
    return (
        rental.reservation.rental_id,
        rental.reservation.lock_default,
        rental.parked_since_ms is not None,
        None
        if rental.refuelling is None
        else (rental.refuelling.paid, rental.refuelling.asks_pump),
        None if rental.payment is None else rental.payment.stage,
        rental.low_told,
        rental.parking_chosen,
        rental.driven,
        now_ms - rental.opened_ms < BOARDING_MS,
        rental.pin.wrong,
        rental.pin.blocks,
        rental.pin.blocked_until_ms is not None,
        rental.pin_accepted,
        rental.held,
        rental.inspection,
        rental.reporting,
    )


def _payment_due(state: State) -> int | None:
    payment = None if state.rental is None else state.rental.payment
    if payment is None or payment.stage is not PaymentStage.PENDING:
        return None
    return payment.until_ms


def _order(state: State) -> Hashable:
    """Return in which order the deadlines of the state come."""
    instants = {
        "pending": None if state.pending is None else state.pending.deadline_ms,
        "reserved": None if state.reservation is None else state.reservation.until_ms,
        "refusing": state.refusing_until_ms,
        "walk-up": None if state.walk_up is None else state.walk_up.until_ms,
        "service": None if state.workshop is None else state.workshop.until_ms,
        "pin": None if state.rental is None else state.rental.pin.blocked_until_ms,
        "payment": _payment_due(state),
    }
    running = [(at_ms, name) for name, at_ms in instants.items() if at_ms is not None]
    return tuple(name for _, name in sorted(running))


# --- what must hold ---------------------------------------------------------------


def _require_all(before: State, event: Event, decision: Decision, now: Moment) -> None:
    require_lawful(before, event, decision, now=now)
    _require_authority(before, event, decision, now)
    _require_table(before.mode, decision.state.mode)


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
        return before.rental_id is None and any(
            grant.card == card_digest(grant.rental_id, event.uid)
            and grant.not_before_wall_ms <= (now.trusted_ms or -1)
            and (now.trusted_ms or -1) < grant.not_after_wall_ms
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


def main() -> None:
    """Explore and say what was seen; exit code 1 for a violation."""
    began = time.monotonic()
    findings = explore(DEEP if "--deep" in sys.argv[1:] else SHORT)
    sys.stdout.write(f"{findings} [{time.monotonic() - began:.0f} s]\n")
    sys.exit(findings.violation is not None)


if __name__ == "__main__":
    main()
