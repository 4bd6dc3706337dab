"""A whole system on one machine: PKI, broker, bridge and emulated cars.

The demonstration, the benchmark and tests start it; every part is the production one,
with the settings that a pilot on one machine would have. Everything lies in one
directory and ends with the block::

    async with open_rig(directory, cars=3) as rig:
        car = rig.cars[0]
        ...
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from bridge.bootstrap import Bridge, open_bridge
from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.ports import Observer
from bridge.settings import SignerSettings
from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from firmware_emulator.car import Car
from firmware_emulator.clock import EmulatedClock
from firmware_emulator.devices import EmulatedDevices, random_car
from firmware_emulator.link import LOOPBACK, CuttableLink
from firmware_emulator.street import City
from firmware_emulator.vehicle import EmulatedVehicle
from protocol.fleet import FleetPart
from protocol.identity import VehicleId
from tools.bridge_settings import KEYS_FILE, SECRET_FILE, local_settings, make_secret
from tools.clock import wall_clock, wall_s
from transport.backoff import Backoff
from transport.tls import TlsIdentity

QUICK_BACKOFF: Final = Backoff(initial_s=0.5, maximum_s=5.0)
"""On one machine nobody needs to be spared: a car is back within seconds."""

CarMaker = Callable[[random.Random, City], Car]
"""Makes the car of one vehicle."""

Teller = Callable[[str, str], None]
"""Told what was done, and where it is: a sentence and a detail."""


@dataclass(frozen=True, slots=True)
class Rig:
    """What runs."""

    directory: Path
    """Where everything lies."""
    fleet: FleetDirectory
    """The PKI."""
    broker: EmbeddedBroker
    """The broker."""
    bridge_link: CuttableLink | None
    """The bridge's way to the broker, if it can be cut."""
    bridge: Bridge
    """The bridge."""
    cars: tuple[EmulatedVehicle, ...]
    """The cars, connected."""
    api_key: str
    """Opens the bridge's API."""
    api_key_file: Path
    """The same in a file."""
    events_file: Path
    """Where the JSON-lines sink writes."""

    def car(self, vehicle_id: VehicleId) -> EmulatedVehicle:
        """Return the car of this id."""
        return next(car for car in self.cars if car.vehicle_id == vehicle_id)


@asynccontextmanager
async def open_rig(
    directory: Path,
    *,
    cars: int | Sequence[CarMaker] = 1,
    seed: int = 1,
    broker: str = "auto",
    observer: Observer | None = None,
    webhook: tuple[str, str] | None = None,
    api_key: str | None = None,
    signer_socket: str | None = None,
    is_bridge_cuttable: bool = False,
    tell: Teller = lambda _what, _where: None,
) -> AsyncIterator[Rig]:
    """Start everything, yield it, and end it all.

    Args:
        directory: an empty or absent directory.
        cars: how many, or how to make each one's car.
        seed: of the cars' condition.
        broker: auto, mosquitto or nats.
        observer: told of every frame at the bridge.
        webhook: a fleet service's URL and its secret.
        api_key: opens the bridge's API; a new one without it.
        signer_socket: of a signer's process that the caller starts once the fleet is
            made; without it the bridge signs itself.
        is_bridge_cuttable: whether the bridge, too, reaches the broker over a link that
            can be cut.
        tell: told of each step.

    Raises:
        CertsError, BrokerSetupError, SettingsError, StepError: a part cannot start;
            what had started is ended.
    """
    makers = [random_car] * cars if isinstance(cars, int) else list(cars)
    fleet, ids = await asyncio.to_thread(_make_fleet, directory / "fleet", len(makers))
    tell(f"made the fleet's PKI and {len(ids)} cars' keys", str(fleet.path))
    async with AsyncExitStack() as stack:
        embedded = await stack.enter_async_context(
            EmbeddedBroker(
                directory=directory / "broker",
                identity=TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER),
                access=BrokerAccess(is_vehicle=frozenset(map(str, ids)).__contains__),
                clock=wall_clock,
                kind=broker,
            )
        )
        tell(
            f"started {embedded.kind}, mutual TLS only",
            f"{embedded.host}:{embedded.port}",
        )
        address, bridge_link = (embedded.host, embedded.port), None
        if is_bridge_cuttable:
            bridge_link = await stack.enter_async_context(CuttableLink(*address))
            address = (LOOPBACK, bridge_link.port)
        key_file = directory / KEYS_FILE
        events_file = directory / "events.jsonl"
        if api_key is not None:
            make_secret(key_file, api_key)
        if webhook is not None:
            make_secret(directory / SECRET_FILE, webhook[1])
        settings = local_settings(
            fleet.path,
            state=directory,
            broker=address,
            api=("127.0.0.1", 0),
            json_lines=events_file,
            webhook=None if webhook is None else webhook[0],
        )
        if signer_socket is not None:
            signer = SignerSettings(socket=signer_socket)
            settings = msgspec.structs.replace(settings, signer=signer)
        bridge = await stack.enter_async_context(
            open_bridge(settings, observer=observer)
        )
        await bridge.wait_connected()
        tell("started the bridge, its API and its store", bridge.api_url)
        vehicles = [
            _make_vehicle(fleet, vehicle_id, embedded, directory, maker, seed + number)
            for number, (vehicle_id, maker) in enumerate(zip(ids, makers, strict=True))
        ]
        for vehicle in vehicles:
            await stack.enter_async_context(vehicle)
        await asyncio.gather(*(vehicle.wait_ready() for vehicle in vehicles))
        yield Rig(
            directory=directory,
            fleet=fleet,
            broker=embedded,
            bridge_link=bridge_link,
            bridge=bridge,
            cars=tuple(vehicles),
            api_key=key_file.read_text(encoding="ascii").strip(),
            api_key_file=key_file,
            events_file=events_file,
        )


def _make_fleet(path: Path, cars: int) -> tuple[FleetDirectory, list[VehicleId]]:
    now = wall_clock()
    path.parent.mkdir(parents=True, exist_ok=True)
    fleet = FleetDirectory.create(path, name="demo", now=now)
    ids = [random_vehicle_id() for _ in range(cars)]
    issue_vehicles(fleet, ids, now=now)
    return fleet, ids


def _make_vehicle(
    fleet: FleetDirectory,
    vehicle_id: VehicleId,
    broker: EmbeddedBroker,
    directory: Path,
    maker: CarMaker,
    seed: int,
) -> EmulatedVehicle:
    rng = random.Random(seed)  # noqa: S311 - repeatable cars, no secrets
    clock = EmulatedClock(time.monotonic, wall_s)
    return EmulatedVehicle.on_broker(
        fleet.vehicle_directory(vehicle_id),
        host=broker.host,
        port=broker.port,
        data=directory / "cars" / str(vehicle_id),
        devices=EmulatedDevices(maker(rng, City()), clock),
        backoff=QUICK_BACKOFF,
        recorder=True,
    )
