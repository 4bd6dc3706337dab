"""Issuing vehicles: what a car is given, and what is never seen elsewhere."""

import errno
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.verification import PolicyBuilder, Store

from certs.authority import common_name
from certs.errors import (
    DuplicateError,
    ExistsError,
    FleetError,
    PartialError,
    RequestError,
)
from certs.fleet import FleetDirectory
from certs.vehicle import IssuedVehicle, issue_vehicles, random_vehicle_id
from protocol.enrolment import VehicleRecord
from protocol.fleet import (
    FleetPart,
    VehicleIdentity,
    VehiclePart,
    parse_trust_roots,
    parse_vehicle,
)
from protocol.identity import VehicleId
from protocol.keyfile import parse_sealing_key, parse_signing_key
from protocol.trust import open_bundle

FileSizeLimit = Callable[[int], AbstractContextManager[None]]


def read(vehicle: IssuedVehicle, part: VehiclePart) -> bytes:
    return (vehicle.directory / part).read_bytes()


def record_of(fleet: FleetDirectory, vehicle_id: VehicleId) -> VehicleRecord:
    return VehicleRecord.parse(
        fleet.record_path(vehicle_id).read_bytes(),
        fleet_id=fleet.fleet.fleet_id,
        issuers=[fleet.issuing_certificate],
    )


def key_encodings(pem: bytes) -> set[bytes]:
    """The ways in which a private key's secret could be written somewhere."""
    key = load_pem_private_key(pem, password=None)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    # RFC 5958/5915: the secret is the 32-byte octet string after its 04 20 header.
    start = der.index(b"\x04\x20") + 2
    secret = der[start : start + 32]
    body = b"".join(pem.splitlines()[1:-1])
    return {secret, secret.hex().encode(), secret.hex().upper().encode(), body, der}


def test_a_car_is_given_its_documented_files(vehicle: IssuedVehicle) -> None:
    names = sorted(path.name for path in vehicle.directory.iterdir())

    assert names == sorted(part.value for part in VehiclePart)


def test_a_car_s_files_say_one_and_the_same_identity(
    fleet: FleetDirectory, vehicle: IssuedVehicle
) -> None:
    # FF-ADR-03.
    # K6: CN = user name = client id = topic = frame.
    record = record_of(fleet, vehicle.vehicle_id)
    leaf = x509.load_pem_x509_certificate(read(vehicle, VehiclePart.TLS_CERTIFICATE))
    tls_key = load_pem_private_key(read(vehicle, VehiclePart.TLS_KEY), password=None)
    signing = parse_signing_key(read(vehicle, VehiclePart.SIGNING_KEY), name="")
    sealing = parse_sealing_key(read(vehicle, VehiclePart.SEALING_KEY), name="")

    assert parse_vehicle(read(vehicle, VehiclePart.IDENTITY)) == VehicleIdentity(
        vehicle.vehicle_id, fleet.fleet.fleet_id
    )
    assert common_name(leaf) == str(vehicle.vehicle_id) == vehicle.directory.name
    assert leaf.public_key() == tls_key.public_key()
    assert record.vehicle_id == vehicle.vehicle_id
    assert record.signing_key == signing.verify_key
    assert record.sealing_key == sealing.public_key()
    assert record.tls_fingerprint == leaf.fingerprint(SHA256()).hex()


def test_a_car_trusts_its_fleet_s_anchors_roots_and_bundle(
    fleet: FleetDirectory, vehicle: IssuedVehicle
) -> None:
    roots = parse_trust_roots(read(vehicle, VehiclePart.TRUST_ROOTS))

    bundle = open_bundle(
        read(vehicle, VehiclePart.TRUST_BUNDLE), roots, fleet_id=fleet.fleet.fleet_id
    )

    anchors = (fleet.path / FleetPart.TRUST_ANCHORS).read_bytes()
    assert roots == fleet.trust_roots()
    assert bundle == fleet.open_trust_bundle()
    assert read(vehicle, VehiclePart.TRUST_ANCHORS) == anchors


