"""Keeps what the car knows about the time, and carries it on by the boot clock."""

from gateway.core.known_time import KnownTime
from gateway.core.moment import Moment
from gateway.ports import Clock
from protocol.codes import ClockQuality


class Timekeeper:
    """Implements `gateway.ports.TrustedTime`.

    Args:
        clock: whose boot clock carries the time on; its wall clock is not looked at.
        known_ms: UTC ms of what somebody who is trusted has dated, such as a trust
            bundle's issue.
    """

    def __init__(self, clock: Clock, *known_ms: int) -> None:
        self._clock = clock
        self.known = KnownTime()
        """What is known; the runtime stores it with its commits."""
        now = clock.now()
        for each in known_ms:
            self.known = self.known.at_least(each, now=now)

    def trusted_floor_ms(self) -> int:
        """Return UTC ms that have certainly passed; never goes back."""
        return self.known.floor(self._clock.now())

    def trusted_ms(self, now: Moment) -> int | None:
        """Return the time of now in UTC ms, None when nobody who is trusted told it."""
        return self.known.time(now)

    def restore(self, stored: KnownTime, *, same_boot: bool) -> None:
        """Go on from what was stored.

        Args:
            stored: the newest that was committed.
            same_boot: whether the boot clock has run on since; else only the floor
                counts.
        """
        now = self._clock.now()
        if not same_boot:
            stored = stored.after_power_loss()
        self.known = stored.at_least(self.known.floor(now), now=now)

    def learn(self, wall_ms: int, quality: ClockQuality, *, now: Moment) -> None:
        """Take the time that the fleet has signed, or that GNSS tells."""
        self.known = self.known.learn(wall_ms, quality, now=now)

    def note(self, past_ms: int, *, now: Moment) -> None:
        """Take an instant that has passed for sure."""
        self.known = self.known.at_least(past_ms, now=now)
