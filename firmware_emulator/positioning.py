"""The positioning port in memory: where the emulated car is, if it sees the sky."""

from typing import Final

from firmware_emulator.car import Car
from gateway.core.reading import Position

ACCURACY_DM: Final = 30
"""3 m: what a receiver has under open sky."""


class EmulatedPositioning:
    """Implements `gateway.ports.Positioning`."""

    def __init__(self, car: Car) -> None:
        """Mount a receiver on a car."""
        self._car = car
        self.sky = True
        """Whether it sees satellites; a garage has none."""

    def fix(self) -> Position | None:
        """Return where the car is, None without sky."""
        if not self.sky:
            return None
        latitude_e7, longitude_e7 = self._car.city.coordinates(self._car.place)
        return Position(latitude_e7, longitude_e7, ACCURACY_DM, self._car.heading.value)

    def utc_ms(self) -> int | None:
        """Return None: an emulated day may last a minute, and no satellite's does."""
        return None
