"""A car's own renewal, at a `freefloat certs serve` of its own process, over HTTPS.

Time is real here, as both ends judge certificates by it; certificates that are old are
made with an authority's clock that is put back.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certs.fleet import FleetDirectory
from certs.profiles import BACKDATING, VEHICLE_TLS_LIFETIME
from certs.vehicle import issue_vehicles, random_vehicle_id
from gateway.runtime.system_clock import SystemClock
from gateway.runtime.timekeeper import Timekeeper
from gateway.storage.worker import ThreadWorker
from gateway.uplink.https_enrolment import HttpsEnrolment
from gateway.uplink.renewal import Applicant, Renewal
from gateway.uplink.tls_store import TlsStore
from protocol.evidence import build_evidence
from protocol.fleet import VehiclePart
from protocol.identity import VehicleId
from protocol.keyfile import parse_signing_key
from protocol.keys import SigningKey
from tests.certs.office import Device, Office, real_now
from tests.gateway.uplink.key_holder import FakeKeyHolder
from tests.protocol.court import Court, rental_of
from tests.tools.command_line import freefloat, running
from transport.backoff import Backoff
from transport.tls import TlsIdentity, client_context, read_certificates

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

HOUR = timedelta(hours=1)
DUE = (VEHICLE_TLS_LIFETIME + BACKDATING) * 13 / 20
"""An age at which every car's certificate is due."""
GARAGED = VEHICLE_TLS_LIFETIME + timedelta(days=20)


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    directory = tmp_path_factory.mktemp("office") / "fleet"
    # Older than the oldest certificate of these tests.
    fleet = FleetDirectory.create(
        directory, name="Fleet", now=real_now() - timedelta(days=60)
    )
    with running("certs", "serve", directory, "--listen", "127.0.0.1:0") as process:
        assert process.stdout is not None
        end, port = time.monotonic() + 60, 0
        while not port and time.monotonic() < end:
            line = process.stdout.readline()
            if "https://127.0.0.1:" in line:
                port = int(line.rsplit(":", 1)[1])
        yield Office(fleet, port)


class Car:
    """A car's renewal as `freefloat gateway run` puts it together."""

    def __init__(
        self, office: Office, directory: Path, name: VehicleId, key: SigningKey
    ) -> None:
        self.id = name
        self.directory = directory
        self.holder = FakeKeyHolder(
            key, vehicle_id=name, fleet_id=office.fleet.fleet.fleet_id
        )
        clock = SystemClock()
        floor = Timekeeper(clock, int((real_now() - HOUR).timestamp() * 1000))
        self.store = TlsStore(
            directory / "data" / "tls",
            TlsIdentity(
                directory / VehiclePart.TLS_CERTIFICATE,
                directory / VehiclePart.TLS_KEY,
                directory / VehiclePart.TRUST_ANCHORS,
            ),
        )
        self.renewed = asyncio.Event()
        self.renewal = Renewal(
            Applicant(name, office.fleet.fleet.fleet_id),
            store=self.store,
            service=HttpsEnrolment("127.0.0.1", office.port, time=floor),
            time=floor,
            clock=clock,
            random=random.random,
            worker=ThreadWorker("renewal"),
            backoff=Backoff(initial_s=0.2, maximum_s=1.0),
        )

    async def renew(self) -> None:
        """Run until a new certificate lies there."""
        self.renewed.clear()
        before = self.store.newest
        task = asyncio.create_task(self.renewal.run(self.holder, self.renewed.set))
        try:
            async with asyncio.timeout(40):
                await self.renewed.wait()
                while self.holder.rotations:  # noqa: ASYNC110 - let go a moment later
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert self.store.newest != before
        leaf = read_certificates(self.store.newest.certificate)[0]
        assert leaf.not_valid_after_utc > real_now() + VEHICLE_TLS_LIFETIME / 2
        client_context(self.store.newest, now=real_now())  # usable as it lies there


