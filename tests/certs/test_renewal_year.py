"""A year of a thousand cars and an authority that is down now and then (K9).

Time is virtual. The cars' side is the gateway's own plan, the authority's side its own
rules; what is left out is the signing, which has tests of its own. Outages and garages
follow from a fixed seed.
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from certs.authority import new_tls_key
from certs.profiles import BACKDATING, VEHICLE_TLS_LIFETIME
from certs.renewal_rules import GRACE_PERIOD, may_reenroll, may_use_grace
from gateway.uplink.renewal_plan import plan_renewal
from protocol.identity import VehicleId

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
LIFE: Final = VEHICLE_TLS_LIFETIME + BACKDATING
RETRY: Final = LIFE / 90
"""What the plan allows at most (`gateway.uplink.renewal_plan`)."""
CARS: Final = 1_000


@dataclass
class Authority:
    """The rules, and when it is down."""

    outages: list[tuple[datetime, datetime]]
    signed: list[datetime] = field(default_factory=list)

    def is_up(self, now: datetime) -> bool:
        return not any(begin <= now < end for begin, end in self.outages)


@dataclass
class Car:
    """What a car holds, and when it has a network."""

    vehicle_id: VehicleId
    begin: datetime
    garage: tuple[datetime, datetime] | None = None
    without: timedelta = timedelta(0)
    """How long it had a network and no valid certificate."""
    by_grace: int = 0

    @property
    def end(self) -> datetime:
        return self.begin + LIFE

    def due(self, share_of_life: timedelta) -> datetime:
        return self.begin + share_of_life

    def back_from_garage(self, now: datetime) -> datetime:
        """When it has a network again; now, if it has one."""
        if self.garage is None or not self.garage[0] <= now < self.garage[1]:
            return now
        return self.garage[1]


def shares() -> dict[VehicleId, timedelta]:
    """When in its life each car renews, by the gateway's own plan for a certificate."""
    key = new_tls_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(START + LIFE)
        .sign(key, hashes.SHA256())
    )
    cars = [VehicleId(number.to_bytes(16, "big")) for number in range(CARS)]
    return {
        car: timedelta(
            milliseconds=plan_renewal(leaf, car).due_ms - START.timestamp() * 1000
        )
        for car in cars
    }


def live(cars: list[Car], authority: Authority) -> None:
    """Let a year pass; a car that is due tries as rarely as it may."""
    share = shares()
    for car in cars:
        now = max(START, car.due(share[car.vehicle_id]))
        while now < START + 365 * DAY:
            now = car.back_from_garage(now)
            tried = now
            while not authority.is_up(now):
                now += RETRY
            valid = may_reenroll(car.begin, car.end, now=now)
            if not valid:
                car.without += now - max(car.end, tried)
                if not may_use_grace(car.end, None, now=now):
                    break
                car.by_grace += 1
            car.begin = now - BACKDATING
            authority.signed.append(now)
            now = car.due(share[car.vehicle_id])


def fleet() -> list[Car]:
    """Enrolled over a week, as a production line does."""
    return [
        Car(car, START - BACKDATING - number * timedelta(minutes=10))
        for number, car in enumerate(shares())
    ]


def outages(length: timedelta) -> list[tuple[datetime, datetime]]:
    """Six in a year, anywhere."""
    chance = random.Random(9)  # noqa: S311 - a fixed sequence, not a secret
    begins = sorted(
        START + month * 60 * DAY + chance.random() * 30 * DAY for month in range(6)
    )
    return [(begin, begin + length) for begin in begins]


def test_a_year_without_outages_keeps_every_car_connected_and_spreads_the_load() -> (
    None
):
    cars, authority = fleet(), Authority([])

    live(cars, authority)

    assert max(car.without for car in cars) == timedelta(0)
    assert sum(car.by_grace for car in cars) == 0
    per_car = len(authority.signed) / CARS
    assert 365 / 14 < per_car < 365 / 8
    days = Counter((moment - START).days for moment in authority.signed)
    assert max(count for day, count in days.items() if day) < CARS / 4


def test_outages_of_a_third_of_the_life_cost_no_car_its_session() -> None:
    # Row 34 (authority down).
    # FF-ENR-17, K9.
    cars, authority = fleet(), Authority(outages(LIFE / 3))

    live(cars, authority)

    assert max(car.without for car in cars) == timedelta(0)
    assert sum(car.by_grace for car in cars) == 0


def test_an_outage_that_begins_when_the_last_car_asks_harms_no_car() -> None:
    # K9: the worst time for the fleet, again and again for a year.
    share = shares()
    cars = fleet()
    last = max(cars, key=lambda car: share[car.vehicle_id])
    begins, due = [], last.due(share[last.vehicle_id])
    while due < START + 365 * DAY:
        begins.append(due)
        due += LIFE / 3 + RETRY - BACKDATING + share[last.vehicle_id]
    authority = Authority([(begin, begin + LIFE / 3) for begin in begins])

    live(cars, authority)

    assert len(begins) > 20
    assert not any(authority.is_up(begin) for begin in begins)
    assert max(car.without for car in cars) == timedelta(0)
    assert sum(car.by_grace for car in cars) == 0


def test_an_outage_that_lies_in_wait_for_each_car_harms_none() -> None:
    # K9: each car meets, at each of its renewals, an outage of its own that begins the
    # moment it asks; and the wait behind it is the longest there is.
    share = shares()
    for car in fleet():
        while car.begin < START + 365 * DAY:
            answered = car.due(share[car.vehicle_id]) + LIFE / 3 + RETRY
            assert may_reenroll(car.begin, car.end, now=answered)
            car.begin = answered - BACKDATING


def test_a_longer_outage_ends_certificates_and_the_grace_path_brings_all_back() -> None:
    # Row 34 (authority down, certificate over).
    cars, authority = fleet(), Authority(outages(LIFE / 2))

    live(cars, authority)

    stranded = [car for car in cars if car.without]
    assert stranded
    assert all(car.by_grace for car in stranded)
    assert all(car.end > START + 365 * DAY for car in cars)


@pytest.mark.parametrize(
    ("away", "comes_back"),
    [(100 * DAY, True), (GRACE_PERIOD - DAY, True), (GRACE_PERIOD + 20 * DAY, False)],
)
def test_a_garaged_car_comes_back_within_its_grace_period_only(
    away: timedelta, *, comes_back: bool
) -> None:
    car = Car(VehicleId(bytes(16)), START, garage=(START + DAY, START + DAY + away))

    live([car], Authority([]))

    assert (car.end > START + 365 * DAY) is comes_back
    assert car.by_grace == int(comes_back)
