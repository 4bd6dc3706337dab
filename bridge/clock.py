"""What a car's boot clock shows now, as far as the bridge can know.

A command dies by the car's clock (protocol-design.md 1.3), so the bridge must know it
without asking. Every signed frame says what the clock showed when it was signed; it
arrived later than that by an unknown delay. Hence ``received - mono`` is never less
than the true offset, and the smallest of many is the best. Estimating from it puts
the car's clock at or behind the truth: delay, or a broker that holds frames back, can
only make a command die *earlier*.

A minimum over a whole session would not be safe: a car's clock that is 50 ppm slow
drifts 4.3 s a day. So samples live for ten minutes and lose trust as they age.
"""

from typing import Final, Self

import msgspec

WINDOW_MS: Final = 600_000
"""How long a sample counts: the drift within it is at most 30 ms at 50 ppm."""

BUCKET_MS: Final = 30_000
"""One smallest sample is kept for each 30 s, so at most 21 in all."""

DRIFT_PPM: Final = 100
"""By how much a sample's offset is raised as it ages: twice what a cheap crystal drifts
within a car's temperatures (assumed)."""

MARGIN_MS: Final = 500
"""Taken off a command's life, so that an error of the estimate in the other direction
(a step of the bridge's own clock that NTP slews) does not make it live too long."""


class ClockEstimate(msgspec.Struct, frozen=True, gc=False):
    """Samples of the clock of one boot; a value.

    Sessions of one boot share the clock, so an estimate outlives a reconnect.
    """

    boot_counter: int = -1
    """From the session id; -1 before the first frame."""
    samples: tuple[tuple[int, int], ...] = ()
    """(received UTC ms, offset ms), the oldest first, one for each bucket."""

    def observed(self, boot_counter: int, mono_ms: int, *, now: int) -> Self:
        """Return the estimate with one frame more.

        Args:
            boot_counter: of the frame; another than before starts anew.
            mono_ms: what the car's clock showed when it signed.
            now: UTC ms when the frame was received.
        """
        kind = type(self)
        offset = now - mono_ms
        if boot_counter != self.boot_counter:
            return kind(boot_counter, ((now, offset),))
        known = self.samples
        if known and known[-1][0] // BUCKET_MS == now // BUCKET_MS:
            is_better = offset < _aged(known[-1], now)
            if not is_better and abs(now - known[0][0]) <= WINDOW_MS:
                return self
        samples = [s for s in known if abs(now - s[0]) <= WINDOW_MS]
        if not samples or samples[-1][0] // BUCKET_MS != now // BUCKET_MS:
            return kind(boot_counter, (*samples, (now, offset)))
        if offset < _aged(samples[-1], now):
            samples[-1] = (now, offset)
        return kind(boot_counter, tuple(samples))

    def offset_ms(self, *, now: int) -> int | None:
        """Return UTC minus the car's clock in ms, never too small; None without any."""
        least: int | None = None
        # A loop, since it runs for every frame.
        for received, offset in self.samples:
            aged = offset
            if now > received:
                aged += (now - received) * DRIFT_PPM // 1_000_000
            if least is None or aged < least:
                least = aged
        return least

    def car_now_ms(self, *, now: int) -> int | None:
        """Return what the car's clock shows at least; None without any sample."""
        offset = self.offset_ms(now=now)
        return None if offset is None else max(now - offset, 0)

    def utc_of(self, boot_counter: int, mono_ms: int, *, now: int) -> int | None:
        """Return when, in UTC ms, the clock of that boot showed `mono_ms`."""
        offset = self.offset_ms(now=now)
        if offset is None or boot_counter != self.boot_counter:
            return None
        return min(mono_ms + offset, now)


def _aged(sample: tuple[int, int], now: int) -> int:
    received, offset = sample
    return offset + max(now - received, 0) * DRIFT_PPM // 1_000_000


def span_ms(seconds: int) -> int:
    """Return what a car's clock surely shows of a span when it is over (H1)."""
    return seconds * 1000 * (1_000_000 - DRIFT_PPM) // 1_000_000


def life_ms(ttl_limit_ms: int) -> int:
    """Return how long a command is signed to live, given the longest allowed."""
    return ttl_limit_ms - MARGIN_MS