def test_a_car_s_tls_chain_verifies_to_the_root_as_a_client(
    vehicle: IssuedVehicle, now: datetime
) -> None:
    anchors = x509.load_pem_x509_certificates(read(vehicle, VehiclePart.TRUST_ANCHORS))
    leaf, *rest = x509.load_pem_x509_certificates(
        read(vehicle, VehiclePart.TLS_CERTIFICATE)
    )

    leaf.verify_directly_issued_by(rest[0])
    rest[0].verify_directly_issued_by(anchors[0])
    # The library's client verifier wants a SAN, which cars must not have; as a server
    # the chain must fail for the purpose and not for a signature.
    verifier = (
        PolicyBuilder()
        .store(Store(anchors))
        .time(now)
        .build_server_verifier(x509.DNSName("localhost"))
    )
    with pytest.raises(x509.verification.VerificationError):
        verifier.verify(leaf, rest)


def test_all_public_keys_of_many_cars_differ(
    fleet: FleetDirectory, now: datetime
) -> None:
    # FF-ENR-08.
    # K1
    wanted = [random_vehicle_id() for _ in range(25)]

    started = time.monotonic()
    issued = issue_vehicles(fleet, wanted, now=now)
    elapsed_s = time.monotonic() - started

    keys = set()
    for vehicle in issued:
        record = record_of(fleet, vehicle.vehicle_id)
        leaf = read(vehicle, VehiclePart.TLS_CERTIFICATE)
        public = x509.load_pem_x509_certificate(leaf).public_key()
        keys |= {
            public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            record.signing_key.raw,
            record.sealing_key.public_bytes_raw(),
        }
    assert len(keys) == 3 * 25
    assert fleet.vehicle_ids() == sorted(wanted)
    # Two orders of magnitude above what it takes: this finds a wrong algorithm only.
    assert elapsed_s < 20


@pytest.mark.usefixtures("vehicle")
def test_no_secret_lies_anywhere_but_in_its_own_file(fleet: FleetDirectory) -> None:
    # K2: the canary is every key's own secret, in every form it could be written.
    files = {
        path: path.read_bytes() for path in fleet.path.rglob("*") if path.is_file()
    }
    keys = [path for path in files if path.suffix == ".key"]

    leaks = [
        (key.name, path.name)
        for key in keys
        for form in key_encodings(files[key])
        for path, data in files.items()
        if path != key and form in data
    ]

    assert len(keys) == 14
    assert leaks == []


def test_a_record_is_public_and_names_no_file(
    fleet: FleetDirectory, vehicle: IssuedVehicle
) -> None:
    record = json.loads(fleet.record_path(vehicle.vehicle_id).read_text())

    assert sorted(record) == [
        "format",
        "proof",
        "sealing_certificate",
        "signing_certificate",
        "tls_fingerprint",
        "vehicle_id",
    ]


def test_tests_and_pilots_can_have_shorter_tls_lifetimes(
    fleet: FleetDirectory, now: datetime
) -> None:
    issued = issue_vehicles(
        fleet, [random_vehicle_id()], now=now, tls_lifetime=timedelta(minutes=5)
    )

    assert issued[0].tls_expires == now + timedelta(minutes=5)


# --- refused ------------------------------------------------------------------------


def snapshot(fleet: FleetDirectory) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in fleet.path.rglob("*") if path.is_file()}


