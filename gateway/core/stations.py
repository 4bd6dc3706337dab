"""Partner stations: which are near, and whether the car stands at one (C15, C18, H17).

Distances are along a plane that touches the earth at the car, which is exact to a metre
within a city. Stations that sell what the car does not run on do not count (H13).
"""

from math import cos, hypot, radians
from typing import Final

from gateway.core.ending import ACCURACY_LIMIT_DM
from gateway.core.prompts import Line, LineKey
from gateway.core.reading import Position
from gateway.core.state import State
from protocol.codes import EnergyKind
from protocol.place import E7
from protocol.station_list import Station

FIX_LIMIT_MS: Final = 30_000
"""An older fix never triggers a geofence (H17)."""

NEAREST: Final = 3
"""Stations that a display shows."""

SHOWN_STEP_M: Final = 100
"""Distances are shown in such steps, so that a moving car's display keeps still."""

_M_PER_DEGREE: Final = 111_195.0
"""Of a great circle: a sphere of 6,371 km."""


def distance_m(position: Position, station: Station) -> float:
    """Return how far a station is."""
    north = (station.latitude_e7 - position.latitude_e7) / E7
    # The short way round where longitudes begin anew.
    east = (station.longitude_e7 - position.longitude_e7) / E7
    east = (east + 180) % 360 - 180
    east *= cos(radians(position.latitude_e7 / E7))
    return hypot(north, east) * _M_PER_DEGREE


def nearest(state: State) -> tuple[Line, ...]:
    """Return lines with the nearest stations; none if nobody knows where the car is."""
    position = state.position
    if position is None:
        return ()
    found = sorted(
        (round(distance_m(position, station) / SHOWN_STEP_M), station.name)
        for station in _usable(state)
    )
    return tuple(
        Line(LineKey.STATION, (steps * SHOWN_STEP_M,), words=(name,))
        for steps, name in found[:NEAREST]
    )


def station_here(state: State, now_ms: int) -> Station | None:
    """Return the station whose geofence the car is in, the nearest of several (H17).

    Args:
        state: the car's; its position may be too old or too vague to count.
        now_ms: boot clock.
    """
    position = state.position
    if position is None or position.accuracy_dm > ACCURACY_LIMIT_DM:
        return None
    if now_ms - state.position_at_ms > FIX_LIMIT_MS:
        return None
    within = [
        (away, station.station_id, station)
        for station in _usable(state)
        if (away := distance_m(position, station)) <= station.radius_m
    ]
    return min(within)[2] if within else None


def known_station(state: State, station_id: int | None) -> Station | None:
    """Return a station by its id, None if the fleet's list no longer has it."""
    stations = state.facts.stations
    return next((each for each in stations if each.station_id == station_id), None)


def _usable(state: State) -> tuple[Station, ...]:
    kind = EnergyKind.FUEL if state.reading is None else state.reading.energy_kind
    return tuple(each for each in state.facts.stations if each.energy_kind is kind)
