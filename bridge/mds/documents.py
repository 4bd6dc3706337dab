"""MDS 2.0 documents of vehicles, events, trips and telemetry.

No card, PIN or customer is in any of them, nor a rental's own id: a trip's id is made
of it and leads nowhere back. Places of rentals come from the table that can be emptied;
an erased one is never given out (K25, K26).
"""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from bridge.publication import MdsSettings, StationSettings
from bridge.rows.steps import StoredStep
from bridge.stations import Station
from bridge.twin import Field, Twin
from bridge.vehicle import VehicleState
from protocol.identity import VehicleId
from protocol.place import E7, Place
from protocol.snapshot import NO_RENTAL

Document = dict[str, object]

ROOT: Final = "/mds/"
"""Below it is what a city reads."""

VERSION: Final = "2.0.0"
"""Of the specification whose documents these are."""

DEFAULT_PROPULSION: Final = "combustion"
"""Of a car that has not said yet."""

KMH: Final = 3.6
"""km/h in one m/s."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where something was."""

    latitude_deg: float
    """WGS 84."""
    longitude_deg: float
    """WGS 84."""
    accuracy_m: float | None = None
    """Horizontal."""
    heading_deg: float | None = None
    """Clockwise from north."""
    speed_kmh: float | None = None
    """Over ground."""

    @classmethod
    def of_place(cls, place: Place) -> "Location":
        """Return the location of a rental's place."""
        accuracy = None if place.accuracy_dm is None else place.accuracy_dm / 10
        return cls(place.latitude_e7 / E7, place.longitude_e7 / E7, accuracy)

    @property
    def document(self) -> Document:
        """Return it as MDS has it: ``lng``, metres a second, six decimals."""
        found: Document = {
            "lat": round(self.latitude_deg, 6),
            "lng": round(self.longitude_deg, 6),
        }
        if self.accuracy_m is not None:
            found["horizontal_accuracy"] = self.accuracy_m
        if self.heading_deg is not None:
            found["heading"] = self.heading_deg
        if self.speed_kmh is not None:
            found["speed"] = round(self.speed_kmh / KMH, 2)
        return found


@dataclass(frozen=True, slots=True)
class Trip:
    """A rental that drove and ended, with what is known of it."""

    vehicle_id: VehicleId
    rental_id: bytes
    started_ms: int
    ended_ms: int
    stored_ms: int
    distance_m: int
    start: Location
    end: Location


@dataclass(frozen=True, slots=True)
class Stop:
    """Which cars stand in a station."""

    available: tuple[VehicleId, ...]
    """Those that can be rented."""
    disabled: tuple[VehicleId, ...]
    """Those that cannot, or are reserved."""


