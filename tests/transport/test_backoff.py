import pytest
from hypothesis import given
from hypothesis import strategies as st

from transport.backoff import Backoff, BackoffError


def test_delays_double_up_to_the_maximum() -> None:
    backoff = Backoff(initial_s=1, factor=2, maximum_s=60, jitter=0)

    delays = [backoff.delay_s(n, random=lambda: 0.9) for n in range(1, 9)]

    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]


def test_jitter_spreads_a_fleet_over_half_of_the_delay() -> None:
    # K22.
    backoff = Backoff(initial_s=10, maximum_s=10, jitter=0.5)

    assert backoff.delay_s(1, random=lambda: 0.0) == 10
    assert backoff.delay_s(1, random=lambda: 1.0) == 5


@given(
    failures=st.integers(min_value=0, max_value=10**9),
    share=st.floats(min_value=0, max_value=1),
)
def test_no_number_of_failures_overflows_or_exceeds_the_maximum(
    failures: int, share: float
) -> None:
    delay = Backoff().delay_s(failures, random=lambda: share)

    assert 0 < delay <= 60


@pytest.mark.parametrize(
    ("initial_s", "factor", "maximum_s", "jitter", "complaint"),
    [
        (0, 2, 60, 0.5, "initial_s 0 is not above 0"),
        (61, 2, 60, 0.5, "at most maximum_s 60"),
        (1, 0.5, 60, 0.5, "factor 0.5 is below 1"),
        (1, 2, 60, 1.5, "jitter 1.5 is not within 0 and 1"),
        (1, float("inf"), 60, 0.5, "not all finite"),
    ],
)
def test_values_that_contradict_one_another_are_refused(
    initial_s: float, factor: float, maximum_s: float, jitter: float, complaint: str
) -> None:
    with pytest.raises(BackoffError, match=complaint):
        Backoff(initial_s=initial_s, factor=factor, maximum_s=maximum_s, jitter=jitter)
