"""A stage for a scenario on a real broker and bridge, started and ended with it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from bridge.ports import Direction, FrameSeen
from firmware_emulator.api_backend import ApiBackend
from firmware_emulator.car import Car
from firmware_emulator.customer import Customer
from firmware_emulator.demand import Bridge
from firmware_emulator.frames_seen import FrameNote, note_of
from firmware_emulator.memory_stage import CARD, PIN, car_of
from firmware_emulator.saying import Stage
from firmware_emulator.scenario import CarSettings
from firmware_emulator.street import City
from tools.clock import wall_clock
from tools.rig import open_rig


@asynccontextmanager
async def broker_stage(
    directory: Path, settings: CarSettings, seed: int
) -> AsyncIterator[Stage]:
    """Start PKI, broker, bridge and one car; yield the stage when it is ready.

    Args:
        directory: an empty or absent directory.
        settings: how the car stands.
        seed: of chance.

    Raises:
        BrokerSetupError, StepError: a part cannot start; what had started is ended.
    """
    frames: list[FrameNote] = []

    def observe(seen: FrameSeen) -> None:
        is_from_car = seen.direction is Direction.IN
        frames.append(note_of(seen.data, is_from_car=is_from_car))

    def make(rng: Random, _city: City) -> Car:
        return car_of(settings, rng)

    async with open_rig(directory, cars=[make], seed=seed, observer=observe) as rig:
        vehicle = rig.cars[0]
        bridge = Bridge(rig.bridge.api_url, {"X-Api-Key": rig.api_key})
        await bridge.wait_online(vehicle.vehicle_id)
        backend = ApiBackend(
            bridge,
            vehicle.vehicle_id,
            frames,
            events=rig.events_file,
            now=wall_clock,
        )
        yield Stage(vehicle, Customer(vehicle.devices, CARD, PIN), backend)
