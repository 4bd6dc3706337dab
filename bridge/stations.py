"""Places where the fleet's cars have room, and which car stands in which (pure).

GBFS calls them virtual stations, MDS stops. A car that somebody has stands in none:
where it is, is nobody's business.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from bridge.publication import StationSettings
from protocol.business_area import BusinessArea
from protocol.place import E7


@dataclass(frozen=True, slots=True)
class Station:
    """One of them."""

    settings: StationSettings
    """What the operator says of it."""
    area: BusinessArea
    """Its polygon."""

    @classmethod
    def of(cls, settings: StationSettings) -> Self:
        """Return the station that the settings describe."""
        corners = tuple(
            (round(lat * E7), round(lng * E7)) for lat, lng in settings.area
        )
        return cls(settings, BusinessArea(inside=(corners,), outside=()))

    @property
    def centre_deg(self) -> tuple[float, float]:
        """Return latitude and longitude of its middle: the mean of its corners."""
        corners = self.settings.area
        count = len(corners)
        lat = sum(corner[0] for corner in corners) / count
        lng = sum(corner[1] for corner in corners) / count
        return round(lat, 6), round(lng, 6)


def station_at(
    stations: Iterable[Station], latitude_deg: float, longitude_deg: float
) -> Station | None:
    """Return the first station that a place lies in."""
    place = round(latitude_deg * E7), round(longitude_deg * E7)
    for station in stations:
        if station.area.contains(*place):
            return station
    return None
