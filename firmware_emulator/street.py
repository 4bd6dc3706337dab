"""A small city: streets on a grid, places in it, and ways through it.

Not a map of anywhere. It exists so that an emulated car has a position that moves along
streets and turns at crossings, and so that the same seed gives the same drive. Lengths
are whole millimetres: a drive has the same length however finely time is cut.
"""

import math
from dataclasses import dataclass
from enum import Enum, unique
from itertools import pairwise
from random import Random
from typing import Final

from firmware_emulator.errors import DeedError

MM_PER_M: Final = 1_000

EARTH_RADIUS_M: Final = 6_371_008.8
"""Mean radius; a city of 20 km needs no ellipsoid."""

MUNICH: Final = (481_372_000, 115_756_000)
"""South-west corner of the default city, degrees times 10^7: where DriveNow began."""


@unique
class Heading(Enum):
    """Where a street can lead; the value is clockwise from north in degrees."""

    NORTH = 0
    EAST = 90
    SOUTH = 180
    WEST = 270

    @property
    def vector(self) -> tuple[int, int]:
        """Steps to the east and to the north."""
        return _VECTORS[self]

    @property
    def left(self) -> "Heading":
        """After a turn to the left."""
        return Heading((self.value - 90) % 360)

    @property
    def right(self) -> "Heading":
        """After a turn to the right."""
        return Heading((self.value + 90) % 360)


_VECTORS: Final = {
    Heading.NORTH: (0, 1),
    Heading.EAST: (1, 0),
    Heading.SOUTH: (0, -1),
    Heading.WEST: (-1, 0),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A point of the city, from its south-west corner."""

    east_mm: int
    """Millimetres to the east."""
    north_mm: int
    """Millimetres to the north."""

    def moved(self, heading: Heading, distance_mm: int) -> "Place":
        """Return the place at a distance in a direction."""
        east, north = heading.vector
        return Place(
            self.east_mm + east * distance_mm, self.north_mm + north * distance_mm
        )


@dataclass(frozen=True, slots=True)
class Leg:
    """A straight part of a way."""

    heading: Heading
    """Where to."""
    distance_mm: int
    """How far, above 0."""


@dataclass(frozen=True, slots=True)
class City:
    """Streets every `block_m` metres in both directions; 20 x 15 km by default (N9)."""

    width_m: int = 20_000
    """From west to east."""
    height_m: int = 15_000
    """From south to north."""
    block_m: int = 100
    """Between two parallel streets."""
    corner: tuple[int, int] = MUNICH
    """Latitude and longitude of the south-west corner, degrees times 10^7."""

    def coordinates(self, place: Place) -> tuple[int, int]:
        """Return latitude and longitude, degrees times 10^7 (WGS 84)."""
        latitude, longitude = self.corner
        metres_per_degree = math.pi * EARTH_RADIUS_M / 180
        north = place.north_mm / MM_PER_M / metres_per_degree
        shrink = math.cos(math.radians(latitude / 1e7))
        east = place.east_mm / MM_PER_M / metres_per_degree / shrink
        return latitude + round(north * 1e7), longitude + round(east * 1e7)

    def random_crossing(self, rng: Random) -> Place:
        """Return any crossing of the city."""
        block = self.block_m * MM_PER_M
        return Place(
            rng.randrange(self.width_m // self.block_m + 1) * block,
            rng.randrange(self.height_m // self.block_m + 1) * block,
        )

    def is_street(self, place: Place) -> bool:
        """Whether a place lies on a street of the city."""
        block = self.block_m * MM_PER_M
        inside = (
            0 <= place.east_mm <= self.width_m * MM_PER_M
            and 0 <= place.north_mm <= self.height_m * MM_PER_M
        )
        return inside and (place.east_mm % block == 0 or place.north_mm % block == 0)

    @property
    def middle(self) -> Place:
        """The crossing in the middle."""
        block = self.block_m * MM_PER_M
        return Place(
            self.width_m // self.block_m // 2 * block,
            self.height_m // self.block_m // 2 * block,
        )

    def route(self, start: Place, goal: Place) -> list[Leg]:
        """Return a shortest way between two places on streets; empty if they are one.

        Raises:
            DeedError: one of them lies on no street.
        """
        for place in (start, goal):
            if not self.is_street(place):
                raise DeedError(
                    f"{place.east_mm / MM_PER_M:g} m east, "
                    f"{place.north_mm / MM_PER_M:g} m north is on no street"
                )
        ways = [[start, goal]] if self._share_street(start, goal) else []
        ways += [
            [start, begin, Place(begin.east_mm, end.north_mm), end, goal]
            for begin in self._crossings_at(start)
            for end in self._crossings_at(goal)
        ]
        return min((_legs(way) for way in ways), key=_length_mm)

    def _share_street(self, start: Place, goal: Place) -> bool:
        block = self.block_m * MM_PER_M
        if start.east_mm == goal.east_mm:
            return start.east_mm % block == 0 or start.north_mm == goal.north_mm
        return start.north_mm == goal.north_mm and start.north_mm % block == 0

    def _crossings_at(self, place: Place) -> list[Place]:
        """Return the crossings at both ends of the place's block; itself if it is."""
        block = self.block_m * MM_PER_M
        east, north = place.east_mm, place.north_mm
        easts = {east // block * block, -(-east // block) * block}
        norths = {north // block * block, -(-north // block) * block}
        return [
            Place(each, other) for each in sorted(easts) for other in sorted(norths)
        ]

    def wander(
        self, start: Place, heading: Heading, distance_mm: int, rng: Random
    ) -> list[Leg]:
        """Return a way of exactly that length that turns where it likes.

        Args:
            start: a place on a street.
            heading: where the car looks; it turns round only where it must.
            distance_mm: above 0.
            rng: chooses at crossings.
        """
        legs: list[Leg] = []
        place = start
        while distance_mm > 0:
            heading = self._turn(place, heading, rng)
            step = min(distance_mm, self._to_crossing(place, heading))
            legs.append(Leg(heading, step))
            place = place.moved(heading, step)
            distance_mm -= step
        return legs

    def _to_crossing(self, place: Place, heading: Heading) -> int:
        block = self.block_m * MM_PER_M
        east, north = heading.vector
        offset = (place.east_mm if east else place.north_mm) % block
        return block - offset if east + north > 0 else offset or block

    def _turn(self, place: Place, heading: Heading, rng: Random) -> Heading:
        # Straight on is twice as likely as either turn: cars that circle round one
        # block look odd on a map.
        choices = [heading, heading, heading.left, heading.right]
        open_ones = [way for way in choices if self._leads_on(place, way)]
        return rng.choice(open_ones) if open_ones else heading.left.left

    def _leads_on(self, place: Place, heading: Heading) -> bool:
        east, _ = heading.vector
        beside = place.north_mm if east else place.east_mm
        if beside % (self.block_m * MM_PER_M):
            return False  # between two crossings only the street itself leads on
        return self.is_street(place.moved(heading, self._to_crossing(place, heading)))


def _legs(way: list[Place]) -> list[Leg]:
    """Return the straight parts between places that follow one another."""
    legs = []
    for start, end in pairwise(way):
        east, north = end.east_mm - start.east_mm, end.north_mm - start.north_mm
        if east:
            legs.append(Leg(Heading.EAST if east > 0 else Heading.WEST, abs(east)))
        elif north:
            legs.append(Leg(Heading.NORTH if north > 0 else Heading.SOUTH, abs(north)))
    return legs


def _length_mm(legs: list[Leg]) -> int:
    return sum(leg.distance_mm for leg in legs)
