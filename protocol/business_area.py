"""The configuration body BUSINESS_AREA: where a rental may end (H20).

JSON with polygons in degrees. A place is inside if it lies in a polygon of `inside` and
in none of `outside`, such as a park or a private car park. Edges are straight lines
between longitudes and latitudes, which is exact enough for a city; a polygon must not
cross the date line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from protocol.codes import Code
from protocol.errors import DecodeError
from protocol.json_file import parse_file
from protocol.place import E7
from protocol.sync import CONFIG_LIMIT

AREA_FORMAT: Final = 1
"""The body's own revision."""

POLYGONS_LIMIT: Final = 200
"""Of both kinds together."""

CORNERS_LIMIT: Final = 2_000
"""Of all polygons together: looked at while a customer stands at the car."""

MIN_CORNERS: Final = 3

Corner = tuple[int, int]
"""Latitude and longitude, degrees times 10^7."""


@dataclass(frozen=True, slots=True)
class BusinessArea:
    """Where a rental may end."""

    inside: tuple[tuple[Corner, ...], ...]
    """Polygons that belong to it."""
    outside: tuple[tuple[Corner, ...], ...]
    """Polygons that are taken out of it."""

    def contains(self, latitude_e7: int, longitude_e7: int) -> bool:
        """Return whether a place belongs to it."""
        point = (latitude_e7, longitude_e7)
        return _in_any(self.inside, point) and not _in_any(self.outside, point)


class _Area(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    inside: list[list[tuple[float, float]]]
    outside: list[list[tuple[float, float]]] = []


def parse_business_area(body: bytes) -> BusinessArea:
    """Read a body.

    Raises:
        DecodeError: not such a body; the message says why.
    """
    read = parse_file(
        body,
        _Area,
        name="the business area",
        limit=CONFIG_LIMIT,
        revision=AREA_FORMAT,
    )
    polygons = [*read.inside, *read.outside]
    corners = sum(len(polygon) for polygon in polygons)
    if len(polygons) > POLYGONS_LIMIT or corners > CORNERS_LIMIT:
        raise DecodeError(
            Code.TOO_LARGE,
            f"{len(polygons)} polygons of {corners} corners, "
            f"limits {POLYGONS_LIMIT} and {CORNERS_LIMIT}",
        )
    return BusinessArea(_polygons(read.inside), _polygons(read.outside))


def _polygons(
    read: Sequence[Sequence[tuple[float, float]]],
) -> tuple[tuple[Corner, ...], ...]:
    return tuple(_polygon(corners) for corners in read)


def _polygon(read: Sequence[tuple[float, float]]) -> tuple[Corner, ...]:
    if len(read) < MIN_CORNERS:
        raise DecodeError(Code.BAD_PARAM, "a polygon has at least 3 corners")
    if not all(abs(lat) <= 90 and abs(lon) <= 180 for lat, lon in read):  # noqa: PLR2004 - degrees
        raise DecodeError(Code.BAD_PARAM, "a corner is not on the earth")
    return tuple((round(lat * E7), round(lon * E7)) for lat, lon in read)


def _in_any(polygons: tuple[tuple[Corner, ...], ...], point: Corner) -> bool:
    return any(_is_in(polygon, point) for polygon in polygons)


def _is_in(polygon: tuple[Corner, ...], point: Corner) -> bool:
    """Count crossings of a ray to the east; whole numbers, so nothing is rounded."""
    lat, lon = point
    crossings = 0
    for (lat1, lon1), (lat2, lon2) in zip(
        polygon, (*polygon[1:], polygon[0]), strict=True
    ):
        if (lat1 > lat) is not (lat2 > lat):
            side = (lon2 - lon1) * (lat - lat1) - (lon - lon1) * (lat2 - lat1)
            crossings += (side > 0) is (lat2 > lat1)
    return crossings % 2 == 1


def build_business_area(area: BusinessArea) -> bytes:
    """Return the body."""
    return msgspec.json.encode(
        _Area(AREA_FORMAT, _degrees(area.inside), _degrees(area.outside))
    )


def _degrees(
    polygons: tuple[tuple[Corner, ...], ...],
) -> list[list[tuple[float, float]]]:
    return [[(lat / E7, lon / E7) for lat, lon in polygon] for polygon in polygons]
