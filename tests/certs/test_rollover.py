"""Another root while cars are on the road: TLS handshakes in every step."""

import base64
import ssl
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from certs.authority import new_tls_key, pem_chain
from certs.errors import FleetError, RequestError
from certs.fleet import FleetDirectory
from certs.rollover import NEW_KEY, OLD_ROOT, Phase, finish, prepare, rollover, switch
from certs.vehicle import issue_vehicles, random_vehicle_id
from gateway.uplink.enrolment import Issued, check_issued
from keystore.private_key import open_private_key
from protocol.fleet import FleetPart, TlsPart
from tests.certs.memory_tls import refusal
from tests.certs.office import Device, open_office, real_now

DAY = timedelta(days=1)


@pytest.fixture
def today() -> datetime:
    return datetime.fromtimestamp(time.clock_gettime(time.CLOCK_REALTIME), tz=UTC)


@pytest.fixture
def rolling(tmp_path: Path, today: datetime) -> FleetDirectory:
    return FleetDirectory.create(tmp_path / "fleet", name="Roll", now=today - 60 * DAY)


class Stores:
    """Trust stores as cars hold them: files that nobody changes afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, name: str, *certificates: x509.Certificate) -> None:
        (self.folder / f"{name}.pem").write_bytes(pem_chain(*certificates))

    def __getitem__(self, name: str) -> Path:
        return self.folder / f"{name}.pem"


def shake(
    car: Path, car_anchors: Path, fleet: FleetDirectory, part: FleetPart
) -> str | None:
    """Connect a car to a server of the fleet; why one side refused, or None."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(fleet.path / FleetPart.TRUST_ANCHORS)
    directory = fleet.path / part
    server.load_cert_chain(directory / TlsPart.CERTIFICATE, directory / TlsPart.KEY)
    client = ssl.create_default_context(cafile=str(car_anchors))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_cert_chain(car / TlsPart.CERTIFICATE, car / TlsPart.KEY)
    return refusal(client, server, "localhost")


def test_cars_with_old_both_and_new_anchors_connect_in_every_step(
    rolling: FleetDirectory, today: datetime, tmp_path: Path
) -> None:
    fleet, stores = rolling, Stores(tmp_path)
    old = fleet.certificate(FleetPart.ROOT_CERTIFICATE)
    old_car = issue_vehicles(fleet, [random_vehicle_id()], now=today - 13 * DAY)[0]
    stores.keep("old", old)
    assert shake(old_car.directory, stores["old"], fleet, FleetPart.BROKER) is None

    prepare(
        fleet, open_private_key(fleet.path / FleetPart.ROOT_KEY), now=today - 12 * DAY
    )
    new = fleet.certificates(FleetPart.TRUST_ANCHORS)[1]
    stores.keep("both", old, new)
    stores.keep("new", new)
    prepared_car = issue_vehicles(fleet, [random_vehicle_id()], now=today - 11 * DAY)[0]
    for store in ("old", "both"):
        for car in (old_car, prepared_car):
            reason = shake(car.directory, stores[store], fleet, FleetPart.BROKER)
            assert reason is None, f"prepared, {store}: {reason}"
    # Nobody is given the new root alone before it signs, so nobody misses it.
    assert "verify failed" in str(
        shake(old_car.directory, stores["new"], fleet, FleetPart.BROKER)
    )
    assert rollover(fleet, now=today).phase is Phase.PREPARED

    switch(fleet, open_private_key(fleet.path / NEW_KEY), now=today - 2 * DAY)
    new_car = issue_vehicles(fleet, [random_vehicle_id()], now=today - 1 * DAY)[0]
    for store in ("old", "both", "new"):
        for car in (old_car, prepared_car, new_car):
            for part in (FleetPart.BROKER, FleetPart.ENROLMENT):
                reason = shake(car.directory, stores[store], fleet, part)
                assert reason is None, f"switched, {store}: {reason}"
    assert rollover(fleet, now=today).waiting == 2
    with pytest.raises(RequestError, match="2 running certificates"):
        finish(fleet, now=today)

    finish(fleet, now=today + 12 * DAY)
    assert fleet.certificates(FleetPart.TRUST_ANCHORS) == [new]
    for store in ("old", "both", "new"):
        for part in (FleetPart.BROKER, FleetPart.ENROLMENT):
            reason = shake(new_car.directory, stores[store], fleet, part)
            assert reason is None, f"finished, {store}: {reason}"
    assert rollover(fleet, now=today).phase is Phase.NONE


