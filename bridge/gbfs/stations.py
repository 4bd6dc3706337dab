"""Virtual stations of GBFS 3.0: where cars have room, and how many are free (pure).

Counts are those of the listed cars, so they tell nothing that the list does not.
"""

from collections.abc import Sequence

from bridge.gbfs.geometry import ring_of
from bridge.gbfs.words import Document, text_in
from bridge.instants import rfc3339
from bridge.publication import GbfsSettings
from bridge.stations import Station


def information_of(
    settings: GbfsSettings, stations: Sequence[Station], types: Sequence[str]
) -> Document:
    """Return the data of ``station_information``; `types` are those of all cars."""
    return {"stations": [_information(settings, one, types) for one in stations]}


def status_of(
    stations: Sequence[Station], cars: Sequence[Document], *, now: int
) -> Document:
    """Return the data of ``station_status``; `cars` are those of ``vehicle_status``."""
    return {"stations": [_status(station, cars, now=now) for station in stations]}


def _information(
    settings: GbfsSettings, station: Station, types: Sequence[str]
) -> Document:
    told = station.settings
    latitude_deg, longitude_deg = station.centre_deg
    polygons = [[ring_of(polygon)] for polygon in station.area.inside]
    return {
        "station_id": told.id,
        "name": text_in(settings, told.name),
        "lat": latitude_deg,
        "lon": longitude_deg,
        "is_virtual_station": True,
        "station_area": {"type": "MultiPolygon", "coordinates": polygons},
        "is_charging_station": told.has_chargers,
        "vehicle_types_capacity": [
            {"vehicle_type_ids": list(types), "count": told.places}
        ],
    }


def _status(station: Station, cars: Sequence[Document], *, now: int) -> Document:
    here = [car for car in cars if car.get("station_id") == station.settings.id]
    free = [car["vehicle_type_id"] for car in here if not car["is_disabled"]]
    return {
        "station_id": station.settings.id,
        "num_vehicles_available": len(free),
        "num_vehicles_disabled": len(here) - len(free),
        "vehicle_types_available": [
            {"vehicle_type_id": name, "count": free.count(name)}
            for name in sorted({str(name) for name in free})
        ],
        "is_installed": True,
        "is_renting": True,
        "is_returning": True,
        "last_reported": rfc3339(now),
    }
