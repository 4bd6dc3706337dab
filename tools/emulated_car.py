"""Emulated cars of a fleet directory: which there are, made, kept and told."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from certs.fleet import FleetDirectory
from firmware_emulator.car_file import CAR_FILE, load_car, save_car
from firmware_emulator.chance import seeded
from firmware_emulator.clock import EmulatedClock
from firmware_emulator.devices import EmulatedDevices, random_car
from firmware_emulator.vehicle import EmulatedVehicle
from gateway.recorder.ring import recordings
from protocol.content import Body, Content
from protocol.fleet import FleetPart
from protocol.identity import VEHICLE_TEXT
from protocol.rendering import render_content
from tools.clock import wall_s
from tools.console import step
from tools.errors import OperatorError
from transport.backoff import Backoff


def issued_vehicles(fleet: Path, beginning: str, count: int) -> list[Path]:
    """Return the directories of issued vehicles, sorted.

    Raises:
        FleetError: that is no fleet directory.
        OperatorError: the fleet has not so many.
    """
    FleetDirectory.open(fleet)
    found = sorted(
        path
        for path in (fleet / FleetPart.VEHICLES).glob("*")
        if VEHICLE_TEXT.fullmatch(path.name) and path.name.startswith(beginning.upper())
    )
    if len(found) < count:
        whose = f" whose id begins with {beginning.upper()[:26]}" if beginning else ""
        raise OperatorError(
            f"{fleet} has {len(found)} issued vehicles{whose}, {count} are wanted",
            f"issue more: freefloat certs issue {fleet} --count {count - len(found)}",
        )
    return found[:count]


def build_vehicle(
    directory: Path, broker: tuple[str, int], data: Path, seed: int
) -> EmulatedVehicle:
    """Return a vehicle of a fleet, with its car as it was left or a new one.

    Args:
        directory: the car's own of `freefloat certs issue`.
        broker: host and port.
        data: where all cars and their ledgers are kept.
        seed: of a new car's condition and of chance.

    Raises:
        EmulatorError: its car file is none.
        IdentityError: the directory cannot be used.
    """
    rng = seeded(seed, "car", 0)
    own = data / directory.name
    emulated_car = load_car(own / CAR_FILE, rng) or random_car(rng)
    return EmulatedVehicle.on_broker(
        directory,
        host=broker[0],
        port=broker[1],
        data=own,
        devices=EmulatedDevices(emulated_car, EmulatedClock(time.monotonic, wall_s)),
        backoff=Backoff(maximum_s=10.0),
        recorder=True,
    )


@asynccontextmanager
async def put_away(vehicle: EmulatedVehicle) -> AsyncIterator[None]:
    """Let a vehicle live, and keep how its car was left, however that ends.

    Says at last where the flight recording is: who failed needs it most.
    """
    try:
        async with vehicle:
            yield
    finally:
        if vehicle.data.is_dir():
            save_car(vehicle.devices.car, vehicle.data / CAR_FILE)
        where = vehicle.recordings
        if where is not None and recordings(where):
            step(f"recorded: freefloat gateway replay {where}")


def told(body: Body) -> str:
    """Return a ledger entry's line for people."""
    return f"{type(body).__name__} {render_content(Content(None, body))}"
