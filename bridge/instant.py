"""One instant by both clocks of the machine that a bridge runs on.

The wall clock says when something was and may be set at any moment; the boot clock says
how long something took, and nobody sets it. Both are read together, so that no step can
come in between (ADR 28).
"""

from collections.abc import Callable
from typing import Final, Self

import msgspec


class Instant(msgspec.Struct, frozen=True, gc=False):
    """An instant as one machine showed it."""

    utc_ms: int
    """What the wall clock showed: UTC ms, as far as it was right."""
    boot_ms: int = 0
    """What the boot clock showed, ms."""
    boot_mark: str = ""
    """Which boot of which machine that was: readings of the boot clock compare only
    under the same one. Empty if nobody knows it any more."""

    @classmethod
    def written(cls, utc_ms: int) -> Self:
        """Return an instant of which only UTC was written down."""
        return cls(utc_ms)

    @property
    def ahead_ms(self) -> int:
        """By how much the wall clock shows more than the boot clock."""
        return self.utc_ms - self.boot_ms


NEVER_MS: Final = -(1 << 62)
"""Boot clock: when something was that never was; any pause since then is over."""

InstantClock = Callable[[], Instant]
"""Reads both clocks of this machine."""
