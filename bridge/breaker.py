"""A circuit breaker over a sliding window of outcomes; pure, time is an argument.

Theory of operation (the states are Resilience4j's)::

    CLOSED ---- half of the last calls failed ----> OPEN
    OPEN ------ its wait is over -----------------> HALF_OPEN
    HALF_OPEN - every probe succeeded ------------> CLOSED
    HALF_OPEN - a probe failed -------------------> OPEN, for twice as long

While it is open nobody calls, so a consumer that is down is not kept down by those who
want it back, and nobody waits for its time-outs. What is not delivered meanwhile waits
in the outbox: an open breaker delays and never loses (I-31, I-32).
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final


@unique
class BreakerState(StrEnum):
    """Whether calls are let through."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class BreakerLimits:
    """When a breaker opens, and for how long."""

    window: int = 20
    """Outcomes that count, at least `least`."""
    least: int = 10
    """Outcomes before it may open at all, at least 1: two failures are no outage."""
    failing_share: float = 0.5
    """Share of failures in the window at which it opens, above 0 and at most 1."""
    wait_s: float = 5.0
    """How long it is open the first time, in s; doubles while probes fail."""
    longest_wait_s: float = 60.0
    """Ceiling of the wait in s: a consumer that is back is found within a minute."""
    probes: int = 3
    """Calls let through while half open, all of which must succeed."""


OPENINGS_LIMIT: Final = 32
"""Openings that are counted: 2 to this power is beyond every ceiling."""


class Breaker:
    """One consumer's breaker; not thread-safe, as it belongs to one event loop."""

    def __init__(self, limits: BreakerLimits | None = None) -> None:
        self._limits = limits or BreakerLimits()
        self._outcomes: deque[bool] = deque(maxlen=self._limits.window)
        self._state = BreakerState.CLOSED
        self._term = 0
        self._opened_s = 0.0
        self._openings = 0
        self._probing = 0
        self._proved = 0

    @property
    def state(self) -> BreakerState:
        """Whether calls are let through, as of the last `admit` or outcome."""
        return self._state

    @property
    def openings(self) -> int:
        """How often it opened since it was last closed."""
        return self._openings

    def admit(self, now_s: float) -> int | None:
        """Return a ticket for one call, or None if none may be made now.

        Every ticket is answered once, by `succeeded`, `failed` or `withdrawn`. What is
        answered after the state has changed says nothing about the new one.

        Args:
            now_s: any clock that only rises, in s.
        """
        if self._state is BreakerState.OPEN and self.wait_s(now_s) == 0.0:
            self._turn(BreakerState.HALF_OPEN)
        match self._state:
            case BreakerState.OPEN:
                return None
            case BreakerState.HALF_OPEN:
                if self._probing + self._proved >= self._limits.probes:
                    return None
                self._probing += 1
            case BreakerState.CLOSED:
                pass
        return self._term

    def wait_s(self, now_s: float) -> float:
        """Return how long nobody needs to ask again, in s; 0 if asking may help."""
        if self._state is not BreakerState.OPEN:
            return 0.0
        doubled = self._limits.wait_s * 2.0 ** (self._openings - 1)
        wait_s = min(doubled, self._limits.longest_wait_s)
        return max(self._opened_s + wait_s - now_s, 0.0)

    def succeeded(self, ticket: int) -> None:
        """Note that a call was answered."""
        if ticket != self._term:
            return
        if self._state is BreakerState.CLOSED:
            self._outcomes.append(True)
            return
        self._probing -= 1
        self._proved += 1
        if self._proved >= self._limits.probes:
            self._openings = 0
            self._turn(BreakerState.CLOSED)

    def failed(self, ticket: int, now_s: float, *, is_repeat: bool = False) -> None:
        """Note that a call was not answered as it should be.

        Args:
            ticket: of the call.
            now_s: as for `admit`.
            is_repeat: the same event failed before. While closed that is not counted
                again, so one event that a consumer chokes on opens nothing by itself.
        """
        if ticket != self._term:
            return
        if self._state is BreakerState.HALF_OPEN:
            self._open(now_s)
        elif not is_repeat:
            self._outcomes.append(False)
            share = self._outcomes.count(False) / len(self._outcomes)
            is_enough = len(self._outcomes) >= self._limits.least
            if is_enough and share >= self._limits.failing_share:
                self._open(now_s)

    def withdrawn(self, ticket: int) -> None:
        """Note that a call was cancelled and says nothing."""
        if ticket == self._term and self._state is BreakerState.HALF_OPEN:
            self._probing -= 1

    def _open(self, now_s: float) -> None:
        self._opened_s = now_s
        # Bounded, since only the power of two counts that reaches the ceiling.
        self._openings = min(self._openings + 1, OPENINGS_LIMIT)
        self._turn(BreakerState.OPEN)

    def _turn(self, state: BreakerState) -> None:
        self._state = state
        self._term += 1
        self._probing = self._proved = 0
        self._outcomes.clear()
