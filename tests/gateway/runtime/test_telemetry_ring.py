"""Samples of an outage: bounded, thinned, newest first, and losses that show."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.moment import Moment
from gateway.core.state import State
from gateway.core.telemetry import sample_of
from gateway.runtime.telemetry_ring import AGE_LIMIT_MS, TelemetryRing
from protocol.codes import ClockQuality, RentalMode
from protocol.telemetry import SAMPLES_LIMIT, TELEMETRY, Sample

PERIOD_MS = 10_000
PLAIN = sample_of(State(), None, age_ms=0)


def at(boot_ms: int) -> Moment:
    return Moment(boot_ms, 0, ClockQuality.UNSET)


def numbered(number: int, mode: RentalMode = RentalMode.AVAILABLE) -> Sample:
    return replace(PLAIN, odometer_m=number, mode=mode)


def filled(count: int, *, limit: int = 240) -> TelemetryRing:
    ring = TelemetryRing(limit)
    for number in range(count):
        ring.keep(numbered(number), now=at(number * PERIOD_MS))
    return ring


def test_what_waited_goes_newest_first_in_frames_that_read_forwards() -> None:
    # FF-TEL-03.
    ring = filled(70)

    frames, lost = ring.hand_over(now=at(69 * PERIOD_MS))

    told = [[sample.odometer_m for sample in frame.samples] for frame in frames]
    assert told == [list(range(40, 70)), list(range(10, 40)), list(range(10))]
    assert [frame.samples[-1].age_ds for frame in frames] == [0, 3_000, 6_000]
    assert lost == 0
    assert ring.hand_over(now=at(0)) == ((), 0)
    for frame in frames:
        assert TELEMETRY.parse(TELEMETRY.build(frame)) == frame


def test_the_older_half_is_thinned_and_the_newer_is_whole() -> None:
    ring = filled(60, limit=40)

    frames, lost = ring.hand_over(now=at(60 * PERIOD_MS))

    told = [s.odometer_m for frame in reversed(frames) for s in frame.samples]
    assert len(told) <= 40
    assert told[-20:] == list(range(40, 60))
    assert told[0] == 0
    assert lost == 0


def test_changes_of_state_survive_thinning() -> None:
    ring = TelemetryRing(40)
    for number in range(200):
        mode = RentalMode.DRIVING if number == 13 else RentalMode.AVAILABLE
        ring.keep(numbered(number, mode), now=at(number * PERIOD_MS))

    frames, lost = ring.hand_over(now=at(200 * PERIOD_MS))

    told = {s.odometer_m: s.mode for frame in frames for s in frame.samples}
    assert told[13] is RentalMode.DRIVING
    assert 14 in told
    assert lost == 0


def test_what_is_too_old_to_date_is_lost_and_counted() -> None:
    ring = filled(3)

    frames, lost = ring.hand_over(now=at(AGE_LIMIT_MS + PERIOD_MS))

    assert [s.odometer_m for s in frames[0].samples] == [1, 2]
    assert frames[0].samples[0].age_ds == 0xFFFF
    assert lost == 1


def test_samples_that_all_are_changes_are_lost_from_the_old_end() -> None:
    ring = TelemetryRing(40)
    modes = [RentalMode.STOPPED, RentalMode.DRIVING]
    for number in range(100):
        ring.keep(numbered(number, modes[number % 2]), now=at(number))

    frames, lost = ring.hand_over(now=at(100))

    told = [s.odometer_m for frame in reversed(frames) for s in frame.samples]
    assert told == list(range(60, 100))
    assert lost == 60


@given(
    modes=st.lists(st.sampled_from(RentalMode), max_size=400),
    limit=st.integers(2, 100),
)
def test_whatever_comes_the_ring_is_bounded_and_in_order(
    modes: list[RentalMode], limit: int
) -> None:
    ring = TelemetryRing(limit)
    for number, mode in enumerate(modes):
        ring.keep(numbered(number, mode), now=at(number))
        assert len(ring) <= limit

    frames, _ = ring.hand_over(now=at(len(modes)))

    told = [s.odometer_m or 0 for frame in reversed(frames) for s in frame.samples]
    assert told == sorted(set(told))
    assert all(1 <= len(frame.samples) <= SAMPLES_LIMIT for frame in frames)
    if modes:
        assert told[-1] == len(modes) - 1
