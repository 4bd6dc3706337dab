"""When a telemetry sample is due, and which samples wait for a link; no I/O.

Telemetry may be lost, but a short cut of the link should leave no hole: the newest
samples are kept and sent later in one frame, marked as historical and after the present
one (protocol-design.md 3).
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Final

from gateway.core.moment import Moment
from gateway.core.state import State
from gateway.core.telemetry import period_ms, sample_of
from gateway.ports import Positioning
from protocol.codes import RentalMode
from protocol.telemetry import SAMPLES_LIMIT, Sample, Telemetry

KEPT_SAMPLES: Final = SAMPLES_LIMIT
"""One frame's worth: five minutes of driving or half an hour at rest."""

_AGE_LIMIT_MS: Final = 0xFFFF * 100
"""An age is told in tenths of a second in 16 bits; an older sample has no date."""


@dataclass(frozen=True, slots=True)
class _Kept:
    taken_ms: int
    sample: Sample


@dataclass(frozen=True, slots=True)
class _Last:
    taken_ms: int
    mode: RentalMode


class TelemetryFeed:
    """Decides when to sample, and keeps what could not be sent."""

    def __init__(self, positioning: Positioning) -> None:
        self._positioning = positioning
        self._kept: deque[_Kept] = deque(maxlen=KEPT_SAMPLES)
        self._last: _Last | None = None

    def due_ms(self, state: State, *, now: Moment) -> int:
        """Return the boot instant of the next sample.

        Args:
            state: the state that stands.
            now: returned at once after a change of mode, and for the first sample.
        """
        if self._last is None or state.mode is not self._last.mode:
            return now.boot_ms
        return self._last.taken_ms + period_ms(state)

    def take(self, state: State, *, now: Moment) -> Telemetry:
        """Take a sample that goes out now."""
        return Telemetry((self._sample(state, now=now),))

    def keep(self, state: State, *, now: Moment) -> None:
        """Take a sample for later, since there is no link."""
        self._kept.append(_Kept(now.boot_ms, self._sample(state, now=now)))

    def hand_over(self, *, now: Moment) -> Telemetry | None:
        """Return the samples that waited, oldest first, and forget them."""
        aged = (
            replace(kept.sample, age_ds=(now.boot_ms - kept.taken_ms) // 100)
            for kept in self._kept
            if now.boot_ms - kept.taken_ms <= _AGE_LIMIT_MS
        )
        samples = tuple(aged)
        self._kept.clear()
        return Telemetry(samples) if samples else None

    def _sample(self, state: State, *, now: Moment) -> Sample:
        self._last = _Last(now.boot_ms, state.mode)
        return sample_of(state, self._positioning.fix(), age_ms=0)
