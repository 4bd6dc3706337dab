"""Mutual TLS with the fleet's own files: who gets in (reliability.md K4, K5).

The handshake runs through OpenSSL in memory: what a broker and a car would do, without
a socket. Time is the one of the process, so validity is chosen around a fixed offset
from it: OpenSSL has no clock of ours.
"""

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from certs.authority import Authority, new_tls_key, pem_chain
from certs.fleet import FleetDirectory
from certs.profiles import Kind
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.fleet import FleetPart, TlsPart, VehiclePart
from protocol.keyfile import build_key
from tests.certs.memory_tls import refusal

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A certificate chain and its key, in files."""

    chain: Path
    key: Path


def identity(directory: Path) -> Identity:
    return Identity(directory / TlsPart.CERTIFICATE, directory / TlsPart.KEY)


@pytest.fixture(scope="module")
def today() -> datetime:
    return datetime.fromtimestamp(time.clock_gettime(time.CLOCK_REALTIME), tz=UTC)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, today: datetime) -> FleetDirectory:
    path = tmp_path_factory.mktemp("pki") / "fleet"
    return FleetDirectory.create(path, name="Ours", now=today - 200 * DAY)


@pytest.fixture(scope="module")
def foreign(
    tmp_path_factory: pytest.TempPathFactory, today: datetime
) -> FleetDirectory:
    path = tmp_path_factory.mktemp("pki") / "fleet"
    return FleetDirectory.create(path, name="Ours", now=today)


def issue(fleet: FleetDirectory, now: datetime) -> Identity:
    return identity(issue_vehicles(fleet, [random_vehicle_id()], now=now)[0].directory)


def signing_certificate(fleet: FleetDirectory, now: datetime, folder: Path) -> Identity:
    """A car's evidence certificate, tried as a TLS identity."""
    key = Ed25519PrivateKey.generate()
    authority = fleet.issuing_authority()
    leaf = authority.issue(
        Kind.VEHICLE_SIGNING, str(random_vehicle_id()), key.public_key(), now=now
    )
    return save(folder, pem_chain(leaf, authority.certificate), build_key(key))


def self_signed(now: datetime, folder: Path) -> Identity:
    """Somebody's own root with the very name of a root."""
    root = Authority.create_root("Ours root CA 00000000", now=now)
    leaf_key = new_tls_key()
    leaf = root.issue(
        Kind.VEHICLE_TLS, str(random_vehicle_id()), leaf_key.public_key(), now=now
    )
    return save(folder, pem_chain(leaf, root.certificate), build_key(leaf_key))


def save(folder: Path, chain: bytes, key: bytes) -> Identity:
    made = Identity(folder / "tried.crt", folder / "tried.key")
    made.chain.write_bytes(chain)
    made.key.write_bytes(key)
    return made


def connect(
    fleet: FleetDirectory, client: Identity | None, server: Identity, host: str
) -> str | None:
    """Shake hands; the reason why one side refused, or None."""
    anchors = fleet.path / FleetPart.TRUST_ANCHORS
    asked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    asked.verify_mode = ssl.CERT_REQUIRED
    asked.load_verify_locations(anchors)
    asked.load_cert_chain(server.chain, server.key)
    asking = ssl.create_default_context(cafile=str(anchors))
    # Default of Python 3.13; our certificates must pass it on 3.11 too.
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    asked.verify_flags |= ssl.VERIFY_X509_STRICT
    if client is not None:
        asking.load_cert_chain(client.chain, client.key)
    return refusal(asking, asked, host)


Client = Callable[[FleetDirectory, FleetDirectory, datetime, Path], Identity | None]

REFUSED: dict[str, tuple[Client, str]] = {
    "none": (
        lambda _ours, _foreign, _today, _folder: None,
        "peer did not return a certificate",
    ),
    "of a foreign fleet": (
        lambda _ours, foreign, today, _folder: issue(foreign, today),
        "unable to get local issuer certificate|certificate signature failure",
    ),
    "of a self-made root": (
        lambda _ours, _foreign, today, folder: self_signed(today, folder),
        "self-signed certificate|self signed certificate",
    ),
    "expired": (
        lambda ours, _foreign, today, _folder: issue(ours, today - 15 * DAY),
        "certificate has expired",
    ),
    "not yet valid": (
        lambda ours, _foreign, today, _folder: issue(ours, today + DAY),
        "certificate is not yet valid",
    ),
    "of the broker": (
        lambda ours, _foreign, _today, _folder: identity(ours.path / FleetPart.BROKER),
        "unsuitable certificate purpose|unsupported certificate purpose",
    ),
    "for signing reports": (
        lambda ours, _foreign, today, folder: signing_certificate(ours, today, folder),
        "unsuitable certificate purpose|unsupported certificate purpose",
    ),
}


@pytest.mark.parametrize("who", ["vehicle", FleetPart.BRIDGE, FleetPart.ENGINEER])
def test_a_client_of_the_fleet_is_let_in(
    who: str, fleet: FleetDirectory, today: datetime
) -> None:
    server = identity(fleet.path / FleetPart.BROKER)
    client = issue(fleet, today) if who == "vehicle" else identity(fleet.path / who)

    for host in ("localhost", "127.0.0.1", "::1"):
        assert connect(fleet, client, server, host) is None


@pytest.mark.parametrize("case", REFUSED)
def test_a_client_is_refused_whose_certificate_is(
    case: str,
    fleet: FleetDirectory,
    foreign: FleetDirectory,
    today: datetime,
    tmp_path: Path,
) -> None:
    make, reason = REFUSED[case]
    server = identity(fleet.path / FleetPart.BROKER)

    answer = connect(fleet, make(fleet, foreign, today, tmp_path), server, "localhost")

    assert answer is not None
    assert any(part in answer for part in reason.split("|")), answer


def test_a_client_certificate_does_not_make_a_broker(
    fleet: FleetDirectory, today: datetime
) -> None:
    # K5: a stolen car must not be able to play the broker for others.
    answer = connect(fleet, issue(fleet, today), issue(fleet, today), "localhost")

    assert answer is not None
    assert "certificate purpose" in answer or "mismatch" in answer


def test_a_broker_is_refused_under_a_name_that_it_does_not_have(
    fleet: FleetDirectory, today: datetime
) -> None:
    server = identity(fleet.path / FleetPart.BROKER)

    answer = connect(fleet, issue(fleet, today), server, "broker.example.org")

    assert answer is not None
    assert "Hostname mismatch" in answer


def test_a_foreign_broker_is_refused(
    fleet: FleetDirectory, foreign: FleetDirectory, today: datetime
) -> None:
    server = identity(foreign.path / FleetPart.BROKER)

    answer = connect(fleet, issue(fleet, today), server, "localhost")

    assert answer is not None
    assert "certificate verify failed" in answer


def test_a_car_s_files_are_those_that_were_tried_here() -> None:
    assert VehiclePart.TLS_CERTIFICATE.value == TlsPart.CERTIFICATE.value
    assert VehiclePart.TLS_KEY.value == TlsPart.KEY.value
