"""What a car's boot clock shows now, as far as the bridge can know.

A command dies by the car's clock (protocol-design.md 1.3), so the bridge must know it
without asking. Every signed frame says what the clock showed when it was signed; it
arrived later than that by an unknown delay. Hence ``received - mono`` is never less
than the true offset, and the smallest of many is the best. Estimating from it puts
the car's clock at or behind the truth: delay, or a broker that holds frames back, can
only make a command die *earlier*.

A minimum over a whole session would not be safe: a car's clock that is 50 ppm slow
drifts 4.3 s a day. So samples live for ten minutes and lose trust as they age.

``received`` is a reading of the bridge's own boot clock. A wall clock that is set
forward would make all earlier samples too small, and the estimate run ahead of the car
for as long as they live; between two bridges whose wall clocks differ it would for as
long as they differ. So samples stay with the boot clock that they were taken by, one
`Course` for each, and a bridge believes its own (ADR 28). Only a bridge that has not
heard a car itself goes by what another one heard, and then wall clocks are all that the
two have in common.
"""

from typing import Final, Self

import msgspec

from bridge.instant import Instant

WINDOW_MS: Final = 600_000
"""How long a sample counts: the drift within it is at most 30 ms at 50 ppm."""

BUCKET_MS: Final = 30_000
"""One smallest sample is kept for each 30 s, so at most 21 in all."""

DRIFT_PPM: Final = 100
"""By how much a sample's offset is raised as it ages: twice what a cheap crystal drifts
within a car's temperatures (assumed)."""

MARGIN_MS: Final = 500
"""Taken off a command's life, so that an error of the estimate in the other direction
(a boot clock that NTP slews, a replica's wall clock) does not make it live too long."""

COURSES_MOST: Final = 4
"""Boot clocks of which samples are kept, the newest: more bridges than that seldom hear
one car within ten minutes, and each costs some 400 bytes of its row."""

SLACK_MS: Final = 50
"""How far a wall clock may move before a course notes it without a better sample."""


class Course(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Samples by one boot clock."""

    boot_mark: str
    """Whose boot clock: which boot of which machine."""
    ahead_ms: int
    """By how much that machine's wall clock showed more when it last heard the car."""
    samples: tuple[tuple[int, int], ...]
    """(received ms of that boot clock, offset ms), the oldest first, one for each
    bucket."""

    def observed(self, mono_ms: int, at: Instant) -> Self:
        """Return the course with one frame more; itself if that says nothing new."""
        received, offset = at.boot_ms, at.boot_ms - mono_ms
        known = self.samples
        is_same = known[-1][0] // BUCKET_MS == received // BUCKET_MS
        if is_same and offset >= _aged(known[-1], received):
            is_fresh = abs(received - known[0][0]) <= WINDOW_MS
            if is_fresh and abs(at.ahead_ms - self.ahead_ms) <= SLACK_MS:
                return self
        samples = [s for s in known if abs(received - s[0]) <= WINDOW_MS]
        if not samples or samples[-1][0] // BUCKET_MS != received // BUCKET_MS:
            samples.append((received, offset))
        elif offset < _aged(samples[-1], received):
            samples[-1] = (received, offset)
        return type(self)(self.boot_mark, at.ahead_ms, tuple(samples))

    def offset_ms(self, boot_ms: int) -> int:
        """Return its boot clock minus the car's in ms, never too small."""
        least: int | None = None
        # A loop, since it runs for every frame.
        for received, offset in self.samples:
            aged = offset
            if boot_ms > received:
                aged += (boot_ms - received) * DRIFT_PPM // 1_000_000
            if least is None or aged < least:
                least = aged
        return 0 if least is None else least


class ClockEstimate(msgspec.Struct, frozen=True, gc=False):
    """Samples of the clock of one boot of a car; a value.

    Sessions of one boot share the clock, so an estimate outlives a reconnect.
    """

    boot_counter: int = -1
    """From the session id; -1 before the first frame."""
    courses: tuple[Course, ...] = ()
    """One for each boot clock of a bridge; whose frame came last is last."""

    def observed(self, boot_counter: int, mono_ms: int, *, at: Instant) -> Self:
        """Return the estimate with one frame more.

        Args:
            boot_counter: of the frame; another than before starts anew.
            mono_ms: what the car's clock showed when it signed.
            at: when the frame was received. One of which only UTC is known adds
                nothing.
        """
        if not at.boot_mark:
            return self
        kind, known = type(self), self.courses
        if boot_counter != self.boot_counter:
            known = ()
        if known and known[-1].boot_mark == at.boot_mark:
            own = known[-1].observed(mono_ms, at)
            return self if own is known[-1] else kind(boot_counter, (*known[:-1], own))
        earlier = _course(known, at.boot_mark)
        if earlier is None:
            sample = (at.boot_ms, at.boot_ms - mono_ms)
            own = Course(at.boot_mark, at.ahead_ms, (sample,))
        else:
            own = earlier.observed(mono_ms, at)
        others = [one for one in known if one is not earlier]
        return kind(boot_counter, (*others[1 - COURSES_MOST :], own))

    def car_now_ms(self, *, at: Instant) -> int | None:
        """Return what the car's clock shows at least; None without any sample."""
        if not self.courses:
            return None
        course, ahead_ms = self._believed(at)
        boot_ms = at.utc_ms - ahead_ms
        return max(boot_ms - course.offset_ms(boot_ms), 0)

    def utc_of(self, boot_counter: int, mono_ms: int, *, at: Instant) -> int | None:
        """Return when, in UTC ms, the clock of that boot showed `mono_ms`."""
        if not self.courses or boot_counter != self.boot_counter:
            return None
        course, ahead_ms = self._believed(at)
        offset_ms = course.offset_ms(at.utc_ms - ahead_ms) + ahead_ms
        return min(mono_ms + offset_ms, at.utc_ms)

    def _believed(self, at: Instant) -> tuple[Course, int]:
        """Return the course to go by, and how far UTC is ahead of its boot clock."""
        newest = self.courses[-1]
        own = newest
        if newest.boot_mark != at.boot_mark:
            found = _course(self.courses, at.boot_mark)
            if found is None or at.boot_ms - found.samples[-1][0] > WINDOW_MS:
                return newest, newest.ahead_ms
            own = found
        return own, at.ahead_ms


def _course(courses: tuple[Course, ...], boot_mark: str) -> Course | None:
    return next((one for one in courses if one.boot_mark == boot_mark), None)


def _aged(sample: tuple[int, int], boot_ms: int) -> int:
    received, offset = sample
    return offset + max(boot_ms - received, 0) * DRIFT_PPM // 1_000_000


def span_ms(seconds: int) -> int:
    """Return what a car's clock surely shows of a span when it is over (H1)."""
    return seconds * 1000 * (1_000_000 - DRIFT_PPM) // 1_000_000


def life_ms(ttl_limit_ms: int) -> int:
    """Return how long a command is signed to live, given the longest allowed."""
    return ttl_limit_ms - MARGIN_MS
