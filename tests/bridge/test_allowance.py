"""A car's token bucket: neither more than its rate, nor less (I-31, K23)."""

from hypothesis import given
from hypothesis import strategies as st

from bridge import allowance
from bridge.allowance import Allowance, Rate
from protocol.identity import VehicleId

CAR, OTHER = VehicleId(b"c" * 16), VehicleId(b"o" * 16)

RATES = st.builds(
    Rate,
    per_s=st.sampled_from([0.5, 1.0, 3.0, 10.0, 1000.0]),
    burst=st.integers(1, 50),
)
STEPS = st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=200)


@given(rate=RATES, steps=STEPS)
def test_in_any_span_a_car_gets_its_burst_and_its_rate_and_no_more(
    rate: Rate, steps: list[float]
) -> None:
    """I-31 (P): over every span of time, not from the start alone."""
    bucket, now_s, taken = Allowance(rate), 0.0, []
    for step in steps:
        now_s += step
        if bucket.take(CAR, now_s=now_s):
            taken.append(now_s)

    for first, begun_s in enumerate(taken):
        for last in range(first, len(taken)):
            most = rate.burst + rate.per_s * (taken[last] - begun_s)
            assert last - first + 1 <= most + 1e-3


@given(rate=RATES, steps=STEPS)
def test_who_is_told_to_wait_gets_a_token_then_and_not_before(
    rate: Rate, steps: list[float]
) -> None:
    bucket, now_s = Allowance(rate), 0.0
    for step in steps:
        now_s += step
        wait_s = bucket.wait_s(CAR, now_s=now_s)
        assert 0 <= wait_s <= 1 / rate.per_s + 1e-6
        assert not wait_s or not bucket.take(CAR, now_s=now_s)
        now_s += wait_s + 1e-9 * max(now_s, 1)
        assert bucket.take(CAR, now_s=now_s)


@given(rate=RATES, flood=st.integers(0, 500))
def test_a_flood_of_one_car_takes_nothing_from_another(rate: Rate, flood: int) -> None:
    bucket = Allowance(rate)
    granted = sum(bucket.take(CAR, now_s=1.0) for _ in range(flood))

    assert granted == min(flood, rate.burst)
    assert sum(bucket.take(OTHER, now_s=1.0) for _ in range(100)) == min(
        100, rate.burst
    )


def test_a_full_bucket_takes_no_memory() -> None:
    """I-31: names that somebody invents are forgotten."""
    bucket = Allowance(Rate(per_s=1.0, burst=2))

    for number in range(3 * allowance.SWEEP_AT):
        bucket.take(VehicleId(number.to_bytes(16, "big")), now_s=number / 100)

    assert len(bucket) <= 2 * allowance.SWEEP_AT
