"""When a telemetry sample is due, and what becomes of it without a link; no I/O.

Telemetry may be lost, but a cut of the link should leave no hole: samples are kept and
sent later, marked as historical and after the present one (protocol-design.md 3).
"""

from dataclasses import dataclass

from gateway.core.moment import Moment
from gateway.core.state import State
from gateway.core.telemetry import period_ms, sample_of
from gateway.ports import Positioning
from gateway.runtime.telemetry_ring import TelemetryRing
from protocol.codes import RentalMode
from protocol.telemetry import Sample, Telemetry


@dataclass(frozen=True, slots=True)
class _Last:
    taken_ms: int
    mode: RentalMode


class TelemetryFeed:
    """Decides when to sample, and keeps what could not be sent."""

    def __init__(self, positioning: Positioning) -> None:
        self._positioning = positioning
        self._ring = TelemetryRing()
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
        self._ring.keep(self._sample(state, now=now), now=now)

    def hand_over(self, *, now: Moment) -> tuple[tuple[Telemetry, ...], int]:
        """Return frames that waited, newest first, and how many samples are lost."""
        return self._ring.hand_over(now=now)

    def _sample(self, state: State, *, now: Moment) -> Sample:
        self._last = _Last(now.boot_ms, state.mode)
        return sample_of(state, self._positioning.fix(), age_ms=0)
