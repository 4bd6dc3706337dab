"""GBFS 3.0 documents: which cars are free, and where (pure).

Rule 1: only a car that nobody has is listed; a reserved or rented one is not there.
Rule 2: a car has another name each time it becomes free, and names follow from one
another for nobody without the secret; so no trip can be put together from the feed.
The list's order is that of these names, and levels are rounded, for the same reason.
Rule 3: a car that cannot be rented now, but stands in the street, is disabled.
"""

import hashlib
import hmac
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from bridge.gbfs.geometry import ring_of
from bridge.gbfs.prices import plans_of, prices_of_type
from bridge.gbfs.stations import information_of, status_of
from bridge.gbfs.words import Document, text_in
from bridge.instants import rfc3339
from bridge.mds.documents import location_of
from bridge.mds.machine import MdsState
from bridge.publication import GbfsSettings
from bridge.stations import Station, station_at
from bridge.vehicle import VehicleState
from protocol.business_area import BusinessArea, Corner
from protocol.identity import VehicleId

VERSION: Final = "3.0"
"""Of the specification whose documents these are."""

SECRET_SIZE: Final = 32
"""Bytes of the secret that names are made of."""

FUEL_TYPE: Final = "fuel"
ELECTRIC_TYPE: Final = "electric"

_PERCENT_STEP: Final = 5
_RANGE_STEP_M: Final = 10_000


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the feeds are made of."""

    states: Mapping[VehicleId, VehicleState]
    """Every car that is registered and was heard of."""
    area: BusinessArea | None
    """Where a rental may end; None for everywhere."""
    stations: tuple[Station, ...] = ()
    """Where cars have room of their own."""


def feeds_of(
    settings: GbfsSettings, fleet: Fleet, *, secret: bytes, now: int
) -> dict[str, Document]:
    """Return every feed by its name, without ``.json``.

    Args:
        settings: who publishes.
        fleet: what is known.
        secret: `SECRET_SIZE` bytes that names of cars are made of.
        now: UTC ms.
    """
    cars = vehicles_of(settings, fleet, secret=secret, now=now)
    data: dict[str, Document] = {
        "system_information": _system(settings),
        "vehicle_types": {"vehicle_types": _types(settings, fleet)},
        "vehicle_status": {"vehicles": cars},
    }
    if fleet.stations:
        types = (FUEL_TYPE, ELECTRIC_TYPE)
        data["station_information"] = information_of(settings, fleet.stations, types)
        data["station_status"] = status_of(fleet.stations, cars, now=now)
    if settings.plans:
        data["system_pricing_plans"] = plans_of(settings)
    if fleet.area is not None:
        data["geofencing_zones"] = _zones(settings, fleet.area)
    feeds = [{"name": name, "url": _url(settings, name)} for name in data]
    first = {"gbfs": {"feeds": feeds}, "manifest": _manifest(settings)}
    return {
        name: {
            "last_updated": rfc3339(now),
            "ttl": settings.ttl_s,
            "version": VERSION,
            "data": found,
        }
        for name, found in (first | data).items()
    }


def vehicles_of(
    settings: GbfsSettings, fleet: Fleet, *, secret: bytes, now: int
) -> list[Document]:
    """Return the free cars, by their passing names."""
    found = [
        _vehicle(settings, fleet, vehicle_id, secret=secret, now=now)
        for vehicle_id in fleet.states
    ]
    listed = [vehicle for vehicle in found if vehicle is not None]
    return sorted(listed, key=lambda vehicle: str(vehicle["vehicle_id"]))


def passing_name(secret: bytes, vehicle_id: VehicleId, rotations: int) -> str:
    """Return what a car is called until somebody has it."""
    message = b"ff-gbfs-v1\0" + vehicle_id.raw + rotations.to_bytes(8, "big")
    digest = bytearray(hmac.digest(secret, message, hashlib.sha256)[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


def _vehicle(
    settings: GbfsSettings,
    fleet: Fleet,
    vehicle_id: VehicleId,
    *,
    secret: bytes,
    now: int,
) -> Document | None:
    state = fleet.states[vehicle_id]
    standing, twin = state.standing, state.twin
    known = location_of(twin)
    mode = twin.get("mode")
    is_free = mode is not None and mode.value == "available"
    if not standing.is_in_the_street or not is_free or known is None:
        return None
    range_m = _range_m(settings, state)
    if range_m is None:
        return None
    condition = twin.get("condition")
    is_sound = condition is None or condition.value == "ok"
    is_rentable = (
        is_sound
        and standing.shown is MdsState.AVAILABLE
        and state.doubt is None
        and state.is_online(now=now)
    )
    location, field = known
    document: Document = {
        "vehicle_id": passing_name(secret, vehicle_id, standing.rotations),
        "lat": round(location.latitude_deg, 6),
        "lon": round(location.longitude_deg, 6),
        "is_reserved": False,
        "is_disabled": not is_rentable,
        "vehicle_type_id": _type_of(state),
        "last_reported": rfc3339(field.observed_ms) or rfc3339(field.received_ms),
        "current_range_meters": range_m,
    }
    energy = twin.get("energy_pct")
    if energy is not None and isinstance(energy.value, int):
        rounded = energy.value // _PERCENT_STEP * _PERCENT_STEP
        document["current_fuel_percent"] = rounded / 100
    station = station_at(fleet.stations, location.latitude_deg, location.longitude_deg)
    if station is not None:
        document["station_id"] = station.settings.id
    return document


def _range_m(settings: GbfsSettings, state: VehicleState) -> int | None:
    told, energy = state.twin.get("range_km"), state.twin.get("energy_pct")
    most_m = _most_m(settings, is_electric=state.is_electric)
    if told is not None and isinstance(told.value, int):
        range_m = told.value * 1_000
    elif energy is not None and isinstance(energy.value, int):
        range_m = most_m * energy.value // 100
    else:
        return None
    return min(range_m, most_m) // _RANGE_STEP_M * _RANGE_STEP_M


def _most_m(settings: GbfsSettings, *, is_electric: bool) -> int:
    most_km = settings.electric_range_km if is_electric else settings.fuel_range_km
    return most_km * 1_000


def _type_of(state: VehicleState) -> str:
    return ELECTRIC_TYPE if state.is_electric else FUEL_TYPE


def _types(settings: GbfsSettings, fleet: Fleet) -> list[Document]:
    # With stations a car may be left there or anywhere in the area.
    constraint = "hybrid" if fleet.stations else "free_floating"
    return [
        {
            "vehicle_type_id": name,
            "form_factor": "car",
            "propulsion_type": propulsion,
            "max_range_meters": _most_m(settings, is_electric=name == ELECTRIC_TYPE),
            "return_constraint": constraint,
            **prices_of_type(settings, name),
        }
        for name, propulsion in (
            (FUEL_TYPE, "combustion"),
            (ELECTRIC_TYPE, "electric"),
        )
    ]


def _manifest(settings: GbfsSettings) -> Document:
    """Return which systems and versions there are: this one, in this one."""
    versions = [{"version": VERSION, "url": _url(settings, "gbfs")}]
    return {"datasets": [{"system_id": settings.system_id, "versions": versions}]}


def _url(settings: GbfsSettings, name: str) -> str:
    return f"{settings.url}/gbfs/3.0/{name}.json"


def _system(settings: GbfsSettings) -> Document:
    return {
        "system_id": settings.system_id,
        "languages": [settings.language],
        "name": text_in(settings, settings.name),
        "opening_hours": settings.opening_hours,
        "feed_contact_email": settings.email,
        "timezone": settings.timezone,
        "manifest_url": _url(settings, "manifest"),
    }


def _zones(settings: GbfsSettings, area: BusinessArea) -> Document:
    """Return where a ride may end.

    The first zone that a place lies in counts: what is taken out of the area comes
    before it.
    """
    features = [
        _zone(settings, name, polygons, may_end=may_end)
        for name, polygons, may_end in (
            ("No parking", area.outside, False),
            ("Business area", area.inside, True),
        )
        if polygons
    ]
    return {
        "geofencing_zones": {"type": "FeatureCollection", "features": features},
        "global_rules": [_rule(may_end=False)],
    }


def _zone(
    settings: GbfsSettings,
    name: str,
    polygons: Iterable[tuple[Corner, ...]],
    *,
    may_end: bool,
) -> Document:
    return {
        "type": "Feature",
        "geometry": {
            "type": "MultiPolygon",
            "coordinates": [[ring_of(polygon)] for polygon in polygons],
        },
        "properties": {
            "name": text_in(settings, name),
            "rules": [_rule(may_end=may_end)],
        },
    }


def _rule(*, may_end: bool) -> Document:
    return {
        # A car stands where a ride ended, so rides begin where they may end.
        "ride_start_allowed": True,
        "ride_end_allowed": may_end,
        "ride_through_allowed": True,
    }
