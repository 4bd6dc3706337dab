"""Partner stations: which are near, and whether the car stands at one (C15, C18, H17).

Stations that sell what the car does not run on do not count (H13).
"""

from typing import Final

from gateway.core.bearing import compass_of, distance_m, shown_m
from gateway.core.ending import ACCURACY_LIMIT_DM
from gateway.core.prompts import Line, LineKey, term_of
from gateway.core.reading import Position
from gateway.core.state import State
from protocol.codes import EnergyKind
from protocol.station_list import Station

FIX_LIMIT_MS: Final = 30_000
"""An older fix never triggers a geofence (H17)."""

NEAREST: Final = 3
"""Stations that a display shows."""


def nearest(state: State) -> tuple[Line, ...]:
    """Return lines with the nearest stations; none if nobody knows where the car is."""
    position = state.position
    if position is None:
        return ()
    found = sorted(
        _usable(state), key=lambda each: (shown_m(_away_m(position, each)), each.name)
    )
    return tuple(_line(position, station) for station in found[:NEAREST])


def _line(position: Position, station: Station) -> Line:
    away_m = shown_m(_away_m(position, station))
    if away_m == 0:
        return Line(LineKey.STATION_HERE, words=(station.name,))
    compass = compass_of(position, station.latitude_e7, station.longitude_e7)
    return Line(
        LineKey.STATION, (away_m,), words=(station.name,), terms=(term_of(compass),)
    )


def _away_m(position: Position, station: Station) -> float:
    return distance_m(position, station.latitude_e7, station.longitude_e7)


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
        if (away := _away_m(position, station)) <= station.radius_m
    ]
    return min(within)[2] if within else None


def known_station(state: State, station_id: int | None) -> Station | None:
    """Return a station by its id, None if the fleet's list no longer has it."""
    stations = state.facts.stations
    return next((each for each in stations if each.station_id == station_id), None)


def _usable(state: State) -> tuple[Station, ...]:
    kind = EnergyKind.FUEL if state.reading is None else state.reading.energy_kind
    return tuple(each for each in state.facts.stations if each.energy_kind is kind)
