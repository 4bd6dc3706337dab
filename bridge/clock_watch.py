"""Whether this machine's clock is right, judged by the cars and by itself.

What TIME tells a car becomes its floor of trusted time, events are dated by this clock,
and of a car that it has not heard a bridge reckons the clock by it (`bridge.clock`).
Two signs are watched:

* many cars with satellite or network time, whose fresh HELLO names another instant than
  the one at which it arrived: the median over cars, so that one liar decides nothing;
* a step: the wall clock went otherwise than the boot clock between two looks.

Neither stops anything. An operator has to look.
"""

from collections import OrderedDict
from statistics import median
from typing import Final

from protocol.codes import ClockQuality
from protocol.identity import VehicleId

OFFSET_LIMIT_MS: Final = 2_000
"""An offset that is told: an access command lives 10 s, of which a quarter is gone."""

STEP_LIMIT_MS: Final = 1_000
"""A step that is told: NTP slews smaller errors by itself."""

CARS_LEAST: Final = 3
"""So many cars must have spoken before their median counts."""

CARS_MOST: Final = 101
"""The cars that spoke last; more say no more."""

WINDOW_MS: Final = 3_600_000
"""How long a car's word counts."""

_GOOD: Final = frozenset({ClockQuality.GNSS, ClockQuality.NTP})
"""Labels that do not come from this fleet: SYNC would be our own clock again."""


class ClockWatch:
    """Collects words about the clock; `fault` says what is wrong now."""

    def __init__(self) -> None:
        self._offsets: OrderedDict[VehicleId, tuple[int, int]] = OrderedDict()
        self._last: tuple[int, int] | None = None
        self._step_ms = 0
        self._step_at_ms = 0
        self.alarm = ""
        """What the last look found wrong; empty for nothing."""

    def heard(
        self, vehicle_id: VehicleId, wall_ms: int, quality: ClockQuality, *, now: int
    ) -> None:
        """Note what a car's label said when its fresh frame arrived.

        Args:
            vehicle_id: which car; its newest word counts.
            wall_ms: the label.
            quality: how the car knows it.
            now: UTC ms of this machine when the frame arrived.
        """
        if quality not in _GOOD:
            return
        self._offsets.pop(vehicle_id, None)
        self._offsets[vehicle_id] = (now, wall_ms - now)
        while len(self._offsets) > CARS_MOST:
            self._offsets.popitem(last=False)

    def looked(self, *, wall_ms: int, boot_ms: int) -> None:
        """Compare the machine's two clocks with the look before; sets `alarm`."""
        if self._last is not None:
            step = (wall_ms - self._last[0]) - (boot_ms - self._last[1])
            if abs(step) > STEP_LIMIT_MS:
                self._step_ms, self._step_at_ms = step, boot_ms
                # What cars said before, as the clock that is set now would show it.
                for vehicle_id, (heard_ms, offset_ms) in self._offsets.items():
                    moved = (heard_ms + step, offset_ms - step)
                    self._offsets[vehicle_id] = moved
        self._last = (wall_ms, boot_ms)
        self.alarm = self.fault(now=wall_ms)

    def offset_ms(self, *, now: int) -> int | None:
        """Return the median of the cars' clocks minus ours; None if too few spoke."""
        fresh = [
            offset
            for heard_ms, offset in self._offsets.values()
            if abs(now - heard_ms) <= WINDOW_MS
        ]
        return round(median(fresh)) if len(fresh) >= CARS_LEAST else None

    def fault(self, *, now: int) -> str:
        """Return what is wrong with this machine's clock; empty for nothing."""
        offset = self.offset_ms(now=now)
        if offset is not None and abs(offset) > OFFSET_LIMIT_MS:
            way = "behind" if offset > 0 else "ahead of"
            return (
                f"this machine's clock is {abs(offset) / 1000:.1f} s {way} the median "
                "of the cars' satellite and network time; check its NTP"
            )
        if self._last is not None and self._step_ms:
            since_ms = self._last[1] - self._step_at_ms
            if since_ms <= WINDOW_MS:
                return (
                    f"this machine's clock was set by {self._step_ms / 1000:.1f} s "
                    f"{since_ms // 60_000} minutes ago; check its NTP"
                )
        return ""
