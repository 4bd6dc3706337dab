"""Feeding a recording to the mind again.

The same program gives the same decisions, bit for bit. Another program may decide
otherwise, which is how a mended fault is tried on what once went wrong: the first step
that differs is told, and the replay goes on from what the program of now decided.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gateway.core.state import State
from gateway.core.turn import Decision
from gateway.core.vehicle import handle
from gateway.recorder.record import Frame, KeptStep, Record, fingerprint
from gateway.recorder.redaction import introduce


@dataclass(frozen=True, slots=True)
class Replayed:
    """One step, thought again."""

    step: KeptStep
    """What happened."""
    before: State
    """Where the mind stood."""
    decision: Decision
    """What it decides now."""

    @property
    def diverged(self) -> bool:
        """Whether the car decided otherwise then."""
        return fingerprint(self.decision) != self.step.fingerprint


def replay(records: Iterable[Record]) -> Iterator[Frame | Replayed]:
    """Yield every frame as it is, and every step with what follows from it now.

    Steps before the first frame lead from nowhere and are left out.
    """
    state: State | None = None
    for record in records:
        if isinstance(record, Frame):
            state = record.state
            yield record
        elif state is not None:
            before = introduce(state, record.event, record.introductions)
            decision = handle(before, record.event, now=record.now)
            state = decision.state
            yield Replayed(record, before, decision)
