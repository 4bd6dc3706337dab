"""Every reachable state of the abstracted core, breadth first.

It decides I-1, I-2, I-12, I-16, I-17, C21 and H11 as far as an alphabet of events goes.
The production `handle` is called for every event of an alphabet in every state that can
be reached, and each step is judged by the invariants. What of a state is forgotten says
`tests.gateway.core.abstraction`; all else is the core itself. Breadth first means that
the first violation comes with one of the shortest ways to it.

    python -m tests.gateway.core.exploration [--deep]
"""

import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.core.actions import AllowEngine, DriveLocks
from gateway.core.events import (
    AgentStarted,
    BoardReported,
    CardPresented,
    CommandReceived,
    Event,
    PinChecked,
    PinVerdict,
)
from gateway.core.state import PaymentStage, State
from gateway.core.table import TABLE
from gateway.core.turn import Decision
from gateway.core.vehicle import handle
from protocol.codes import RentalMode
from protocol.command import EngineRelease, Lock, Reserve, Unlock
from protocol.identity import card_digest
from protocol.rental_codes import Rights
from protocol.rental_event import HandoverDone
from tests.gateway.core.abstraction import NOW, plain
from tests.gateway.core.alphabet import DEEP, MEDIUM, Step
from tests.gateway.core.invariants import require_lawful
from tests.gateway.core.scene import RESTING


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
    came_from: dict[State, tuple[State, str] | None] = {begin: None}
    waiting = deque([begin])
    transitions = 0
    modes = {begin.mode}
    while waiting and len(came_from) < limit:
        state = waiting.popleft()
        for step in alphabet:
            before = step.before(state)
            if before is None:
                continue
            transitions += 1
            try:
                decision = handle(before, step.event, now=NOW)
                _require_all(before, step.event, decision)
            except (AssertionError, LookupError) as error:
                way = (*_way(came_from, state), step.name)
                violation = Violation(str(error).partition("\n")[0], way)
                return _findings(came_from, transitions, modes, violation, whole=False)
            after = plain(decision.state)
            if after not in came_from:
                came_from[after] = (state, step.name)
                modes.add(after.mode)
                waiting.append(after)
    return _findings(came_from, transitions, modes, None, whole=not waiting)


def _findings(
    came_from: dict[State, tuple[State, str] | None],
    transitions: int,
    modes: set[RentalMode],
    violation: Violation | None,
    *,
    whole: bool,
) -> Findings:
    return Findings(len(came_from), transitions, frozenset(modes), violation, whole)


def _rested() -> State:
    """Return a car that has started and waits for a customer."""
    started = handle(State(), AgentStarted(1, bytes(4), same_boot=False), now=NOW)
    return plain(handle(started.state, BoardReported(RESTING), now=NOW).state)


def _way(
    came_from: dict[State, tuple[State, str] | None], state: State
) -> tuple[str, ...]:
    names: list[str] = []
    while (before := came_from[state]) is not None:
        state, name = before
        names.append(name)
    return tuple(reversed(names))


# --- what must hold ---------------------------------------------------------------


def _require_all(before: State, event: Event, decision: Decision) -> None:
    require_lawful(before, event, decision, now=NOW)
    _require_authority(before, event, decision)
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


def _require_authority(before: State, event: Event, decision: Decision) -> None:
    """I-12, C11: nothing opens and nothing starts without a right to it."""
    for action in decision.actions:
        if action == DriveLocks(locked=False):
            assert _may_open(before, event), "I-12: opened without a right to it"
        elif action == DriveLocks(locked=True):
            free = decision.state.rental is None
            by_right = _holds_card(before, event) or _orders(event, Lock, before)
            assert free or by_right, "I-12: closed without a right to it"
        elif action == AllowEngine(released=True):
            assert _may_start(before, event), "C11: engine released without a right"


def _may_open(before: State, event: Event) -> bool:
    if _holds_card(before, event) or _orders(event, Unlock, before):
        return True
    if isinstance(event, CardPresented):
        return before.rental_id is None and any(
            grant.card == card_digest(grant.rental_id, event.uid)
            and grant.not_before_wall_ms <= NOW.wall_ms < grant.not_after_wall_ms
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
    findings = explore(DEEP if "--deep" in sys.argv[1:] else MEDIUM)
    sys.stdout.write(f"{findings} [{time.monotonic() - began:.0f} s]\n")
    sys.exit(findings.violation is not None)


if __name__ == "__main__":
    main()
