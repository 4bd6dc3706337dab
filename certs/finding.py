"""What an audit of a fleet finds, and the material that it looks at.

Modelled on AWS IoT Device Defender's checks (reliability.md): what expires, what is
shared, what is weak, what is revoked and still active. Reads only; something that
cannot be read is a finding itself and hides nothing else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from pathlib import Path

import msgspec
from cryptography import x509

from certs.books import IssuedCertificate, Voucher
from certs.fleet import FleetDirectory
from certs.profiles import Kind
from certs.services import services_of
from protocol.enrolment import RecordFile
from protocol.fleet import FleetPart, TlsPart
from protocol.identity import VehicleId
from protocol.trust import TrustBundle


@unique
class Weight(StrEnum):
    """Whether somebody must do something."""

    ACT = "act"
    """Yes; the audit ends with exit code 1."""
    NOTE = "note"
    """Worth knowing; no more."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing."""

    check: str
    """Which check found it: one word, stable, for programs."""
    subject: str
    """A file, vehicle or key."""
    detail: str
    """What is wrong with it."""
    advice: str
    """What to do next."""
    weight: Weight = Weight.ACT
    """Whether it must be done."""
    days: int | None = None
    """Days until it ends, negative if it is over; None if nothing ends."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A certificate, where it lies and which template it should follow."""

    subject: str
    """File, or file and what in it."""
    kind: Kind
    """Its template."""
    certificate: x509.Certificate
    """Itself."""


@dataclass(frozen=True, slots=True)
class Material:
    """All that the checks look at, read once."""

    fleet: FleetDirectory
    """Where."""
    now: datetime
    """When, with a time zone."""
    certificates: tuple[Seen, ...]
    """Of CAs, services and vehicles, in files and in records."""
    running: tuple[IssuedCertificate, ...]
    """TLS certificates of vehicles that have not ended."""
    newest: tuple[IssuedCertificate, ...]
    """Of each registered vehicle, the one that ends last."""
    vouchers: tuple[Voucher, ...]
    """One-time claims."""
    grace: dict[VehicleId, datetime]
    """Until when a person let a vehicle renew."""
    bundle: TrustBundle | None
    """The newest trust bundle; None if it cannot be read."""


def certificates(fleet: FleetDirectory) -> Iterator[tuple[str, Kind, Path]]:
    """Return the certificate files of CAs and services that there are."""
    for kind, part in (
        (Kind.ROOT, FleetPart.ROOT_CERTIFICATE),
        (Kind.ISSUING, FleetPart.ISSUING_CERTIFICATE),
    ):
        yield part.value, kind, fleet.path / part
    for kind, service, _name in services_of(fleet.path).values():
        part_name = f"{service}/{TlsPart.CERTIFICATE}"
        if (fleet.path / part_name).exists():
            yield part_name, kind, fleet.path / part_name
    for path in sorted((fleet.path / FleetPart.VEHICLES).glob("*/tls.crt")):
        yield str(path.relative_to(fleet.path)), Kind.VEHICLE_TLS, path


def record_certificates(path: Path, name: str) -> list[Seen]:
    """Return the certificates in a registry file, verified by nobody yet.

    Raises:
        ValueError: it is no such file.
        OSError: it cannot be read.
    """
    record = msgspec.json.decode(path.read_bytes(), type=RecordFile)
    return [
        Seen(f"{name} ({what})", kind, x509.load_pem_x509_certificate(pem.encode()))
        for what, kind, pem in (
            ("signing", Kind.VEHICLE_SIGNING, record.signing_certificate),
            ("sealing", Kind.VEHICLE_SEALING, record.sealing_certificate),
            ("present", Kind.VEHICLE_SIGNING, record.present_certificate),
        )
        if pem
    ]
