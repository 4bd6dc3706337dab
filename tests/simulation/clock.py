"""Clocks of the simulation: boot clocks are true, wall clocks are what one sets."""

from bridge.instant import Instant
from firmware_emulator.clock import EmulatedClock, Seconds


class JumpyClock(EmulatedClock):
    """A car's clock whose wall time somebody sets (I-29)."""

    def jump_wall(self, milliseconds: int) -> None:
        """Set the wall clock forward, or back if negative."""
        self._wall_ms += milliseconds

    @property
    def wall_offset_ms(self) -> int:
        return self._wall_ms


UP_MS = 86_400_000
"""How long the bridge's machine has been up when a seed begins."""


class WallClock:
    """The clocks of the bridge's machine; called, it returns UTC in ms."""

    def __init__(self, seconds: Seconds, *, start_ms: int) -> None:
        self._seconds = seconds
        self._start_ms = self._true_ms = start_ms
        self._booted_ms = -UP_MS
        self._boots = 1

    def __call__(self) -> int:
        return self._start_ms + round(self._seconds() * 1_000)

    def instant(self) -> Instant:
        """Return this instant by both of its clocks."""
        boot_ms = round(self._seconds() * 1_000) - self._booted_ms
        return Instant(self(), boot_ms, f"boot {self._boots}")

    def reboot(self) -> None:
        """Begin the boot clock anew; the wall clock goes on."""
        self._booted_ms = round(self._seconds() * 1_000)
        self._boots += 1

    def jump(self, milliseconds: int) -> None:
        """Set it forward from the true time, or back if negative."""
        self._start_ms = self._true_ms + milliseconds

    def heal(self) -> None:
        """Set it right, as a time service does."""
        self._start_ms = self._true_ms
