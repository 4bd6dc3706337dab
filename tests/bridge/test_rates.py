"""Nobody calls the API faster than they may, with a key or without (K28)."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest

from bridge.api.keys import Role
from bridge.api.problems import ProblemError
from bridge.api.rates import BUCKETS_LIMIT, MINUTE_S, Bucket, Rates
from bridge.figures import Figures
from bridge.settings import RateSettings
from certs.fleet import FleetDirectory
from tests.bridge.running import Running
from tests.bridge.test_roles import KEY, ask, bridge_with_roles
from tests.bridge.world import NOW_MS


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@given(
    size=st.integers(1, 50),
    pauses_s=st.lists(st.floats(0, 30), max_size=200),
)
def test_no_rhythm_gets_more_than_a_full_bucket_and_its_refill(
    size: int, pauses_s: list[float]
) -> None:
    bucket, now_s, passed = Bucket(size, 0), 0.0, 0
    for pause_s in pauses_s:
        now_s += pause_s
        bucket, early_s = bucket.take(size, now_s)
        passed += early_s == 0
        if early_s:
            assert bucket.take(size, now_s + early_s + 1e-6)[1] == 0

    assert passed <= size + now_s * size / MINUTE_S + 1


def test_callers_kinds_of_call_and_roles_have_buckets_of_their_own() -> None:
    # K28
    clock, figures = Clock(), Figures()
    settings = RateSettings(calls=5, orders=3, person_orders=1, failures=1)
    rates = Rates(settings, clock_s=clock, figures=figures)

    rates.require_call("anna", Role.OPERATOR, is_order=True)
    with pytest.raises(ProblemError) as refused:
        rates.require_call("anna", Role.OPERATOR, is_order=True)
    assert refused.value.headers == {"Retry-After": "60"}
    rates.require_call("anna", Role.OPERATOR, is_order=False)
    for _ in range(3):
        rates.require_call("billing", Role.SERVICE, is_order=True)
    rates.require_attempt("192.0.2.7")
    with pytest.raises(ProblemError):
        rates.require_attempt("192.0.2.7")
    rates.require_attempt("192.0.2.8")

    clock.now_s += 60
    rates.require_call("anna", Role.OPERATOR, is_order=True)
    told = generate_latest(figures.registry).decode()
    assert 'freefloat_api_limited_total{rate="orders"} 1.0' in told
    assert 'freefloat_api_limited_total{rate="failures"} 1.0' in told
    assert "freefloat_api_unauthenticated_total 3.0" in told


def test_strangers_fill_no_memory() -> None:
    rates = Rates(RateSettings(), clock_s=Clock(), figures=Figures())

    for number in range(BUCKETS_LIMIT + 100):
        rates.require_attempt(str(number))

    assert len(rates._buckets) == BUCKETS_LIMIT


async def tried(running: Running, key: str, times: int) -> list[int]:
    return [(await ask(running, key, "get", "/v1/sinks"))[0] for _ in range(times)]


@pytest.mark.broker
async def test_a_caller_who_is_too_fast_is_told_when_to_come_back(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K28
    now = NOW_MS
    path = "/v1/dead-letters/9/judge"
    rates = RateSettings(calls=5, person_orders=2, failures=3)
    async with bridge_with_roles(
        fleet, tmp_path, rates=rates, now=lambda: now
    ) as running:
        orders = [await ask(running, Role.OPERATOR, "post", path) for _ in range(3)]
        reading = await tried(running, KEY[Role.OPERATOR], 3)
        strange = await tried(running, "s" * 40, 5)
        known = await tried(running, KEY[Role.VIEWER], 1)
        now += 30_000
        again, _ = await ask(running, Role.OPERATOR, "post", path)
        _, page = await ask(running, Role.ADMIN, "get", "/v1/audit")

    assert [status for status, _ in orders] == [404, 404, 429]
    assert orders[2][1]["type"] == "urn:freefloat:problem:too-many-requests"
    # Three orders and two more calls make five.
    assert reading == [200, 200, 429]
    assert strange == [401, 401, 401, 429, 429]
    # Somebody behind the same proxy as the stranger is not locked out.
    assert known == [200]
    assert again == 404
    # What was refused ordered nothing, so it is not in the trail.
    assert len([row for row in page["rows"] if row["asked"] == 0]) == 3
