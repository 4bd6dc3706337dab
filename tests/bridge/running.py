"""A whole bridge on loopback, with its API; the broker is in memory unless named."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bridge.bootstrap import Bridge, Environment, open_bridge
from bridge.ports import FrameSeen, WallClock
from bridge.settings import Settings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.car import Car
from tests.bridge.memory_broker import MemoryBroker
from tests.bridge.world import BOOT_MS, NOW_MS
from tools.bridge_settings import local_settings

Json = dict[str, Any]


@dataclass(slots=True)
class Running:
    bridge: Bridge
    broker: MemoryBroker
    car: Car
    client: aiohttp.ClientSession
    seen: list[FrameSeen]

    async def get(self, path: str) -> tuple[int, Json]:
        async with self.client.get(self.bridge.api_url + path) as response:
            return response.status, await response.json(content_type=None)

    async def post(self, path: str, **request: Any) -> tuple[int, Json]:
        async with self.client.post(self.bridge.api_url + path, **request) as response:
            return response.status, await response.json(content_type=None)

    async def put(self, path: str, **request: Any) -> tuple[int, Json]:
        async with self.client.put(self.bridge.api_url + path, **request) as response:
            return response.status, await response.json(content_type=None)

    async def delete(self, path: str) -> tuple[int, Json]:
        async with self.client.delete(self.bridge.api_url + path) as response:
            return response.status, await response.json(content_type=None)

    async def order(self, body: object, **request: Any) -> tuple[int, Json]:
        path = f"/v1/vehicles/{self.car.id}/commands"
        return await self.post(path, json=body, **request)

    async def say(self, frame_class: FrameClass, data: bytes) -> None:
        message = self.broker.deliver(self.car.topic(frame_class), data)
        await message.is_done.wait()

    def commands(self) -> list[bytes]:
        """Return the different commands that went out, in their order.

        One that a slow machine leaves without an answer for 2.5 s goes out again.
        """
        return list(dict.fromkeys(self.broker.sent_of(FrameClass.CMD)))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event tells of, for ten seconds at most."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


@contextlib.asynccontextmanager
async def running_bridge(
    fleet: FleetDirectory,
    state: Path,
    *,
    settings: Settings | None = None,
    now: WallClock = lambda: NOW_MS,
) -> AsyncIterator[Running]:
    broker = MemoryBroker()
    made = settings or local_settings(
        fleet.path, state=state, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
    )
    key = (state / "api.keys").read_text().split()[0]
    seen: list[FrameSeen] = []
    environment = Environment(now=now, boot_ms=now, connect=broker.connect)
    car = Car(fleet.vehicle_directory(fleet.vehicle_ids()[0]), boot_ms=lambda: BOOT_MS)
    async with (
        open_bridge(made, observer=seen.append, environment=environment) as bridge,
        aiohttp.ClientSession(headers={"X-Api-Key": key}) as client,
    ):
        await bridge.wait_connected()
        yield Running(bridge, broker, car, client, seen)
