"""When a certificate is exchanged: before two thirds of its life (K9)."""

import statistics
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from gateway.uplink.renewal_plan import plan_renewal
from protocol.identity import VehicleId
from tests.broker.pki import DAY, Pki, clock
from transport.tls import read_certificates

CARS = [VehicleId(number.to_bytes(16, "big")) for number in range(1_000)]
LIFE_MS = 90 * 86_400_000


def certificate(
    directory: Path, *, starts: timedelta, ends: timedelta
) -> x509.Certificate:
    identity = Pki(directory, now=clock()).issue("car", starts=starts, ends=ends)
    return read_certificates(identity.certificate)[0]


def shares(leaf: x509.Certificate) -> list[float]:
    """How far into its life each car renews."""
    begin = leaf.not_valid_before_utc.timestamp() * 1000
    life = leaf.not_valid_after_utc.timestamp() * 1000 - begin
    return [(plan_renewal(leaf, car).due_ms - begin) / life for car in CARS]


def test_a_thousand_cars_of_one_day_are_spread_and_all_ask_before_two_thirds(
    tmp_path: Path,
) -> None:
    # FF-ENR-17, K9.
    found = shares(certificate(tmp_path, starts=-DAY, ends=89 * DAY))

    assert all(11 / 20 < share <= 13 / 20 for share in found)
    # Evenly: a tenth of the cars in each tenth of the span, give or take.
    tenths = statistics.quantiles(found, n=10)
    for number, share in enumerate(tenths, start=1):
        assert abs(share - (11 / 20 + number / 100)) < 0.01


def test_a_car_that_restarts_finds_the_same_instant(tmp_path: Path) -> None:
    leaf = certificate(tmp_path, starts=-DAY, ends=89 * DAY)

    assert plan_renewal(leaf, CARS[7]) == plan_renewal(leaf, CARS[7])
    assert plan_renewal(leaf, CARS[7]) != plan_renewal(leaf, CARS[8])


def test_after_an_outage_of_a_third_of_the_life_the_next_attempt_comes_in_time(
    tmp_path: Path,
) -> None:
    # FF-ENR-17, K9: whenever it begins, and with the longest wait between attempts.
    leaf = certificate(tmp_path, starts=-DAY, ends=89 * DAY)
    for car in CARS:
        plan = plan_renewal(leaf, car)
        assert plan.due_ms + LIFE_MS // 3 + plan.longest_wait_ms < plan.expires_ms


def test_the_plan_knows_when_the_certificate_ends(tmp_path: Path) -> None:
    leaf = certificate(tmp_path, starts=-DAY, ends=DAY)

    ends = datetime.fromtimestamp(
        plan_renewal(leaf, CARS[0]).expires_ms / 1000,
        tz=leaf.not_valid_after_utc.tzinfo,
    )

    assert ends == leaf.not_valid_after_utc
