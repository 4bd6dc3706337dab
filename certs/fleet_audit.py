"""Auditing a fleet directory: all checks over all of it."""

from contextlib import closing
from datetime import datetime
from typing import Final

from cryptography import x509

from certs.audit_expiry import what_ends
from certs.audit_sharing import what_is_shared
from certs.audit_weakness import what_is_active, what_is_weak
from certs.errors import FleetError
from certs.finding import (
    Finding,
    Material,
    Seen,
    Weight,
    certificates,
    record_certificates,
)
from certs.fleet import FleetDirectory
from protocol.errors import ProtocolError

BACKUP: Final = "bring it back from a backup"


def audit_fleet(fleet: FleetDirectory, *, now: datetime) -> list[Finding]:
    """Return everything that is wrong or will be, what must be done first.

    Raises:
        FleetError: the books cannot be read.
    """
    found: list[Finding] = []
    material = _material(fleet, found, now=now)
    for check in (what_ends, what_is_shared, what_is_weak, what_is_active):
        found.extend(check(material))
    order = list(Weight)
    return sorted(
        found,
        key=lambda one: (order.index(one.weight), one.check, one.subject, one.detail),
    )


def _material(
    fleet: FleetDirectory, found: list[Finding], *, now: datetime
) -> Material:
    seen: list[Seen] = []
    for name, kind, path in certificates(fleet):
        try:
            leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
            seen.append(Seen(name, kind, leaf))
        except (OSError, ValueError, IndexError):
            found.append(
                Finding("unreadable", name, "holds no certificate in PEM", BACKUP)
            )
    ids = fleet.vehicle_ids()
    for vehicle_id in ids:
        path = fleet.record_path(vehicle_id)
        name = str(path.relative_to(fleet.path))
        try:
            seen.extend(record_certificates(path, name))
        except (OSError, ValueError):
            found.append(Finding("unreadable", name, "is no record", BACKUP))
            continue
        try:
            fleet.vehicle_record(vehicle_id)
        except (ProtocolError, FleetError, OSError) as error:
            found.append(Finding("unreadable", name, str(error), BACKUP))
    bundle = None
    try:
        bundle = fleet.open_trust_bundle()
    except (FleetError, OSError) as error:
        found.append(Finding("unreadable", "trust", str(error), BACKUP))
    with closing(fleet.books()) as books:
        newest = [books.newest(vehicle_id) for vehicle_id in ids]
        grace = {one: books.grace_until(one) for one in ids}
        return Material(
            fleet=fleet,
            now=now,
            certificates=tuple(seen),
            running=tuple(books.running(now=now)),
            newest=tuple(one for one in newest if one is not None),
            vouchers=tuple(books.vouchers()),
            grace={one: until for one, until in grace.items() if until is not None},
            bundle=bundle,
        )