class Provider:
    """Writes documents in the name of one operator."""

    def __init__(
        self, settings: MdsSettings, stations: tuple[StationSettings, ...] = ()
    ) -> None:
        self._id = settings.provider_id
        self.stations = tuple(map(Station.of, stations))
        """Where cars have room of their own."""
        made = _uuid(b"area", uuid.UUID(self._id).bytes)
        self._geography_id = settings.geography_id or made

    def trip_id(self, vehicle_id: VehicleId, rental_id: bytes) -> str:
        """Return a trip's id; nobody finds the rental by it."""
        return self._made(b"trip", vehicle_id, rental_id)

    def journey_id(self, vehicle_id: VehicleId, rental_id: bytes) -> str:
        """Return the id of the time that somebody has the car for themselves."""
        return self._made(b"journey", vehicle_id, rental_id)

    def vehicle(self, vehicle_id: VehicleId, state: VehicleState | None) -> Document:
        """Return what of a vehicle seldom changes."""
        return {
            **self._about(vehicle_id),
            "vehicle_id": str(vehicle_id),
            "vehicle_type": "car",
            # No accessibility_attributes: nobody has told the bridge of any.
            "propulsion_types": [propulsion_of(state)],
        }

    def event(self, step: StoredStep, location: Location | None) -> Document:
        """Return an event; without a location it names the whole area."""
        found: Document = {
            **self._about(step.vehicle_id),
            "event_id": str(uuid.UUID(bytes=step.event_id)),
            "vehicle_state": step.state.value,
            "event_types": [step.type.value],
            "timestamp": step.at_ms,
            "publication_time": step.stored_ms,
        }
        if location is None:
            found["event_geographies"] = [self._geography_id]
        else:
            found["location"] = location.document
        if step.energy_pct is not None:
            name = "battery_percent" if step.is_electric else "fuel_percent"
            found[name] = step.energy_pct
        if step.rental_id != NO_RENTAL:
            found["trip_ids"] = [self.trip_id(step.vehicle_id, step.rental_id)]
        return found

    def status(
        self, vehicle_id: VehicleId, state: VehicleState, last: StoredStep
    ) -> Document | None:
        """Return the last event and sample; None while no place is known.

        The position is the last one of the free car: in a rental a car tells none.
        """
        known = location_of(state.twin)
        if known is None:
            return None
        location, field = known
        observed_ms = field.observed_ms or field.received_ms
        telemetry: Document = {
            **self._about(vehicle_id),
            "telemetry_id": _uuid(
                b"status", vehicle_id.raw + observed_ms.to_bytes(8, "big")
            ),
            "timestamp": observed_ms,
            "trip_ids": None,
            "journey_id": None,
            "location": location.document,
            **_energy(state.twin, is_electric=state.is_electric),
        }
        is_there = last.rental_id == NO_RENTAL and observed_ms >= last.at_ms
        return {
            **self._about(vehicle_id),
            "last_event": self.event(last, location if is_there else None),
            "last_telemetry": telemetry,
        }

    def trip(self, trip: Trip) -> Document:
        """Return a trip."""
        vehicle_id, rental_id = trip.vehicle_id, trip.rental_id
        return {
            **self._about(vehicle_id),
            "trip_id": self.trip_id(vehicle_id, rental_id),
            "journey_id": self.journey_id(vehicle_id, rental_id),
            "trip_type": ["private"],
            "start_time": trip.started_ms,
            "end_time": trip.ended_ms,
            "start_location": trip.start.document,
            "end_location": trip.end.document,
            "duration": (trip.ended_ms - trip.started_ms) // 1000,
            "distance": trip.distance_m,
            "publication_time": trip.stored_ms,
        }

    def telemetry(
        self,
        vehicle_id: VehicleId,
        location: Location,
        at_ms: int,
        *,
        key: bytes,
        energy: Mapping[str, object],
    ) -> Document:
        """Return where a free car was; `key` tells the point from its others."""
        return {
            **self._about(vehicle_id),
            "telemetry_id": _uuid(b"telemetry", vehicle_id.raw + key),
            "timestamp": at_ms,
            # In a rental a car tells no position (K25).
            "trip_ids": None,
            "journey_id": None,
            "location": location.document,
            **energy,
        }

    def stop(self, station: Station, stop: Stop, *, now: int) -> Document:
        """Return a station, with the cars that stand in it."""
        latitude_deg, longitude_deg = station.centre_deg
        return {
            "stop_id": self.stop_id(station),
            "provider_id": self._id,
            "name": station.settings.name,
            "last_updated": now,
            "location": Location(latitude_deg, longitude_deg).document,
            "status": {"is_installed": True, "is_renting": True, "is_returning": True},
            "capacity": {"car": station.settings.places},
            "num_vehicles_available": {"car": len(stop.available)},
            "num_vehicles_disabled": {"car": len(stop.disabled)},
            "devices": sorted(map(device_id, (*stop.available, *stop.disabled))),
        }

    def stop_id(self, station: Station) -> str:
        """Return a station's id, which stays the same while its own does."""
        return _uuid(b"stop", self._id.encode() + station.settings.id.encode())

    def _about(self, vehicle_id: VehicleId) -> Document:
        return {"device_id": device_id(vehicle_id), "provider_id": self._id}

    def _made(self, what: bytes, vehicle_id: VehicleId, rental_id: bytes) -> str:
        return _uuid(what, self._id.encode() + vehicle_id.raw + rental_id)


def document_of(
    name: str, documents: list[Document], *, following: str | None = None
) -> Document:
    """Return an answer's document.

    MDS 2.0's text has the list in ``data``, its OpenAPI document beside it and wants
    both; so both are there (docs/adr/0019).
    """
    return {
        "version": VERSION,
        "data": {name: documents},
        name: documents,
        "links": {"next": following},
    }


def device_id(vehicle_id: VehicleId) -> str:
    """Return the device of a vehicle, which stays the same for ever."""
    return str(uuid.UUID(bytes=vehicle_id.raw))


def vehicle_of(device: str) -> VehicleId:
    """Return the vehicle of a device, the other way round."""
    return VehicleId(uuid.UUID(device).bytes)


def propulsion_of(state: VehicleState | None) -> str:
    """Return what moves a vehicle."""
    if state is not None and state.is_electric:
        return "electric"
    return DEFAULT_PROPULSION


def location_of(twin: Twin) -> tuple[Location, Field] | None:
    """Return where a car was last while it was free, and the field that says so."""
    latitude, longitude = twin.get("latitude_deg"), twin.get("longitude_deg")
    if latitude is None or longitude is None:
        return None
    lat, lng = latitude.value, longitude.value
    if not isinstance(lat, float) or not isinstance(lng, float):
        return None
    accuracy = twin.get("accuracy_m")
    is_float = accuracy is not None and isinstance(accuracy.value, float)
    metres = accuracy.value if accuracy is not None and is_float else None
    return Location(lat, lng, metres if isinstance(metres, float) else None), latitude


def _energy(twin: Twin, *, is_electric: bool) -> Document:
    energy = twin.get("energy_pct")
    if energy is None or not isinstance(energy.value, int):
        return {}
    return {"battery_percent" if is_electric else "fuel_percent": energy.value}


def _uuid(what: bytes, of: bytes) -> str:
    digest = bytearray(hashlib.sha256(b"ff-mds-" + what + b"-v1\0" + of).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))