def issued(office: Office, *, age: timedelta) -> Car:
    """A car that was given its certificate some time ago."""
    made = issue_vehicles(office.fleet, [random_vehicle_id()], now=real_now() - age)[0]
    key = parse_signing_key(
        (made.directory / VehiclePart.SIGNING_KEY).read_bytes(), name="signing.key"
    )
    return Car(office, made.directory, made.vehicle_id, key)


def how(office: Office, car: Car) -> list[str]:
    """What the office did for this car, from its audit file."""
    return [
        f"{one.event} {one.detail.partition(',')[0]}".strip()
        for one in office.fleet.audit_log.read()
        if one.vehicle_id == str(car.id)
    ]


async def test_a_device_enrols_by_its_claim_and_its_car_renews_with_what_it_got(
    office: Office, tmp_path: Path
) -> None:
    # FF-ENR-06, FF-ENR-08; K9.
    device = Device(office, tmp_path)
    claim = office.claim(device.vehicle_id)
    answer = await asyncio.to_thread(device.enroll, claim)
    assert answer.status == 200, answer.body
    anchors = (office.fleet.path / "ca/trust-anchors.pem").read_bytes()
    (tmp_path / VehiclePart.TRUST_ANCHORS).write_bytes(anchors)
    device.identity[1].chmod(0o600)
    car = Car(office, tmp_path, device.vehicle_id, device.keys.signing)

    # Not due for a week; a rotation makes it ask at once.
    car.holder.rotate()
    await car.renew()

    assert how(office, car) == [
        "enrolled",
        "recertified",
        "renewed reenroll",
    ]


async def test_a_car_whose_certificate_is_due_renews_over_mutual_tls(
    office: Office,
) -> None:
    # FF-ENR-17, K9.
    car = issued(office, age=DUE)

    await car.renew()

    assert how(office, car) == ["renewed reenroll"]


async def test_a_car_whose_certificate_ended_renews_by_its_signing_key(
    office: Office,
) -> None:
    # FF-ENR-11, K9.
    car = issued(office, age=GARAGED)

    await car.renew()

    assert how(office, car) == ["renewed grace"]


@pytest.mark.parametrize("age", [DUE, GARAGED], ids=["due", "garaged"])
async def test_a_car_that_rotated_its_key_is_not_locked_out(
    office: Office, age: timedelta
) -> None:
    # FF-ENR-23, FF-ENR-24: twice before the office heard of it, and once more.
    car = issued(office, age=age)
    car.holder.rotate()
    car.holder.rotate()
    await car.renew()
    car.holder.rotate()
    await car.renew()

    first = "renewed grace" if age == GARAGED else "renewed reenroll"
    assert how(office, car) == [
        "recertified",
        first,
        "recertified",
        "renewed reenroll",
    ]
    record = office.fleet.vehicle_record(car.id)
    assert record.present_key == car.holder.key.verify_key


async def test_a_lost_proof_of_a_rotation_is_put_right_with_the_bridges_evidence(
    office: Office, tmp_path: Path
) -> None:
    # FF-ENR-23: the car lost its disk behind the rotation and is in a garage since.
    car = issued(office, age=GARAGED)
    rotation = car.holder.rotate()
    car.holder.rotations = ()
    # Its own keys: a car that enrolled from outside has no directory at the office.
    court = Court(
        office.fleet, now_ms=int(real_now().timestamp() * 1000), vehicle_id=car.id
    )
    exhibit = replace(
        rental_of(court), vehicle_id=car.id, rotations=(rotation,), commands=()
    )
    file = tmp_path / "case.json"
    file.write_bytes(build_evidence(exhibit))
    fleet = office.fleet.path

    for sentence in ("is certified for the key it rotated to", "was certified for"):
        done = await asyncio.to_thread(freefloat, "certs", "recertify", fleet, file)
        assert done.returncode == 0, done.stderr
        assert sentence in done.stdout
    await car.renew()

    assert how(office, car)[-1] == "renewed grace"
