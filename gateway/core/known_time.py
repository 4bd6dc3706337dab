"""What the car knows about the time for sure (FF-TIM; protocol-design.md 1.3).

A wall clock is a label: it may be years off, and whoever sets it must neither shut the
fleet out nor keep an old key alive. What counts is signed: the newest instant that the
fleet has told, carried on by the boot clock. It is a lower bound, since a frame can be
held back and not sent ahead, and it never goes back.

GNSS is not signed, and whoever stands near a car can send it. So it may say what time
it is while nobody else does, and moves no floor: it lets no key end, begins none, and
is forgotten at the fleet's next word (docs/adr/0012-gnss-time.md).

After a power loss nothing carries on: only the floor is left, and it is known that the
time is past it. So what has ended before the floor is over for sure; what begins after
it may have begun.
"""

from dataclasses import dataclass, replace
from typing import Final

from gateway.core.moment import Moment
from protocol.codes import ClockQuality

RELEASED_MS: Final = 1_793_491_200_000
"""2026-11-01T00:00:00Z: no copy of this program is older. Raised with each release."""

LATEST_MS: Final = 4_102_444_800_000
"""2100-01-01T00:00:00Z. A label is any u64; one beyond the life of every car and key is
no time, could not be stored or written as a date, and would stay for ever."""

LAG_LIMIT_MS: Final = 300_000
"""How far a fleet's clock may be behind the floor and still tell the time: clocks of
two signers, and what a boot clock gains while nobody tells anything."""


@dataclass(frozen=True, slots=True)
class KnownTime:
    """The newest instant that has certainly come."""

    floor_ms: int = RELEASED_MS
    """UTC ms; it has passed."""
    at_ms: int | None = None
    """Boot clock when it was so; None when nothing carries it on since a power loss."""
    quality: ClockQuality = ClockQuality.UNSET
    """Who told it: SYNC or GNSS; UNSET when the time of now is not known."""
    sky: tuple[int, int] | None = None
    """With GNSS: UTC ms that it told, and the boot clock then; it is not stored."""

    @property
    def is_known(self) -> bool:
        """Whether the time of now is known, not only what it is past."""
        return self.quality.trusted

    def floor(self, now: Moment) -> int:
        """Return UTC ms that have certainly passed."""
        if self.at_ms is None:
            return self.floor_ms
        return self.floor_ms + max(now.boot_ms - self.at_ms, 0)

    def time(self, now: Moment) -> int | None:
        """Return the best guess of UTC ms, never before the floor; None if unknown.

        For what may only begin when the time is known, such as a stay by a grant. Dates
        of keys are judged by the floor alone.
        """
        if self.sky is not None:
            told_ms, at_ms = self.sky
            return max(self.floor(now), told_ms + max(now.boot_ms - at_ms, 0))
        return self.floor(now) if self.is_known else None

    def learn(self, wall_ms: int, quality: ClockQuality, *, now: Moment) -> "KnownTime":
        """Take what somebody who is trusted tells.

        Args:
            wall_ms: UTC ms, true when it was signed and not after `now`.
            quality: who tells it; from below SYNC nothing is learnt.
            now: when it came.
        """
        floor_ms = self.floor(now)
        if not quality.trusted or wall_ms < floor_ms - LAG_LIMIT_MS:
            return self
        if wall_ms > LATEST_MS:
            return self
        if quality is ClockQuality.GNSS:
            if self.quality.trusted and self.sky is None:
                return self  # the fleet has told the time, and the boot clock runs on
            return replace(self, quality=quality, sky=(wall_ms, now.boot_ms))
        return KnownTime(max(wall_ms, floor_ms), now.boot_ms, quality)

    def at_least(self, wall_ms: int, *, now: Moment) -> "KnownTime":
        """Take an instant that is past, which tells nothing about the time of now."""
        if not self.floor(now) < wall_ms <= LATEST_MS:
            return self
        return replace(self, floor_ms=wall_ms, at_ms=now.boot_ms)

    def after_power_loss(self) -> "KnownTime":
        """Return what is left when the boot clock has begun anew: the floor."""
        return KnownTime(self.floor_ms)

    def anchored(self, now: Moment) -> "KnownTime":
        """Return the same knowledge as of now, to be stored; the sky tells it anew."""
        quality = ClockQuality.UNSET if self.sky is not None else self.quality
        return KnownTime(self.floor(now), now.boot_ms, quality)

    def is_over(self, end_ms: int, *, now: Moment) -> bool:
        """Return whether an instant has certainly passed."""
        return self.floor(now) > end_ms

    def is_outside(self, begin_ms: int, end_ms: int, *, now: Moment) -> bool:
        """Return whether the time of now is certainly outside a span.

        What GNSS tells does not count: nobody may shut a fleet's keys out by radio.
        """
        is_told = self.is_known and self.sky is None
        early = is_told and self.floor(now) < begin_ms
        return early or self.is_over(end_ms, now=now)
