"""What the car knows about the time for sure (FF-TIM, I-29)."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.known_time import LAG_LIMIT_MS, LATEST_MS, RELEASED_MS, KnownTime
from gateway.core.moment import Moment
from protocol.codes import ClockQuality

T: Final = RELEASED_MS + 1_000_000_000
YEARS_10_MS: Final = 10 * 365 * 86_400_000


def at(boot_ms: int, *, wall_ms: int = 0) -> Moment:
    return Moment(boot_ms, wall_ms, ClockQuality.NTP)


def test_a_new_car_knows_that_its_program_has_been_released() -> None:
    new = KnownTime()

    assert new.floor(at(5_000_000)) == RELEASED_MS
    assert not new.is_known


def test_the_boot_clock_carries_on_what_the_fleet_has_told() -> None:
    told = KnownTime().learn(T, ClockQuality.SYNC, now=at(1_000))

    assert told.is_known
    assert told.floor(at(61_000)) == T + 60_000


@pytest.mark.parametrize("years_ms", [-YEARS_10_MS, YEARS_10_MS])
def test_wall_clock_plus_minus_10y_changes_nothing(years_ms: int) -> None:
    told = KnownTime().learn(T, ClockQuality.SYNC, now=at(1_000))

    assert told.floor(at(1_000, wall_ms=T + years_ms)) == T


@pytest.mark.parametrize("quality", [ClockQuality.UNSET, ClockQuality.RTC])
def test_who_does_not_know_the_time_tells_nothing(quality: ClockQuality) -> None:
    assert KnownTime().learn(T, quality, now=at(0)) == KnownTime()


def test_a_clock_a_little_behind_tells_the_time_and_moves_nothing_back() -> None:
    floor = KnownTime(T)

    told = floor.learn(T - LAG_LIMIT_MS, ClockQuality.SYNC, now=at(0))

    assert told.is_known
    assert told.floor(at(0)) == T


@pytest.mark.parametrize("wall_ms", [LATEST_MS + 1, 2**63, 2**64 - 1])
def test_a_label_beyond_the_life_of_every_car_tells_nothing(wall_ms: int) -> None:
    # FF-TIM-07. Found beside the fuzzers: it could be neither stored nor undone.
    known = KnownTime(T)

    assert known.learn(wall_ms, ClockQuality.SYNC, now=at(0)) == known
    assert known.at_least(wall_ms, now=at(0)) == known
    assert known.learn(LATEST_MS, ClockQuality.SYNC, now=at(0)).floor_ms == LATEST_MS


def test_a_clock_far_behind_tells_nothing() -> None:
    floor = KnownTime(T)

    for quality in (ClockQuality.SYNC, ClockQuality.GNSS):
        assert floor.learn(T - LAG_LIMIT_MS - 1, quality, now=at(0)) == floor


def test_after_a_power_loss_only_the_floor_is_left() -> None:
    told = KnownTime().learn(T, ClockQuality.SYNC, now=at(1_000))

    left = told.anchored(at(11_000)).after_power_loss()

    assert not left.is_known
    assert left.floor(at(3_600_000)) == T + 10_000


def test_a_date_that_is_past_raises_the_floor_and_tells_no_time() -> None:
    raised = KnownTime().at_least(T, now=at(500))

    assert raised.floor(at(1_500)) == T + 1_000
    assert not raised.is_known
    assert raised.at_least(T, now=at(1_500)) == raised


def test_what_ended_before_the_floor_is_over_even_without_the_time() -> None:
    # A key that was stolen after its end must not work in a car without a clock.
    floor = KnownTime(T)

    assert floor.is_outside(0, T - 1, now=at(0))
    assert not floor.is_outside(0, T, now=at(0))


def test_what_begins_after_the_floor_may_have_begun_until_the_time_is_known() -> None:
    floor = KnownTime(T)
    known = floor.learn(T, ClockQuality.SYNC, now=at(0))

    assert not floor.is_outside(T + 1, T + 2, now=at(0))
    assert known.is_outside(T + 1, T + 2, now=at(0))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**42),
            st.sampled_from(list(ClockQuality)),
            st.integers(0, 10**9),
            st.booleans(),
        )
    )
)
def test_the_floor_never_goes_back(
    told: list[tuple[int, ClockQuality, int, bool]],
) -> None:
    known, boot_ms = KnownTime(), 0
    for wall_ms, quality, later_ms, loses_power in told:
        before = known.floor(at(boot_ms))
        boot_ms += later_ms
        if loses_power:
            known, boot_ms = known.anchored(at(boot_ms)).after_power_loss(), 0
        known = known.learn(wall_ms, quality, now=at(boot_ms))

        assert known.floor(at(boot_ms)) >= before


# -- GNSS, which nobody signs ----------------------------------------------------------


def test_the_sky_tells_the_time_after_a_power_loss_and_the_boot_clock_runs_on() -> None:
    # FF-TIM-01, FF-TIM-08.
    dark = KnownTime(T)
    assert dark.time(at(0)) is None

    seen = dark.learn(T + 5_000, ClockQuality.GNSS, now=at(1_000))

    assert seen.is_known
    assert seen.quality is ClockQuality.GNSS
    assert seen.time(at(1_000)) == T + 5_000
    assert seen.time(at(61_000)) == T + 65_000


@given(st.lists(st.tuples(st.integers(0, 2**43), st.integers(0, 10**7)), min_size=1))
def test_gnss_spoofing_moves_no_floor_and_shuts_no_key_out(
    sky: list[tuple[int, int]],
) -> None:
    # FF-TIM-08: whatever a transmitter beside the car says, however often.
    known, boot_ms = KnownTime(T), 0
    for wall_ms, later_ms in sky:
        boot_ms += later_ms
        now = at(boot_ms)
        known = known.learn(wall_ms, ClockQuality.GNSS, now=now)

        assert known.floor(now) == T
        assert not known.is_outside(T, T, now=now)
        assert not known.is_outside(T + YEARS_10_MS, T + YEARS_10_MS, now=now)
        assert known.is_outside(0, T - 1, now=now)
        best = known.time(now)
        assert best is None or best >= T
        stored = known.anchored(now)
        assert (stored.floor_ms, stored.is_known) == (T, False)


def test_the_fleets_word_ends_what_the_sky_told_and_is_not_changed_by_it() -> None:
    # FF-TIM-09.
    seen = KnownTime(T).learn(T + YEARS_10_MS, ClockQuality.GNSS, now=at(0))

    told = seen.learn(T + 1_000, ClockQuality.SYNC, now=at(2_000))
    again = told.learn(T + YEARS_10_MS, ClockQuality.GNSS, now=at(3_000))

    assert told.time(at(2_000)) == T + 1_000
    assert again == told
    assert told.is_outside(T + 1_001, T + 2_000, now=at(2_000))


def test_a_sky_a_little_behind_the_floor_tells_the_floor() -> None:
    seen = KnownTime(T).learn(T - LAG_LIMIT_MS, ClockQuality.GNSS, now=at(0))

    assert seen.time(at(0)) == T
