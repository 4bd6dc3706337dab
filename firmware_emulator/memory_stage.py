"""A stage in memory: a car, its customer and its fleet in one process and one loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

from firmware_emulator.car import Car, CarModel
from firmware_emulator.chance import seeded
from firmware_emulator.clock import EmulatedClock
from firmware_emulator.customer import Customer
from firmware_emulator.devices import EmulatedDevices
from firmware_emulator.memory_backend import MemoryBackend, MemoryWay
from firmware_emulator.memory_fleet import NOW, MemoryFleet
from firmware_emulator.reader import Card
from firmware_emulator.saying import Stage
from firmware_emulator.scenario import CarSettings
from firmware_emulator.street import City
from firmware_emulator.vehicle import EmulatedVehicle
from gateway.storage.identity import load_identity

CARD: Final = Card(bytes.fromhex("04a1b2c3d4e5f6"))
"""Of the customer."""

PIN: Final = "2468"
"""Of the customer."""

UP_MS: Final = 3_600_000
"""How long the car's machine has been up when a story begins."""

ELECTRIC: Final = CarModel.electric()
"""The electric car of a story."""


def car_of(settings: CarSettings, rng: Random) -> Car:
    """Return a car that stands as a scenario says, at a crossing in the city."""
    model = ELECTRIC if settings.electric else CarModel()
    city = City()
    return Car(
        rng,
        model=model,
        city=city,
        place=city.middle,
        odometer_mm=12_345_000_000,
        fuel_l=model.tank_l * settings.energy_pct / 100,
        washer_l=model.washer_tank_l * settings.washer_pct / 100,
    )


@asynccontextmanager
async def memory_stage(
    directory: Path, settings: CarSettings, *, seed: int = 1, recorder: bool = False
) -> AsyncIterator[Stage]:
    """Build a fleet and a car, let it live, and yield the stage when it is ready.

    On a loop of `firmware_emulator.virtual_time` waiting takes no time.

    Args:
        directory: for the fleet's PKI and the car's ledger; empty or absent.
        settings: how the car stands.
        seed: of chance.
        recorder: whether the car's flight recorder runs.
    """
    fleet = MemoryFleet.create(directory / "fleet")
    vehicle_id, own = fleet.issue()
    loop = asyncio.get_running_loop()
    clock = EmulatedClock(loop.time, NOW.timestamp, booted_before_ms=UP_MS)
    fleet.clock_of = lambda _: clock.now().boot_ms
    devices = EmulatedDevices(car_of(settings, seeded(seed, "car")), clock)
    backend = MemoryBackend(fleet, vehicle_id)
    vehicle = EmulatedVehicle(
        load_identity(own),
        data=directory / "data",
        devices=devices,
        links=fleet.links(vehicle_id),
        link=MemoryWay(fleet, vehicle_id),
        random_bytes=seeded(seed, "ids").randbytes,
        recorder=recorder,
    )
    async with vehicle:
        await vehicle.wait_ready()
        await fleet.until(lambda: fleet.accounts[vehicle_id].hello is not None)
        yield Stage(vehicle, Customer(devices, CARD, PIN), backend)
