"""When a certificate is exchanged: at two thirds of its life, and a bit (K9)."""

import statistics
from datetime import datetime, timedelta
from fractions import Fraction
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


def test_a_thousand_cars_of_one_day_are_spread_over_a_tenth_of_the_life(
    tmp_path: Path,
) -> None:
    found = shares(certificate(tmp_path, starts=-DAY, ends=89 * DAY))

    assert all(2 / 3 <= share < 2 / 3 + 1 / 10 for share in found)
    # Evenly: a tenth of the cars in each tenth of the span, give or take.
    tenths = statistics.quantiles(found, n=10)
    for number, share in enumerate(tenths, start=1):
        assert abs(share - (2 / 3 + number / 100)) < 0.01


def test_a_car_that_restarts_finds_the_same_instant(tmp_path: Path) -> None:
    leaf = certificate(tmp_path, starts=-DAY, ends=89 * DAY)

    assert plan_renewal(leaf, CARS[7]) == plan_renewal(leaf, CARS[7])
    assert plan_renewal(leaf, CARS[7]) != plan_renewal(leaf, CARS[8])


def test_a_year_of_a_thousand_cars_survives_a_ca_that_is_away_for_seven_thirtieths(
    tmp_path: Path,
) -> None:
    # K9: what is left after two thirds and the jitter. A longer outage ends
    # certificates, and the grace path brings those cars back (`test_renewal`).
    leaf = certificate(tmp_path, starts=-DAY, ends=89 * DAY)
    begin_ms = int(leaf.not_valid_before_utc.timestamp()) * 1000
    year_ms = 365 * 86_400_000
    away_ms = LIFE_MS * Fraction(7, 30)
    for away_from_ms in range(0, LIFE_MS, 86_400_000 * 5):
        for car in CARS[::10]:
            age_ms = plan_renewal(leaf, car).due_ms - begin_ms
            issued_ms = -(car.raw[-1] * LIFE_MS // 256)  # enrolled on different days
            while issued_ms < year_ms:
                due_ms = issued_ms + age_ms
                if away_from_ms <= due_ms < away_from_ms + away_ms:
                    due_ms = int(away_from_ms + away_ms)
                assert due_ms <= issued_ms + LIFE_MS
                issued_ms = due_ms


def test_the_plan_knows_when_the_certificate_ends(tmp_path: Path) -> None:
    leaf = certificate(tmp_path, starts=-DAY, ends=DAY)

    ends = datetime.fromtimestamp(
        plan_renewal(leaf, CARS[0]).expires_ms / 1000,
        tz=leaf.not_valid_after_utc.tzinfo,
    )

    assert ends == leaf.not_valid_after_utc
