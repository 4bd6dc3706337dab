"""Issuing vehicles: keys, certificates, and the directory that is copied into a car.

Order is the safety here: the directory is finished and on the disk before the record
appears in the registry, and the record appears whole or not at all. A registered
vehicle therefore always has its keys; a crash in between leaves a directory without a
record, which `certs.inventory` reports and which no bridge will ever believe.
"""

import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from certs.authority import Authority
from certs.books import Books
from certs.enrolment import Enrolled, VehicleKeys, enrol
from certs.errors import CertsError, ExistsError, PartialError, RequestError
from certs.files import new_tree, publish_new, write_new
from certs.fleet import FleetDirectory
from protocol.fleet import (
    FleetPart,
    VehicleIdentity,
    VehiclePart,
    build_trust_roots,
    build_vehicle,
)
from protocol.identity import ID_SIZE, VehicleId
from protocol.keyfile import build_key

BATCH_LIMIT: Final = 100_000
"""Vehicles issued by one call. Each is on the disk before the next is begun: 300 took
12 s on a slow virtual disk, 3 s of it CPU."""


@dataclass(frozen=True, slots=True)
class IssuedVehicle:
    """A vehicle that is registered and whose directory is ready to be copied."""

    vehicle_id: VehicleId
    """Whose."""
    directory: Path
    """What is copied into the car; holds its private keys."""
    tls_expires: datetime
    """When it can no longer connect."""


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all cars of a batch are given alike."""

    authority: Authority
    enrolled: Enrolled
    trust_anchors: bytes
    trust_roots: bytes
    trust_bundle: bytes
    books: Books


def random_vehicle_id() -> VehicleId:
    """Make an id that says nothing about the car (`protocol.identity`)."""
    return VehicleId(secrets.token_bytes(ID_SIZE))


def issue_vehicles(
    fleet: FleetDirectory,
    vehicle_ids: Sequence[VehicleId],
    *,
    now: datetime,
    tls_lifetime: timedelta | None = None,
    told: Callable[[int], None] = lambda _count: None,
) -> list[IssuedVehicle]:
    """Make keys and certificates for vehicles and register them, one after another.

    Whatever ends it, each car of which `told` heard is whole and registered.

    Args:
        fleet: whose.
        vehicle_ids: the ids to issue; `random_vehicle_id` makes one.
        now: with a time zone.
        tls_lifetime: shorter than the profile's, or None for the profile's.
        told: called after each, with how many are issued by now.

    Raises:
        RequestError: none or too many are asked for, or a profile does not allow it.
        DuplicateError: an id is registered.
        FleetError: a part of the fleet is missing, damaged, or in the way.
        BusyError: another process is issuing.
        PartialError: some were issued before one failed.
        OSError: a file could not be written. But for `PartialError`, nothing was
            issued.
    """
    if not 1 <= len(vehicle_ids) <= BATCH_LIMIT:
        raise RequestError(
            f"{len(vehicle_ids)} vehicles asked for, not 1 to {BATCH_LIMIT}"
        )
    if len(set(vehicle_ids)) != len(vehicle_ids):
        raise RequestError("a vehicle id is asked for twice")
    issued: list[IssuedVehicle] = []
    with fleet.issuing() as enrolled, closing(fleet.books()) as books:
        shared = _Shared(
            authority=fleet.issuing_authority(),
            enrolled=enrolled,
            trust_anchors=(fleet.path / FleetPart.TRUST_ANCHORS).read_bytes(),
            trust_roots=build_trust_roots(fleet.trust_roots()),
            trust_bundle=fleet.trust_bundle(),
            books=books,
        )
        for vehicle_id in vehicle_ids:
            try:
                issued.append(
                    _issue(fleet, vehicle_id, shared, now=now, lifetime=tls_lifetime)
                )
            except (CertsError, OSError) as error:
                if not issued:
                    raise
                raise PartialError(len(issued), len(vehicle_ids), str(error)) from error
            told(len(issued))
    return issued


def _issue(
    fleet: FleetDirectory,
    vehicle_id: VehicleId,
    shared: _Shared,
    *,
    now: datetime,
    lifetime: timedelta | None,
) -> IssuedVehicle:
    fleet_id = fleet.fleet.fleet_id
    keys = VehicleKeys.generate()
    enrolment = enrol(
        keys.claim(vehicle_id, fleet_id=fleet_id),
        shared.authority,
        shared.enrolled,
        fleet_id=fleet_id,
        now=now,
        tls_lifetime=lifetime,
    )
    directory = fleet.vehicle_directory(vehicle_id)
    chain = fleet.chain(enrolment.tls_certificate)
    identity = build_vehicle(VehicleIdentity(vehicle_id, fleet_id))
    try:
        with new_tree(directory, private=True) as partial:
            for part, data, private in (
                (VehiclePart.TLS_KEY, build_key(keys.tls), True),
                (VehiclePart.SIGNING_KEY, build_key(keys.signing.handle), True),
                (VehiclePart.SEALING_KEY, build_key(keys.sealing), True),
                (VehiclePart.TLS_CERTIFICATE, chain, False),
                (VehiclePart.TRUST_ANCHORS, shared.trust_anchors, False),
                (VehiclePart.TRUST_ROOTS, shared.trust_roots, False),
                (VehiclePart.TRUST_BUNDLE, shared.trust_bundle, False),
                (VehiclePart.IDENTITY, identity, False),
            ):
                write_new(partial / part, data, private=private)
    except ExistsError as error:
        raise ExistsError(
            f"{directory} exists, but the vehicle is not registered: an earlier "
            "issuing was cut off",
            "remove that directory, its keys were never registered; then issue again",
        ) from error
    try:
        shared.books.add_issued(
            vehicle_id, enrolment.tls_certificate, how="issue", now=now
        )
        publish_new(fleet.record_path(vehicle_id), enrolment.record)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    return IssuedVehicle(
        vehicle_id, directory, enrolment.tls_certificate.not_valid_after_utc
    )
