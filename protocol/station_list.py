"""The configuration body STATIONS: partner stations and chargers (C15, C18, H17).

JSON, so that who makes contracts with stations can write it. The car shows the nearest
ones to a driver with a low level, and offers to refuel when the engine stops at one.
"""

from dataclasses import dataclass
from typing import Final

import msgspec

from protocol.codes import Code, EnergyKind
from protocol.errors import DecodeError
from protocol.json_file import parse_file
from protocol.layout import text_bytes
from protocol.place import E7
from protocol.rental_command import NAME_LIMIT
from protocol.sync import CONFIG_LIMIT

STATION_LIST_FORMAT: Final = 1
"""The body's own revision."""

STATIONS_LIMIT: Final = 1_000
"""Stations of one car: more than the partners of any city; all are looked at when a
position comes."""

RADIUS_M: Final = 75
"""Of a geofence, if the station has no other (H17)."""

RADIUS_LIMIT_M: Final = 500
"""Beyond it a geofence would reach into the next streets (assumed)."""

STATION_ID_LIMIT: Final = 0xFFFF_FFFF
"""`protocol.rental_event.PaymentRequested` has four bytes for it."""


@dataclass(frozen=True, slots=True)
class Station:
    """One partner."""

    station_id: int
    """u32; the fleet's number of it."""
    name: str
    """For the driver; up to 32 bytes."""
    latitude_e7: int
    """Degrees times 10^7, WGS 84."""
    longitude_e7: int
    """Degrees times 10^7, WGS 84."""
    energy_kind: EnergyKind = EnergyKind.FUEL
    """What it sells."""
    radius_m: int = RADIUS_M
    """Of its geofence, 1 to 500."""
    pays_online: bool = False
    """Whether the fleet can pay there for the driver (C19)."""


class _Station(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: int
    name: str
    at: tuple[float, float]
    energy: str = "fuel"
    radius_m: int = RADIUS_M
    pays_online: bool = False


class _StationList(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    stations: list[_Station]


def parse_station_list(body: bytes) -> tuple[Station, ...]:
    """Read a body.

    Raises:
        DecodeError: not such a body; the message names the station.
    """
    read = parse_file(
        body,
        _StationList,
        name="the list of stations",
        limit=CONFIG_LIMIT,
        revision=STATION_LIST_FORMAT,
    )
    if len(read.stations) > STATIONS_LIMIT:
        raise DecodeError(
            Code.TOO_LARGE, f"{len(read.stations)} stations, limit {STATIONS_LIMIT}"
        )
    stations = tuple(_parse(each) for each in read.stations)
    if len({each.station_id for each in stations}) < len(stations):
        raise DecodeError(Code.BAD_PARAM, "two stations have the same id")
    return stations


def _parse(read: _Station) -> Station:
    latitude, longitude = read.at
    try:
        kind = EnergyKind[read.energy.upper()]
        size = len(text_bytes(read.name))
    except KeyError:
        raise _wrong(read, f"unknown energy {read.energy!r}") from None
    except ValueError as error:
        raise _wrong(read, str(error)) from None
    if not 0 <= read.id <= STATION_ID_LIMIT:
        raise _wrong(read, "its id is no u32")
    if not 1 <= size <= NAME_LIMIT:
        raise _wrong(read, f"its name has not 1 to {NAME_LIMIT} bytes")
    if abs(latitude) > 90 or abs(longitude) > 180:  # noqa: PLR2004 - degrees
        raise _wrong(read, "it is not on the earth")
    if not 1 <= read.radius_m <= RADIUS_LIMIT_M:
        raise _wrong(read, f"its radius is not 1 to {RADIUS_LIMIT_M} m")
    return Station(
        read.id,
        read.name,
        round(latitude * E7),
        round(longitude * E7),
        kind,
        read.radius_m,
        read.pays_online,
    )


def _wrong(read: _Station, why: str) -> DecodeError:
    return DecodeError(Code.BAD_PARAM, f"station {read.id}: {why}")


def build_station_list(stations: tuple[Station, ...]) -> bytes:
    """Return the body."""
    return msgspec.json.encode(
        _StationList(
            STATION_LIST_FORMAT,
            [
                _Station(
                    each.station_id,
                    each.name,
                    (each.latitude_e7 / E7, each.longitude_e7 / E7),
                    each.energy_kind.name.lower(),
                    each.radius_m,
                    each.pays_online,
                )
                for each in stations
            ],
        )
    )
