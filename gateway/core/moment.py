"""Time as the core sees it: an argument, never a call.

Two clocks come in together. The boot clock (CLOCK_BOOTTIME) runs through suspend and
cannot be set from outside; deadlines and expiry are judged by it alone. The wall clock
labels what happened and says how far its label can be trusted (protocol-design.md 1.3,
I-29).
"""

from dataclasses import dataclass

from protocol.codes import ClockQuality


@dataclass(frozen=True, slots=True)
class Moment:
    """One instant on both clocks."""

    boot_ms: int
    """Milliseconds since the machine booted, suspend included."""
    wall_ms: int
    """UTC in milliseconds."""
    quality: ClockQuality
    """How far `wall_ms` can be trusted."""
    trusted_ms: int | None = None
    """UTC in milliseconds as the fleet or GNSS has told it, carried on by the boot
    clock; None when nobody has since the last power loss. Grants are judged by it."""


NEVER = Moment(0, 0, ClockQuality.UNSET)
"""Before the first event."""
