"""The token bucket: a flood of frames costs a bounded number of signature checks."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.authentication import BUCKET_REFILL_PER_S, BUCKET_SIZE, Bucket
from gateway.core.moment import Moment
from tests.gateway.core.desk import NOW


def _drain(bucket: Bucket, now: Moment) -> tuple[Bucket, int]:
    taken = 0
    while True:
        bucket, allowed = bucket.take(now=now)
        if not allowed:
            return bucket, taken
        taken += 1


def test_flood_bounded_cpu_a_burst_and_then_ten_a_second() -> None:
    # FF-AUTH-07.
    # K23
    bucket, burst = _drain(Bucket(), NOW)
    _bucket, later = _drain(bucket, replace(NOW, boot_ms=NOW.boot_ms + 1_000))

    assert burst == BUCKET_SIZE
    assert later == BUCKET_REFILL_PER_S


@given(st.lists(st.integers(0, 5_000), max_size=300))
def test_flood_bounded_cpu_whatever_the_rhythm(pauses_ms: list[int]) -> None:
    # FF-AUTH-07.
    bucket, boot_ms, taken = Bucket(at_ms=NOW.boot_ms), NOW.boot_ms, 0
    for pause_ms in pauses_ms:
        boot_ms += pause_ms
        bucket, allowed = bucket.take(now=replace(NOW, boot_ms=boot_ms))
        taken += allowed
        assert 0 <= bucket.tokens_milli <= BUCKET_SIZE * 1000

    elapsed_s = (boot_ms - NOW.boot_ms) / 1000
    assert taken <= BUCKET_SIZE + elapsed_s * BUCKET_REFILL_PER_S


@given(st.lists(st.integers(100, 5_000), max_size=100))
def test_a_fleet_that_sends_ten_a_second_is_never_kept_waiting(
    pauses_ms: list[int],
) -> None:
    bucket, boot_ms = Bucket(), NOW.boot_ms
    for pause_ms in pauses_ms:
        boot_ms += pause_ms
        bucket, allowed = bucket.take(now=replace(NOW, boot_ms=boot_ms))
        assert allowed


def test_a_clock_that_stands_still_fills_no_bucket() -> None:
    bucket, _taken = _drain(Bucket(), NOW)

    assert _drain(bucket, NOW)[1] == 0
    assert _drain(bucket, replace(NOW, boot_ms=0))[1] == 0