def test_the_records_and_certificates_below_stay_valid(
    rolling: FleetDirectory, today: datetime
) -> None:
    car = issue_vehicles(rolling, [random_vehicle_id()], now=today)[0]
    before = rolling.issuing_certificate

    prepare(rolling, open_private_key(rolling.path / FleetPart.ROOT_KEY), now=today)
    switch(rolling, open_private_key(rolling.path / NEW_KEY), now=today)

    after = rolling.issuing_certificate
    assert before.public_key() == after.public_key()
    assert before != after
    assert rolling.vehicle_record(car.vehicle_id).vehicle_id == car.vehicle_id
    assert rolling.issuing_authority().certificate == after


@pytest.mark.broker
def test_a_car_learns_the_new_root_with_its_renewal_by_the_link(
    rolling: FleetDirectory, tmp_path: Path
) -> None:
    # Row 34 (another root).
    # Both ends are real: our service, and what the gateway believes of its answer.
    with open_office(rolling) as office:
        folder = tmp_path / "device"
        folder.mkdir()
        device = Device(office, folder)
        device.enroll(office.claim(device.vehicle_id))
        held = rolling.certificates(FleetPart.TRUST_ANCHORS)
        prepare(
            rolling,
            open_private_key(rolling.path / FleetPart.ROOT_KEY),
            now=real_now(),
        )
        key = new_tls_key()

        body = device.reenroll(key=key).body

        def der(name: str) -> tuple[bytes, ...]:
            return tuple(base64.b64decode(one) for one in body[name])

        found = check_issued(
            Issued(
                base64.b64decode(body["certificate"]),
                der("chain"),
                der("anchors"),
                der("links"),
            ),
            vehicle_id=device.vehicle_id,
            key=key.public_key(),
            held_anchors=held,
            floor=real_now(),
        )
        assert found.ignored_anchors == 0
        assert len(x509.load_pem_x509_certificates(found.anchors)) == 2


@pytest.mark.parametrize("lost", ["anchors", "links", "nothing"])
def test_a_prepare_that_was_cut_off_is_completed_by_another(
    lost: str, rolling: FleetDirectory, today: datetime
) -> None:
    key = open_private_key(rolling.path / FleetPart.ROOT_KEY)
    anchors = rolling.path / FleetPart.TRUST_ANCHORS
    before = anchors.read_bytes()
    prepare(rolling, key, now=today)
    new = rolling.certificates(FleetPart.TRUST_ANCHORS)[1]
    if lost in {"anchors", "links"}:
        anchors.write_bytes(before)
    if lost == "links":
        (rolling.path / FleetPart.ROOT_LINKS).unlink()

    prepare(rolling, key, now=today)

    assert rolling.certificates(FleetPart.TRUST_ANCHORS)[1] == new
    assert len(rolling.root_links()) == 1


def test_steps_out_of_order_and_foreign_keys_are_refused(
    rolling: FleetDirectory, today: datetime
) -> None:
    foreign = new_tls_key()

    with pytest.raises(FleetError, match=r"not that of ca/root\.crt"):
        prepare(rolling, foreign, now=today)
    with pytest.raises(RequestError, match="no change of roots is prepared"):
        switch(rolling, foreign, now=today)
    with pytest.raises(RequestError, match="no change of roots is under way"):
        finish(rolling, now=today)
    key = open_private_key(rolling.path / FleetPart.ROOT_KEY)
    prepare(rolling, key, now=today)
    with pytest.raises(FleetError, match=r"not that of ca/root-new\.crt"):
        switch(rolling, foreign, now=today)
    with pytest.raises(RequestError, match="prepared"):
        finish(rolling, now=today)
    switch(rolling, open_private_key(rolling.path / NEW_KEY), now=today)
    new_key = open_private_key(rolling.path / FleetPart.ROOT_KEY)
    with pytest.raises(RequestError, match="is under way and switched"):
        prepare(rolling, new_key, now=today)
    assert (rolling.path / OLD_ROOT).exists()
    with closing(rolling.books()) as books:
        assert books.running(now=today) == []
