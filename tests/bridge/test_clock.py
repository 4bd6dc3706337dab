"""The estimate of a car's clock is never ahead of it (protocol-design.md 1.3)."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import machine_clock
from bridge.clock import COURSES_MOST, MARGIN_MS, WINDOW_MS, ClockEstimate, life_ms
from bridge.instant import Instant

UTC = 1_700_000_000_000
"""When the cars of these tests were switched on."""

UP = 40_000_000
"""What the boot clock of the bridge's machine showed then."""


def at(true_ms: int, *, wrong_ms: int = 0, machine: str = "one") -> Instant:
    """Return how a machine shows an instant whose wall clock is wrong by so much."""
    up_ms = UP if machine == "one" else 9_000
    return Instant(UTC + true_ms + wrong_ms, up_ms + true_ms, machine)


@given(
    st.lists(
        st.tuples(
            st.integers(1, 120_000),
            st.integers(0, 60_000),
            st.sampled_from(("one", "two")),
            st.integers(-3_600_000, 3_600_000),
        ),
        min_size=1,
        max_size=60,
    ),
    st.integers(-50, 50),
)
def test_the_estimate_is_never_ahead_whatever_delays_drift_and_wall_clocks(
    frames: list[tuple[int, int, str, int]], ppm: int
) -> None:
    # FF-FRE-29, I-29: either bridge hears a frame, and wall clocks are set at will.
    estimate, true_ms = ClockEstimate(), 0

    for gap_ms, delay_ms, machine, wrong_ms in frames:
        true_ms += gap_ms
        mono_ms = true_ms + true_ms * ppm // 1_000_000
        received = at(true_ms + delay_ms, wrong_ms=wrong_ms, machine=machine)
        estimate = estimate.observed(1, mono_ms, at=received)

        car_now = estimate.car_now_ms(at=received)
        shown = true_ms + delay_ms
        truth = shown + shown * ppm // 1_000_000
        assert car_now is not None
        # Rounding of the drift, and what a fast crystal gains in the window.
        assert car_now <= truth + 1 + max(ppm, 0) * WINDOW_MS // 1_000_000
    assert len(estimate.courses) <= 2
    assert all(len(course.samples) <= 22 for course in estimate.courses)


@pytest.mark.parametrize("wrong_ms", [-76_000, -10_000, 10_000, 76_000])
def test_a_wall_clock_that_is_put_right_moves_no_estimate(wrong_ms: int) -> None:
    """I-29: samples from before the step count after it, and are as true."""
    estimate = ClockEstimate()
    for second in range(0, 300, 10):
        when = at(second * 1_000 + 40, wrong_ms=wrong_ms)
        estimate = estimate.observed(1, second * 1_000, at=when)

    # Put right, and the next frame is a slow one.
    late = estimate.observed(1, 300_000, at=at(303_000))

    for known in (estimate, late):
        car_now = known.car_now_ms(at=at(303_000))
        assert car_now is not None
        assert 302_900 <= car_now <= 303_000
        told_ms = known.utc_of(1, 200_000, at=at(303_000))
        assert told_ms is not None
        assert UTC + 200_000 <= told_ms <= UTC + 200_100


@pytest.mark.parametrize("wrong_ms", [-76_000, 76_000])
def test_a_bridge_that_starts_anew_goes_on_with_its_machines_samples(
    wrong_ms: int,
) -> None:
    """I-29: the step came while it was down; the row holds what was sampled before."""
    row = msgspec.json.encode(
        ClockEstimate().observed(1, 5_000, at=at(5_040, wrong_ms=wrong_ms))
    )

    estimate = msgspec.json.decode(row, type=ClockEstimate)

    assert estimate.car_now_ms(at=at(65_000)) == 65_000 - 40 - 5


@pytest.mark.parametrize("wrong_ms", [-76_000, 8_000])
def test_a_bridge_whose_machine_booted_goes_by_the_wall_until_it_hears_the_car(
    wrong_ms: int,
) -> None:
    estimate = ClockEstimate().observed(1, 5_000, at=at(5_000, wrong_ms=wrong_ms))

    # Nothing else is common to the two boot clocks: if it was wrong, so is this.
    wrong = estimate.car_now_ms(at=at(9_000, machine="anew"))
    assert wrong is not None
    assert abs(wrong - (9_000 - wrong_ms)) <= 10
    right = estimate.car_now_ms(at=at(9_000, wrong_ms=wrong_ms, machine="anew"))
    assert right == 9_000

    heard = estimate.observed(1, 10_000, at=at(10_000, machine="anew"))
    assert heard.car_now_ms(at=at(11_000, machine="anew")) == 11_000


def test_a_bridge_with_a_wrong_clock_spoils_no_other_ones_estimate() -> None:
    """I-29, FF-FRE-29: both hear the car; each goes by what it heard itself."""
    estimate = ClockEstimate()
    for second in range(0, 120, 10):
        slow = at(second * 1_000, wrong_ms=-30_000, machine="two")
        right = at(second * 1_000 + 5_000)
        estimate = estimate.observed(1, second * 1_000, at=slow)
        estimate = estimate.observed(1, second * 1_000 + 4_990, at=right)

    one = estimate.car_now_ms(at=at(120_000))
    two = estimate.car_now_ms(at=at(120_000, wrong_ms=-30_000, machine="two"))
    assert one is not None
    assert two is not None
    assert 119_900 <= one <= 120_000
    assert 119_900 <= two <= 120_000


