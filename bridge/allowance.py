"""How much each car may say: a token bucket per car; pure.

A full bucket is no state at all, so only cars that spoke a moment ago are remembered,
and whoever invents names fills no memory for longer than one bucket takes to fill.

A bucket is kept as one number, the time at which it will be full again (the generic
cell rate algorithm of ITU-T I.371): a frame moves it by `1 / per_s`, and is too much if
that were further away than a whole bucket takes to fill.
"""

from dataclasses import dataclass
from typing import Final

from protocol.identity import VehicleId

SWEEP_AT: Final = 4_096
"""Cars remembered at least, before full buckets are looked for and forgotten."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a bucket holds and how fast it fills."""

    per_s: float
    """Frames a second in the long run, above 0."""
    burst: int
    """Frames that may come at once, at least 1."""

    @property
    def fills_s(self) -> float:
        """Seconds from empty to full."""
        return self.burst / self.per_s


class Allowance:
    """A bucket for each car, all of one rate."""

    def __init__(self, rate: Rate) -> None:
        """Begin with every bucket full."""
        self._rate = rate
        self._step_s = 1 / rate.per_s
        self._full_s: dict[VehicleId, float] = {}
        self._sweep_at = SWEEP_AT

    def __len__(self) -> int:
        return len(self._full_s)

    def take(self, vehicle_id: VehicleId, *, now_s: float) -> bool:
        """Take a token for one frame; False if there is none, and nothing is taken.

        Args:
            vehicle_id: whose bucket.
            now_s: a clock that nobody sets and that does not go back.
        """
        full_s = self._full_s.get(vehicle_id, now_s)
        if full_s > now_s:
            if self._missing_s(full_s, now_s) > 0:
                return False
        else:
            full_s = now_s
        self._full_s[vehicle_id] = full_s + self._step_s
        if len(self._full_s) >= self._sweep_at:
            self._sweep(now_s)
        return True

    def wait_s(self, vehicle_id: VehicleId, *, now_s: float) -> float:
        """Return in how many seconds there is a token; 0 if there is one."""
        full_s = self._full_s.get(vehicle_id)
        if full_s is None or full_s <= now_s:
            return 0.0
        return self._missing_s(full_s, now_s)

    def _missing_s(self, full_s: float, now_s: float) -> float:
        missing_s = full_s + self._step_s - now_s - self._rate.fills_s
        # A millionth of a token is what adding steps may have cost, not a debt.
        return missing_s if missing_s > self._step_s / 1e6 else 0.0

    def _sweep(self, now_s: float) -> None:
        self._full_s = {who: at for who, at in self._full_s.items() if at > now_s}
        self._sweep_at = max(SWEEP_AT, 2 * len(self._full_s))
