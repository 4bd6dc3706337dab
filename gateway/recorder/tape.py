"""From steps of the car to lines of the recorder, each proved before it is written.

The recorder thinks along: it feeds the mind what it is about to write, from the state
that it has written, and compares what comes out with what the car decided. So a
recording that can be replayed is not a hope: where the two differ, it writes down where
the car stood and goes on from there.

Most of what a mind is told changes nothing: a board that reports every half second, a
fix every ten. Of such only the newest counts, and it is written when something happens
after it; at the latest each minute, if it tells something new.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from gateway.core.events import BoardReported, Event, PositionFixed
from gateway.core.state import State
from gateway.core.vehicle import handle
from gateway.recorder.record import Frame, KeptStep, build_line, fingerprint
from gateway.recorder.redaction import COARSE_E7, EXACT_E7, Redaction, introduce
from gateway.recorder.replay import Replayed
from gateway.runtime.step import Step

SAMPLE_MS: Final = 60_000
"""A car in which nothing happens is written about so often, if its values change."""

REMEMBERED: Final = 256
"""Steps kept in memory for questions at the car: more than a rental has."""


class Tape:
    """Turns steps into lines.

    Args:
        vehicle: whose recorder.
        version: of the program.
        key: 32 random bytes for `gateway.recorder.redaction`.
    """

    def __init__(self, *, vehicle: str, version: str, key: bytes) -> None:
        self._vehicle = vehicle
        self._version = version
        self._redaction = Redaction(key)
        self._state: State | None = None
        self._why = "start"
        self._number = 0
        self._held: dict[type[Event], Step] = {}
        self._sampled_ms = 0
        self._sampled: Event | None = None
        self.remembered: deque[Replayed] = deque(maxlen=REMEMBERED)
        """The newest steps as they were kept."""

    def begin_anew(self, why: str) -> None:
        """Write a frame before the next step: another file, or some steps were lost."""
        self._state, self._why = None, why

    def take(self, step: Step) -> Iterator[bytes]:
        """Yield the lines that a step is worth."""
        if _is_passive(step):
            kind = type(step.event)
            # The newest of its kind, behind all others.
            self._held.pop(kind, None)
            self._held[kind] = step
            if not self._is_sample_due(step):
                return
            self._sampled_ms, self._sampled = step.now.boot_ms, step.event
            yield from self._let_go()
        else:
            yield from self._let_go()
            yield from self._write(step)

    def _is_sample_due(self, step: Step) -> bool:
        is_report = isinstance(step.event, BoardReported)
        since_ms = step.now.boot_ms - self._sampled_ms
        return is_report and since_ms >= SAMPLE_MS and step.event != self._sampled

    def _let_go(self) -> Iterator[bytes]:
        held, self._held = tuple(self._held.values()), {}
        for step in held:
            yield from self._write(step)

    def _write(self, step: Step) -> Iterator[bytes]:
        if self._state is None:
            yield self._frame(step.before, self._why, COARSE_E7)
        wanted = fingerprint(step.decision)
        line = self._attempt(step, wanted, COARSE_E7)
        if line is None:
            # It depends on the place, or what was held back had an effect after all.
            yield self._frame(step.before, "place", EXACT_E7)
            line = self._attempt(step, wanted, EXACT_E7)
        if line is None:
            self.begin_anew("gap")
            return
        yield line

    def _frame(self, state: State, why: str, grid_e7: int) -> bytes:
        self._state = self._redaction.state(state, grid_e7=grid_e7)
        return build_line(Frame(self._vehicle, self._version, why, self._state))

    def _attempt(self, step: Step, wanted: bytes, grid_e7: int) -> bytes | None:
        """Return the line of a step if it leads to the same decision again."""
        if self._state is None:
            raise LookupError("a step follows a frame")
        introductions = self._redaction.introductions(step.event, step.before)
        event = self._redaction.event(step.event, grid_e7=grid_e7)
        before = introduce(self._state, event, introductions)
        decision = handle(before, event, now=step.now)
        if fingerprint(decision) != wanted:
            return None
        self._number += 1
        kept = KeptStep(self._number, step.now, event, introductions, wanted)
        self.remembered.append(Replayed(kept, before, decision))
        self._state = decision.state
        return build_line(kept)


def _is_passive(step: Step) -> bool:
    """Return whether the step left everything as it was but what was measured."""
    decision = step.decision
    return (
        isinstance(step.event, BoardReported | PositionFixed)
        and not (decision.entries or decision.actions or decision.illegal)
        and decision.state.essence() == step.before.essence()
    )
