"""The estimate of a car's clock is never ahead of it (protocol-design.md 1.3)."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.clock import MARGIN_MS, WINDOW_MS, ClockEstimate, life_ms

OFFSET = 1_700_000_000_000


@given(
    st.lists(
        st.tuples(st.integers(1, 120_000), st.integers(0, 60_000)),
        min_size=1,
        max_size=60,
    ),
    st.integers(-50, 50),
)
def test_the_estimate_is_never_ahead_whatever_the_delays_and_the_drift(
    frames: list[tuple[int, int]], ppm: int
) -> None:
    # FF-FRE-29.
    estimate, true_ms = ClockEstimate(), 0

    for gap_ms, delay_ms in frames:
        true_ms += gap_ms
        mono_ms = true_ms + true_ms * ppm // 1_000_000
        received_ms = OFFSET + true_ms + delay_ms
        estimate = estimate.observed(1, mono_ms, now=received_ms)

        car_now = estimate.car_now_ms(now=received_ms)
        shown = true_ms + delay_ms
        truth = shown + shown * ppm // 1_000_000
        assert car_now is not None
        # Rounding of the drift, and what a fast crystal gains in the window.
        assert car_now <= truth + 1 + max(ppm, 0) * WINDOW_MS // 1_000_000
    assert len(estimate.samples) <= 22


def test_the_least_delayed_frame_of_the_window_decides() -> None:
    estimate = ClockEstimate()
    for second, delay_ms in enumerate((900, 30, 4_000)):
        now = OFFSET + second * 1000 + delay_ms
        estimate = estimate.observed(1, second * 1000, now=now)

    assert estimate.offset_ms(now=OFFSET + 6_000) in {OFFSET + 30, OFFSET + 31}


def test_an_estimate_loses_trust_as_it_ages() -> None:
    estimate = ClockEstimate().observed(1, 0, now=OFFSET)

    assert estimate.offset_ms(now=OFFSET + 100_000) == OFFSET + 10


def test_old_samples_are_forgotten() -> None:
    estimate = ClockEstimate().observed(1, 0, now=OFFSET)
    later = OFFSET + WINDOW_MS + 1

    estimate = estimate.observed(1, WINDOW_MS - 500, now=later)

    assert estimate.samples == ((later, OFFSET + 501),)


def test_another_boot_begins_anew() -> None:
    estimate = ClockEstimate().observed(1, 9_000_000, now=OFFSET)

    estimate = estimate.observed(2, 5_000, now=OFFSET + 10_000)

    assert estimate.car_now_ms(now=OFFSET + 10_000) == 5_000
    assert estimate.utc_of(1, 9_000_000, now=OFFSET + 10_000) is None


def test_commands_live_less_than_the_cap() -> None:
    # FF-FRE-28.
    assert life_ms(10_000) == 10_000 - MARGIN_MS


def test_without_a_frame_there_is_no_estimate() -> None:
    assert ClockEstimate().car_now_ms(now=OFFSET) is None
