"""Emulated cars of a fleet directory: which there are, made, kept and told."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

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
from transport.collector import (
    Tracer,
    TracingSettings,
    close_tracer,
    open_tracer,
)


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
async def traced(url: str | None, instance: str) -> AsyncIterator[Tracer | None]:
    """Yield what takes emulated cars' spans, None without a URL; sends them at the end.

    Raises:
        CollectorSetupError: the extra `tracing` is not installed.
        OperatorError: that is no collector's URL.
    """
    try:
        settings = (
            None if url is None else msgspec.convert({"url": url}, TracingSettings)
        )
    except msgspec.ValidationError:
        raise OperatorError(
            f"--traces {url} is no URL of a collector",
            "give one such as http://127.0.0.1:4318/v1/traces",
        ) from None
    # As a car on a board calls itself: nobody who reads traces needs to know better.
    tracer = open_tracer(settings, service="freefloat-gateway", instance=instance)
    try:
        yield tracer
    finally:
        await close_tracer(tracer)


@asynccontextmanager
async def put_away(
    vehicle: EmulatedVehicle, *, traces: str | None = None
) -> AsyncIterator[None]:
    """Let a vehicle live, and keep how its car was left, however that ends.

    Says at last where the flight recording is: who failed needs it most.

    Args:
        vehicle: not entered yet.
        traces: URL of a collector for its spans, None for none.

    Raises:
        CollectorSetupError: the extra `tracing` is not installed.
        OperatorError: `traces` is no collector's URL.
    """
    try:
        async with traced(traces, str(vehicle.vehicle_id)) as vehicle.tracer, vehicle:
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
