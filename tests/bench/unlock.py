"""How long a customer waits: from the API call to the car's signed result.

The measured way is the whole one: HTTP, idempotency, signature, broker, acceptance,
journal with fsync, board, bolts, read-back, signed result, broker, verification,
commit, answer. It is compared with a bare MQTT round trip through a broker of the same
kind with the same TLS in the same run, since absolute figures drift with the machine.
"""

import asyncio
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import aiohttp

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.broker.errors import BrokerSetupError
from bridge.broker.program import BrokerKind, find_broker
from firmware_emulator.car import ACTUATION_MS
from protocol.codes import FrameClass
from protocol.fleet import FleetPart, TlsPart
from protocol.identity import VehicleId
from protocol.topic import topic_of
from tests.bench.figure import Figure, percentile
from tools.clock import wall_clock
from tools.rig import Rig, open_rig
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context

UNLOCKS: Final = 60
ROUND_TRIPS: Final = 300
FRAME: Final = bytes(176)
"""As large as an unlock."""


async def measure() -> AsyncIterator[Figure]:
    """Yield the figures of this file, for every broker that is there."""
    for kind in (BrokerKind.MOSQUITTO, BrokerKind.NATS):
        try:
            find_broker(kind, binary=None)
        except BrokerSetupError:
            print(f"  {kind} is not installed: left out")
            continue
        with tempfile.TemporaryDirectory() as directory:
            async with open_rig(Path(directory) / "rig", broker=kind) as rig:
                bare = await _round_trips(rig, kind, Path(directory) / "bare")
                waits = await _unlocks(rig)
            signed = await _with_signer(Path(directory), kind)
        for entry in (*_figures(kind, bare, waits), *_more(kind, waits, signed)):
            yield entry


async def _with_signer(directory: Path, kind: str) -> list[float]:
    """Measure the same with the command key in a process of its own."""
    socket = directory / "signer.sock"
    async with open_rig(
        directory / "signed", broker=kind, signer_socket=str(socket)
    ) as rig:
        settings = directory / "signer.toml"
        settings.write_text(
            f'log = "log"\n[fleet]\ndirectory = "{rig.fleet.path}"\n'
            f'[socket]\npath = "{socket}"\n'
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tools.cli", "signer", "run"),
            *("--config", str(settings)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while await rig.bridge.conditions():  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.05)
            return await _unlocks(rig)
        finally:
            process.terminate()
            await process.wait()


def _more(
    kind: str, waits: Sequence[float], signed: Sequence[float]
) -> Sequence[Figure]:
    own, other = percentile(waits, 0.5), percentile(signed, 0.5)
    return (
        Figure(f"{kind}: unlock with a signer's process, p50", other, "ms", 0.0),
        Figure(
            f"{kind}: the same, p99", percentile(signed, 0.99), "ms", 0.0,
            "with its log's fsync",
        ),
        Figure(f"{kind}: with / without a signer's process", other / own, "x", 0.0),
    )  # fmt: skip


def _figures(
    kind: str, bare: Sequence[float], waits: Sequence[float]
) -> Sequence[Figure]:
    bare_p50, bare_p99 = percentile(bare, 0.5), percentile(bare, 0.99)
    p50, p99 = percentile(waits, 0.5), percentile(waits, 0.99)
    own = p50 - ACTUATION_MS
    return (
        Figure(f"{kind}: bare MQTT round trip, p50", bare_p50, "ms", 0.0),
        Figure(f"{kind}: bare MQTT round trip, p99", bare_p99, "ms", 0.0),
        Figure(f"{kind}: unlock, API to signed result, p50", p50, "ms", 0.0),
        Figure(f"{kind}: unlock, API to signed result, p99", p99, "ms", 0.0),
        Figure(
            f"{kind}: unlock p50 / round trip p50", p50 / bare_p50, "x", 0.0,
            "with the bolts",
        ),
        Figure(
            f"{kind}: the same without the bolts", own / bare_p50, "x", 0.0,
            f"the emulated bolts take {ACTUATION_MS} ms",
        ),
    )  # fmt: skip


async def _unlocks(rig: Rig) -> list[float]:
    car = rig.cars[0]
    url = f"{rig.bridge.api_url}/v1/vehicles/{car.vehicle_id}/commands?wait_s=10"
    rental = secrets.token_hex(16)
    headers = {"X-Api-Key": rig.api_key}
    waits = []
    async with aiohttp.ClientSession(headers=headers) as session:

        async def order(kind: str, **options: object) -> float:
            body = {"kind": kind, "rental_id": rental, **options}
            begin = time.perf_counter()
            async with session.post(url, json=body) as answer:
                document = await answer.json()
            took_ms = (time.perf_counter() - begin) * 1e3
            if document.get("state") != "succeeded":
                raise RuntimeError(f"{kind} did not succeed: {document}")
            return took_ms

        await order("reserve", hold_s=900)
        await order("unlock")
        for _ in range(UNLOCKS):
            await order("lock", mode="plain")
            waits.append(await order("unlock"))
    return waits


async def _round_trips(rig: Rig, kind: BrokerKind, directory: Path) -> list[float]:
    """Measure on a broker of its own, so that the bridge takes no part."""
    fleet, vehicle = rig.fleet, rig.cars[0].vehicle_id
    anchors = fleet.path / FleetPart.TRUST_ANCHORS

    def identity(directory: Path) -> TlsIdentity:
        return TlsIdentity(
            directory / TlsPart.CERTIFICATE, directory / TlsPart.KEY, anchors
        )

    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(
            EmbeddedBroker(
                directory=directory,
                identity=identity(fleet.path / FleetPart.BROKER),
                access=BrokerAccess(is_vehicle=str(vehicle).__eq__),
                clock=wall_clock,
                kind=kind,
            )
        )

        async def link(name: str, part: Path) -> MqttLink:
            return await stack.enter_async_context(
                MqttLink(
                    LinkSettings(broker.host, broker.port, client_id=name),
                    client_context(identity(part), now=wall_clock()),
                )
            )

        car = await link(str(vehicle), fleet.vehicle_directory(vehicle))
        backend = await link("ff-bridge-1", fleet.path / FleetPart.BRIDGE)
        return await _echo(car, backend, vehicle)


async def _echo(car: MqttLink, backend: MqttLink, vehicle: VehicleId) -> list[float]:
    up = topic_of(vehicle, FrameClass.RESULT)
    down = topic_of(vehicle, FrameClass.CMD)
    await car.subscribe(down)
    await backend.subscribe(up)

    async def answer() -> None:
        async for message in car.messages():
            message.done()
            await car.publish(up, message.payload)

    echo = asyncio.create_task(answer())
    took = []
    for _ in range(ROUND_TRIPS):
        begin = time.perf_counter()
        await backend.publish(down, FRAME)
        message = await backend.receive()
        took.append((time.perf_counter() - begin) * 1e3)
        message.done()
    echo.cancel()
    await asyncio.gather(echo, return_exceptions=True)
    return took
