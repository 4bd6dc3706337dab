"""The car's own body as a judge: what moves is seen here, whoever ordered it."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Self

from firmware_emulator.car import Car


@dataclass(slots=True)
class WatchedCar(Car):
    """A car that tells of every bolt and relay that is moved."""

    on_bolts: Callable[[bool], None] = field(default=lambda _locked: None)
    """Told before the bolts move: whether they close."""
    on_starter: Callable[[bool], None] = field(default=lambda _released: None)
    """Told before the starter's relay is set: whether it is released."""

    @classmethod
    def of(cls, car: Car) -> Self:
        """Return the same car, watched."""
        return cls(**{f.name: getattr(car, f.name) for f in fields(car)})

    def move_bolts(self, *, locked: bool) -> None:
        self.on_bolts(locked)
        Car.move_bolts(self, locked=locked)

    def set_starter(self, *, released: bool) -> None:
        if released != self.starter_released:
            self.on_starter(released)
        Car.set_starter(self, released=released)
