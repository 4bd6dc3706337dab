"""Time of an emulated car: one clock that runs on, one that starts with the machine.

The world's time never stops: a car parked through a power cut is parked all the while.
The boot clock restarts with the machine, and that is what the gateway sees
(protocol-design.md 1.3). A factor makes both run faster than the clock on the wall;
against a fleet service that is not ours it must be 1.
"""

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.core.moment import Moment
from protocol.codes import ClockQuality

Seconds = Callable[[], float]
"""A clock in seconds."""

_SHORTEST_S: Final = 0.001
"""A sleep below a millisecond would be a busy loop."""


class EmulatedClock:
    """Implements `gateway.ports.Clock` for one emulated car."""

    def __init__(
        self,
        monotonic: Seconds,
        wall: Seconds,
        *,
        factor: float = 1.0,
        quality: ClockQuality = ClockQuality.NTP,
        booted_before_ms: int = 0,
    ) -> None:
        """Start the world's time at 0.

        Args:
            monotonic: never goes back; the event loop's own time in tests.
            wall: UTC in seconds, read once.
            factor: above 0; 60 makes an hour of a minute.
            quality: what the gateway is told about the wall clock.
            booted_before_ms: how long the machine has been up already.
        """
        self._monotonic = monotonic
        self._start = monotonic()
        self._wall_ms = round(wall() * 1_000)
        self._factor = factor
        self._boot_at_ms = -booted_before_ms
        self.quality = quality
        """May be set while the car lives, to what a receiver without sky would say."""
        self.boots = 1
        """How often the machine has booted."""

    @property
    def elapsed_ms(self) -> int:
        """The world's time: since this clock was made, through every power cut."""
        return int((self._monotonic() - self._start) * 1_000 * self._factor)

    @property
    def boot_mark(self) -> str:
        """A text that changes with every boot of the machine."""
        return f"emulated-{self.boots}-{self._boot_at_ms + self._wall_ms}"

    def reboot(self) -> None:
        """Let the boot clock start again at 0; the world's time runs on."""
        self._boot_at_ms = self.elapsed_ms
        self.boots += 1

    def now(self) -> Moment:
        """Return this instant on boot clock and wall clock."""
        elapsed = self.elapsed_ms
        return Moment(elapsed - self._boot_at_ms, self._wall_ms + elapsed, self.quality)

    def asleep_ms(self) -> int:
        """Return 0: an emulated machine is switched off and never suspended."""
        return 0

    async def sleep_until(self, boot_ms: int) -> None:
        """Return when the boot clock has reached `boot_ms`, at once if it has."""
        await self._sleep_until_elapsed(boot_ms + self._boot_at_ms)

    async def sleep(self, duration_ms: int) -> None:
        """Return after so much of the world's time."""
        await self._sleep_until_elapsed(self.elapsed_ms + duration_ms)

    async def _sleep_until_elapsed(self, elapsed_ms: int) -> None:
        # No event tells that a clock has got somewhere.
        while (left_ms := elapsed_ms - self.elapsed_ms) > 0:  # noqa: ASYNC110 - a clock
            await asyncio.sleep(max(left_ms / 1_000 / self._factor, _SHORTEST_S))
