"""What a fleet directory holds, what expires when, and what is wrong with it.

Reads only. A problem never stops the inventory: an operator who looks for what is
broken needs to see the rest.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from certs.errors import FleetError
from certs.files import OTHERS, PARTIAL
from certs.fleet import FleetDirectory
from certs.profiles import Kind
from certs.services import services_of
from protocol.errors import ProtocolError
from protocol.fleet import FleetPart, TlsPart, VehiclePart
from protocol.identity import VEHICLE_TEXT, VehicleId

SOON: Final = timedelta(days=30)
"""When an end comes into sight: time to renew by hand."""

VEHICLE_SOON: Final = timedelta(days=3)
"""The same of a vehicle, which renews by itself with five to six of 14 days left: one
that comes so near to its end has not reached the enrolment service for two days."""


@dataclass(frozen=True, slots=True)
class Item:
    """Something that expires."""

    name: str
    """For people."""
    part: str
    """Path inside the fleet directory."""
    expires: datetime
    """With a time zone."""
    soon: timedelta = SOON
    """How long before its end it comes into sight."""

    def state(self, *, now: datetime) -> str:
        """Return ``valid``, ``expires soon`` or ``expired``."""
        if self.expires <= now:
            return "expired"
        return "expires soon" if self.expires - now < self.soon else "valid"


@dataclass(frozen=True, slots=True)
class Inventory:
    """All of a fleet."""

    items: tuple[Item, ...]
    """CAs, TLS certificates of servers and engineers, and the trust bundle."""
    vehicles: tuple[Item, ...]
    """TLS certificates of registered vehicles whose directory is still here, by end."""
    vehicle_count: int
    """Registered vehicles."""
    offline: tuple[str, ...]
    """Keys that are here and belong offline."""
    problems: tuple[str, ...]
    """One sentence each; empty if all is well."""


def take_inventory(fleet: FleetDirectory) -> Inventory:
    """Look at everything in a fleet directory."""
    problems: list[str] = []
    items = _items(fleet, problems)
    vehicles = _vehicles(fleet, problems)
    _look_for_leftovers(fleet.path, problems)
    _look_at_modes(fleet.path, problems)
    offline = [
        path.relative_to(fleet.path).as_posix()
        for pattern in ("ca/root*.key", "trust/root-*.key")
        for path in sorted(fleet.path.glob(pattern))
    ]
    return Inventory(
        items=tuple(items),
        vehicles=tuple(sorted(vehicles, key=lambda item: item.expires)),
        vehicle_count=len(fleet.vehicle_ids()),
        offline=tuple(offline),
        problems=tuple(problems),
    )


def _items(fleet: FleetDirectory, problems: list[str]) -> list[Item]:
    items = []
    for kind, part in (
        (Kind.ROOT, FleetPart.ROOT_CERTIFICATE.value),
        (Kind.ISSUING, FleetPart.ISSUING_CERTIFICATE.value),
        *(
            (service.kind, f"{service.part}/{TlsPart.CERTIFICATE}")
            for service in services_of(fleet.path).values()
        ),
    ):
        try:
            end = fleet.certificate(part).not_valid_after_utc
            items.append(Item(kind.value, part, end))
        except (FleetError, OSError) as error:
            problems.append(str(error))
    try:
        bundle = fleet.open_trust_bundle()
        end = datetime.fromtimestamp(bundle.expires_ms / 1000, tz=UTC)
        name = f"trust bundle {bundle.version}"
        items.append(Item(name, FleetPart.TRUST_BUNDLE.value, end))
    except (FleetError, OSError) as error:
        problems.append(str(error))
    return items


def _vehicles(fleet: FleetDirectory, problems: list[str]) -> list[Item]:
    items = []
    try:
        _ = fleet.issuing_certificate
    except (FleetError, OSError):
        return []  # reported with the items
    for vehicle_id in fleet.vehicle_ids():
        try:
            fleet.vehicle_record(vehicle_id)
        except (ProtocolError, OSError) as error:
            problems.append(f"{fleet.record_path(vehicle_id)}: {error}")
        part = _tls_part(vehicle_id)
        # The directory is moved into the car, so its absence is no problem.
        if (fleet.path / part).exists():
            try:
                end = fleet.certificate(part).not_valid_after_utc
                items.append(Item(str(vehicle_id), part, end, VEHICLE_SOON))
            except (FleetError, OSError) as error:
                problems.append(str(error))
    return items


def _tls_part(vehicle_id: VehicleId) -> str:
    return f"{FleetPart.VEHICLES}/{vehicle_id}/{VehiclePart.TLS_CERTIFICATE}"


def _look_for_leftovers(path: Path, problems: list[str]) -> None:
    registered = {one.stem for one in (path / FleetPart.REGISTRY).glob("*.json")}
    problems.extend(
        f"{directory} is not registered: an issuing was cut off; remove it"
        for directory in sorted((path / FleetPart.VEHICLES).glob("*"))
        if PARTIAL in directory.name
        or (VEHICLE_TEXT.fullmatch(directory.name) and directory.name not in registered)
    )


def _look_at_modes(path: Path, problems: list[str]) -> None:
    for key in sorted(path.rglob("*.key")):
        mode = key.stat().st_mode & 0o777
        if mode & OTHERS:
            problems.append(
                f"{key} can be read by others (mode {mode:04o}): chmod 600 {key}"
            )
