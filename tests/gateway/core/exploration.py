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

from gateway.core.events import (
    AgentStarted,
    BoardReported,
)
from gateway.core.state import State
from gateway.core.vehicle import handle
from protocol.codes import RentalMode
from tests.gateway.core.abstraction import NOW, plain
from tests.gateway.core.alphabet import DEEP, MEDIUM, Step
from tests.gateway.core.authority import require_all
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
                require_all(before, step.event, decision, now=NOW)
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


def main() -> None:
    """Explore and say what was seen; exit code 1 for a violation."""
    began = time.monotonic()
    findings = explore(DEEP if "--deep" in sys.argv[1:] else MEDIUM)
    sys.stdout.write(f"{findings} [{time.monotonic() - began:.0f} s]\n")
    sys.exit(findings.violation is not None)


if __name__ == "__main__":
    main()