def test_a_bridge_that_has_not_heard_for_long_goes_by_who_has() -> None:
    estimate = ClockEstimate().observed(1, 0, at=at(9_000))
    estimate = estimate.observed(1, 60_000, at=at(60_000, machine="two"))

    # Its own sample is late by 9 s, and still safer than another's wall clock.
    assert estimate.car_now_ms(at=at(61_000)) == 61_000 - 9_000 - 5
    # After ten minutes it says less than the other's.
    later = WINDOW_MS + 10_000
    aged = (later - 60_000) * 100 // 1_000_000
    assert estimate.car_now_ms(at=at(later)) == later - aged


def test_the_step_of_another_bridge_is_known_with_its_next_frame() -> None:
    estimate = ClockEstimate().observed(1, 0, at=at(0, wrong_ms=-30_000, machine="two"))
    assert estimate.car_now_ms(at=at(1_000)) == 31_000 - 3

    # Put right there; the frame is no better sample, and in the same half minute.
    estimate = estimate.observed(1, 2_000, at=at(2_500, machine="two"))

    assert estimate.car_now_ms(at=at(3_000)) == 3_000


def test_few_boot_clocks_are_remembered_and_the_newest_of_them() -> None:
    estimate = ClockEstimate()
    for number in range(COURSES_MOST + 3):
        estimate = estimate.observed(
            1, number, at=Instant(UTC + number, number, f"machine {number}")
        )

    marks = [course.boot_mark for course in estimate.courses]
    assert marks == [f"machine {number}" for number in range(3, COURSES_MOST + 3)]


def test_what_was_written_down_without_a_boot_clock_is_no_sample() -> None:
    estimate = ClockEstimate().observed(1, 0, at=at(40))

    assert estimate.observed(1, 1_000, at=Instant.written(UTC + 1_000)) is estimate
    assert estimate.utc_of(1, 1_000, at=Instant.written(UTC + 9_000)) == UTC + 1_040


def test_the_least_delayed_frame_of_the_window_decides() -> None:
    estimate = ClockEstimate()
    for second, delay_ms in enumerate((900, 30, 4_000)):
        when = at(second * 1_000 + delay_ms)
        estimate = estimate.observed(1, second * 1_000, at=when)

    assert estimate.car_now_ms(at=at(6_000)) in {6_000 - 30, 6_000 - 31}


def test_an_estimate_loses_trust_as_it_ages() -> None:
    estimate = ClockEstimate().observed(1, 0, at=at(0))

    assert estimate.car_now_ms(at=at(100_000)) == 100_000 - 10


def test_old_samples_are_forgotten() -> None:
    estimate = ClockEstimate().observed(1, 0, at=at(0))
    later = at(WINDOW_MS + 1)

    estimate = estimate.observed(1, WINDOW_MS - 500, at=later)

    (course,) = estimate.courses
    assert course.samples == ((later.boot_ms, UP + 501),)


def test_a_frame_that_says_nothing_new_changes_nothing() -> None:
    estimate = ClockEstimate().observed(1, 0, at=at(40))

    assert estimate.observed(1, 1_000, at=at(1_050)) is estimate


def test_another_boot_begins_anew() -> None:
    estimate = ClockEstimate().observed(1, 9_000_000, at=at(0))

    estimate = estimate.observed(2, 5_000, at=at(10_000))

    assert estimate.car_now_ms(at=at(10_000)) == 5_000
    assert estimate.utc_of(1, 9_000_000, at=at(10_000)) is None


def test_commands_live_less_than_the_cap() -> None:
    # FF-FRE-28.
    assert life_ms(10_000) == 10_000 - MARGIN_MS


def test_without_a_frame_there_is_no_estimate() -> None:
    assert ClockEstimate().car_now_ms(at=at(0)) is None
    assert ClockEstimate().utc_of(1, 0, at=at(0)) is None


def test_a_boot_mark_is_the_same_for_all_who_read_one_boot_clock(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("proc")
    boot_id, offsets = folder / "boot_id", folder / "offsets"
    monkeypatch.setattr(machine_clock, "BOOT_ID", boot_id)
    monkeypatch.setattr(machine_clock, "OFFSETS", offsets)

    # A kernel that does not say: each process for itself.
    assert machine_clock.boot_mark() != machine_clock.boot_mark()

    boot_id.write_text("a2c9\n")
    mark = machine_clock.boot_mark()
    assert mark == machine_clock.boot_mark()
    assert len(mark) == 16

    # A container whose boot clock is another one.
    offsets.write_text("boottime 86400 0\n")
    assert machine_clock.boot_mark() != mark
    boot_id.write_text("77f0\n")
    offsets.unlink()
    assert machine_clock.boot_mark() != mark