def test_a_registered_id_is_not_issued_again_and_its_keys_stay(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    before = snapshot(fleet)

    with pytest.raises(DuplicateError, match="is registered already"):
        issue_vehicles(fleet, [vehicle.vehicle_id], now=now)

    assert snapshot(fleet) == before


def test_a_registered_id_stays_taken_when_its_directory_went_into_the_car(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime, tmp_path: Path
) -> None:
    vehicle.directory.rename(tmp_path / "in-the-car")

    with pytest.raises(DuplicateError):
        issue_vehicles(fleet, [vehicle.vehicle_id], now=now)


def test_a_key_taken_by_a_registered_vehicle_is_known_after_a_restart(
    fleet: FleetDirectory, vehicle: IssuedVehicle
) -> None:
    record = record_of(fleet, vehicle.vehicle_id)

    with FleetDirectory.open(fleet.path).issuing() as enrolled:
        assert record.signing_key.key_id in enrolled.key_ids
        assert enrolled.vehicle_ids == {vehicle.vehicle_id}


def test_a_directory_without_a_record_is_not_overwritten_and_not_registered(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    # What a power cut between directory and record leaves behind.
    fleet.record_path(vehicle.vehicle_id).unlink()
    before = snapshot(fleet)

    with pytest.raises(ExistsError, match="an earlier issuing was cut off"):
        issue_vehicles(fleet, [vehicle.vehicle_id], now=now)

    assert snapshot(fleet) == before
    assert fleet.vehicle_ids() == []


def test_books_that_cannot_be_written_leave_no_keys_behind(
    fleet: FleetDirectory, now: datetime, file_size_limit: FileSizeLimit
) -> None:
    # A page of the books is larger than each of the car's files.
    with (
        file_size_limit(1_450),
        pytest.raises(FleetError, match="books cannot be written"),
    ):
        issue_vehicles(fleet, [random_vehicle_id()], now=now)

    assert fleet.vehicle_ids() == []
    assert list((fleet.path / FleetPart.VEHICLES).iterdir()) == []


def test_a_record_that_cannot_be_written_leaves_no_keys_behind(
    fleet: FleetDirectory, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, _data: bytes) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("certs.vehicle.publish_new", fail)

    with pytest.raises(OSError, match="Input/output error"):
        issue_vehicles(fleet, [random_vehicle_id()], now=now)

    assert fleet.vehicle_ids() == []
    assert list((fleet.path / FleetPart.VEHICLES).iterdir()) == []
    assert list((fleet.path / FleetPart.REGISTRY).iterdir()) == []


def test_a_car_s_directory_that_cannot_be_written_leaves_no_keys_behind(
    fleet: FleetDirectory, now: datetime, file_size_limit: FileSizeLimit
) -> None:
    with file_size_limit(200), pytest.raises(OSError, match="File too large"):
        issue_vehicles(fleet, [random_vehicle_id()], now=now)

    assert fleet.vehicle_ids() == []
    assert list((fleet.path / FleetPart.VEHICLES).iterdir()) == []


def test_what_was_issued_before_a_failure_is_complete_and_counted(
    fleet: FleetDirectory, now: datetime
) -> None:
    first, second, third = (random_vehicle_id() for _ in range(3))
    in_the_way = fleet.vehicle_directory(second)
    in_the_way.mkdir()
    (in_the_way / "mine.txt").write_text("dear")

    with pytest.raises(PartialError, match="1 of 3 vehicles were issued") as caught:
        issue_vehicles(fleet, [first, second, third], now=now)

    assert caught.value.may_have_taken_effect
    assert caught.value.issued == 1
    assert fleet.vehicle_ids() == [first]
    assert record_of(fleet, first).vehicle_id == first
    assert (in_the_way / "mine.txt").read_text() == "dear"


@pytest.mark.parametrize("count", [0, 100_001])
def test_no_vehicle_and_too_many_are_refused(
    count: int, fleet: FleetDirectory, now: datetime
) -> None:
    with pytest.raises(RequestError, match="not 1 to 100000"):
        issue_vehicles(fleet, [random_vehicle_id()] * count, now=now)


def test_one_id_twice_in_a_batch_is_refused_before_anything_is_made(
    fleet: FleetDirectory, now: datetime
) -> None:
    with pytest.raises(RequestError, match="twice"):
        issue_vehicles(fleet, [random_vehicle_id()] * 2, now=now)

    assert fleet.vehicle_ids() == []


def test_a_damaged_record_stops_issuing_rather_than_free_its_id(
    fleet: FleetDirectory, vehicle: IssuedVehicle, now: datetime
) -> None:
    path = fleet.record_path(vehicle.vehicle_id)
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(FleetError, match="damaged record"):
        issue_vehicles(fleet, [random_vehicle_id()], now=now)
