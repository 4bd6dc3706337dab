"""Withdrawing vehicles: the registry at once, a revocation list for those who read one.

The allow-list is the registry directory: a record that is moved out of it is a vehicle
that is out, at the bridge within seconds and at every path of the enrolment service.
The list (RFC 5280, 5) is for brokers that check one. It is never the only control,
because a list that has ended locks out every car in some brokers and one that cannot be
read lets everybody in (reliability.md L5): so it is verified before it is published,
replaced whole, and counted as due at half of its life.
"""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs.audit_log import Severity
from certs.authority import Authority
from certs.books import Books
from certs.errors import FleetError, RequestError
from certs.files import exclusive, make_directory, replace_file, sync_directory
from certs.fleet import FleetDirectory
from certs.profiles import BACKDATING
from protocol.fleet import FleetPart
from protocol.identity import VehicleId

LIST_LIFETIME: Final = timedelta(days=7)
"""From one list to its nextUpdate; due for replacement at half of it."""

LOCK_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Revoked:
    """A vehicle that was withdrawn."""

    vehicle_id: VehicleId
    """Which."""
    certificates: int
    """TLS certificates of it that had not ended and stand in the list."""
    list_until: datetime
    """The list's nextUpdate."""


def revoke_vehicle(
    fleet: FleetDirectory, vehicle_id: VehicleId, *, reason: str = "", now: datetime
) -> Revoked:
    """Withdraw a vehicle: its record leaves the registry and its certificates end.

    Doing it again completes what was cut off.

    Raises:
        RequestError: there is no such vehicle.
        BusyError: another process holds the registry; nothing was done.
        FleetError, OSError: the record was moved or not, the list was not published;
            do it again.
    """
    record, kept = fleet.record_path(vehicle_id), fleet.revoked_path(vehicle_id)
    authority = fleet.issuing_authority()
    with exclusive(fleet.path / FleetPart.REGISTRY, wait_s=LOCK_WAIT_S):
        if not kept.parent.is_dir():
            make_directory(kept.parent, private=False)
        if record.exists():
            record.rename(kept)
            sync_directory(record.parent)
            sync_directory(kept.parent)
        elif not kept.exists():
            raise RequestError(
                f"vehicle {vehicle_id} is not registered in {fleet.path}",
                "list the vehicles with 'freefloat certs show'",
            )
        fleet.audit_log.write(
            Severity.NOTE,
            "revoked",
            now=now,
            vehicle_id=str(vehicle_id),
            detail=reason,
        )
        with closing(fleet.books()) as books:
            running = books.running(now=now, vehicle_id=vehicle_id)
            until = publish_list(fleet, books, authority, now=now)
    return Revoked(vehicle_id, len(running), until)


def publish_list(
    fleet: FleetDirectory, books: Books, authority: Authority, *, now: datetime
) -> datetime:
    """Sign a list of the running certificates of withdrawn vehicles, and publish it.

    Returns:
        Its nextUpdate.

    Raises:
        FleetError: what was signed does not verify; the old list stays.
        OSError: it could not be written; the old list stays.
    """
    moment = now.replace(microsecond=0)
    until = moment + LIST_LIFETIME
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(moment - BACKDATING)
        .next_update(until)
        .add_extension(x509.CRLNumber(int(moment.timestamp())), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(
                authority.key.public_key()
            ),
            critical=False,
        )
    )
    withdrawn = set(fleet.revoked_ids())
    for issued in books.running(now=now):
        if issued.vehicle_id in withdrawn:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(issued.certificate.serial_number)
                .revocation_date(moment)
                .build()
            )
    data = builder.sign(authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)
    parse_list(data, [authority.certificate])
    replace_file(fleet.path / FleetPart.REVOCATION_LIST, data)
    return until


def parse_list(
    data: bytes, issuers: Sequence[x509.Certificate]
) -> x509.CertificateRevocationList:
    """Read and verify a revocation list.

    Args:
        data: PEM.
        issuers: the CA's certificates, of each key that it had.

    Raises:
        FleetError: not one, or not this CA's.
    """
    advice = "make a new one with 'freefloat certs crl'"
    try:
        found = x509.load_pem_x509_crl(data)
        good = found.next_update_utc is not None and any(
            found.issuer == issuer.subject
            and found.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]
            for issuer in issuers
        )
    except (ValueError, TypeError):
        raise FleetError("the revocation list cannot be read", advice) from None
    if not good:
        raise FleetError("the revocation list is not signed by this fleet's CA", advice)
    return found


def read_list(fleet: FleetDirectory) -> x509.CertificateRevocationList | None:
    """Return the published list, verified; None if there never was one.

    Raises:
        FleetError: it is damaged or another CA's.
    """
    try:
        data = (fleet.path / FleetPart.REVOCATION_LIST).read_bytes()
    except FileNotFoundError:
        return None
    return parse_list(data, fleet.issuing_certificates)


def is_half_over(found: x509.CertificateRevocationList, *, now: datetime) -> bool:
    """Return whether a list has lived half of the time to its nextUpdate."""
    until = found.next_update_utc
    return until is None or now >= until - (until - found.last_update_utc) / 2
