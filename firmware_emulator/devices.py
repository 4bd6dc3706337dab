"""Everything of an emulated vehicle that is not the gateway.

Car, board, reader, display, positioning receiver and clock, on ports that a gateway can
be composed with, and a witness of what they show. They live on when the gateway's
computer loses power, as a car does.
"""

from random import Random
from typing import Final

from firmware_emulator.boards import EmulatedBoard
from firmware_emulator.car import Car, CarModel
from firmware_emulator.clock import EmulatedClock
from firmware_emulator.display import EmulatedDisplay
from firmware_emulator.positioning import EmulatedPositioning
from firmware_emulator.reader import EmulatedReader
from firmware_emulator.street import City, Heading
from firmware_emulator.witness import Witness
from firmware_emulator.world import CarWorld

ELECTRIC_SHARE: Final = 0.25
"""Of the cars of a fleet; assumed."""


class EmulatedDevices:
    """One vehicle's devices; run `world.run` as a task for as long as they exist."""

    def __init__(self, car: Car, clock: EmulatedClock) -> None:
        """Mount devices on a car."""
        self.clock = clock
        """World time and boot clock."""
        self.witness = Witness(clock)
        """What can be seen."""
        self.world = CarWorld(car, clock, self.witness)
        """The car and its board in time; do deeds through `world.hands`."""
        self.board = EmulatedBoard(self.world, clock)
        """`gateway.ports.Board`."""
        self.reader = EmulatedReader()
        """`gateway.ports.Reader`."""
        self.display = EmulatedDisplay(clock, self.witness)
        """`gateway.ports.Display`."""
        self.positioning = EmulatedPositioning(car)
        """`gateway.ports.Positioning`."""

    @property
    def car(self) -> Car:
        """The car, for looking at."""
        return self.world.car


def random_car(rng: Random, city: City | None = None) -> Car:
    """Return a used car at a crossing: some fuel, some fluid, some kilometres."""
    return _used_car(rng, city or City(), CarModel())


def mixed_car(rng: Random, city: City | None = None) -> Car:
    """Return a used car of a mixed fleet: one in four is electric (H13)."""
    is_electric = rng.random() < ELECTRIC_SHARE
    model = CarModel.electric() if is_electric else CarModel()
    return _used_car(rng, city or City(), model)


def _used_car(rng: Random, city: City, model: CarModel) -> Car:
    return Car(
        rng,
        model=model,
        city=city,
        place=city.random_crossing(rng),
        heading=rng.choice(list(Heading)),
        odometer_mm=rng.randrange(2_000_000, 80_000_000) * 1_000,
        fuel_l=rng.uniform(10.0, 50.0),
        washer_l=rng.uniform(0.3, 3.0),
        battery=rng.uniform(0.8, 1.0),
    )
