"""Where something lies, seen from the car: how far, and in which direction.

The car's display has no map (C15): a driver reads a distance and a point of the
compass. Both are along a plane that touches the earth at the car, which is exact to a
metre within a city.
"""

from enum import Enum, unique
from math import atan2, cos, degrees, hypot, radians
from typing import Final

from gateway.core.reading import Position
from protocol.place import E7

SHOWN_STEP_M: Final = 100
"""Distances are shown in such steps, so that a moving car's display keeps still."""

_M_PER_DEGREE: Final = 111_195.0
"""Of a great circle: a sphere of 6,371 km."""


@unique
class Compass(Enum):
    """Eight directions, clockwise from north."""

    NORTH = 0
    NORTH_EAST = 1
    EAST = 2
    SOUTH_EAST = 3
    SOUTH = 4
    SOUTH_WEST = 5
    WEST = 6
    NORTH_WEST = 7


def distance_m(position: Position, latitude_e7: int, longitude_e7: int) -> float:
    """Return how far a place is."""
    return hypot(*_way_m(position, latitude_e7, longitude_e7))


def compass_of(position: Position, latitude_e7: int, longitude_e7: int) -> Compass:
    """Return in which direction a place lies; NORTH for that of the car itself."""
    north, east = _way_m(position, latitude_e7, longitude_e7)
    eighths = round(degrees(atan2(east, north)) / 45)
    return Compass(eighths % len(Compass))


def shown_m(distance: float) -> int:
    """Return a distance as a display shows it, 0 for "here"."""
    return round(distance / SHOWN_STEP_M) * SHOWN_STEP_M


def _way_m(
    position: Position, latitude_e7: int, longitude_e7: int
) -> tuple[float, float]:
    """Return how far north and how far east a place is."""
    north = (latitude_e7 - position.latitude_e7) / E7
    # The short way round where longitudes begin anew.
    east = (longitude_e7 - position.longitude_e7) / E7
    east = (east + 180) % 360 - 180
    east *= cos(radians(position.latitude_e7 / E7))
    return north * _M_PER_DEGREE, east * _M_PER_DEGREE
