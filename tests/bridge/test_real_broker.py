"""The bridge as a whole on real brokers, with mutual TLS and a car that signs."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from bridge.bootstrap import open_bridge
from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from certs.fleet import FleetDirectory
from protocol.codes import AccessMeans, FrameClass
from protocol.event import AgentStarted, EventBody, Parked, RentalStarted, Resumed
from protocol.fleet import FleetPart, VehiclePart
from protocol.topic import downlinks_of, parse_topic
from tests.bridge.car import RENTAL, REPORT, Car, receipt_of
from tests.bridge.conftest import make_fleet
from tests.bridge.running import until
from tools.bridge_settings import local_settings
from transport.link import LinkSettings, MqttLink
from transport.message import IncomingMessage
from transport.tls import TlsIdentity, client_context

pytestmark = pytest.mark.broker

PATIENCE_S = 20

BROKERS = [
    pytest.param("mosquitto", marks=pytest.mark.mosquitto),
    pytest.param("nats"),
]


def clock() -> datetime:
    return datetime.fromtimestamp(time.clock_gettime(time.CLOCK_REALTIME), UTC)


def boot_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


@dataclass(slots=True)
class Site:
    fleet: FleetDirectory
    broker: EmbeddedBroker
    state: Path

    @property
    def address(self) -> tuple[str, int]:
        return self.broker.host, self.broker.port


@dataclass(slots=True)
class Driver:
    """A car on the wire; answers nothing by itself."""

    car: Car
    link: MqttLink
    received: list[IncomingMessage] = field(default_factory=list)

    async def listen(self) -> None:
        with contextlib.suppress(Exception):
            async for message in self.link.messages():
                message.done()
                self.received.append(message)

    def got(self, frame_class: FrameClass) -> list[bytes]:
        return [
            message.payload
            for message in self.received
            if parse_topic(message.topic).frame_class is frame_class
        ]

    async def say(self, frame_class: FrameClass, data: bytes) -> None:
        await self.link.publish(self.car.topic(frame_class), data)

    def receipted(self) -> int:
        return max(
            (receipt_of(d).upto for d in self.got(FrameClass.RECEIPT)), default=0
        )


def broker_for(
    fleet: FleetDirectory, directory: Path, *, kind: str, port: int = 0
) -> EmbeddedBroker:
    known = {str(vehicle_id) for vehicle_id in fleet.vehicle_ids()}
    return EmbeddedBroker(
        directory=directory,
        identity=TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER),
        access=BrokerAccess(is_vehicle=known.__contains__),
        clock=clock,
        kind=kind,
        port=port,
    )


@pytest.fixture(params=BROKERS)
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    fleet = make_fleet(tmp_path / "fleet", 1, now=clock())
    async with broker_for(fleet, tmp_path / "broker", kind=request.param) as broker:
        yield Site(fleet, broker, tmp_path / "state")


def another_broker(site: Site) -> EmbeddedBroker:
    """Return a new one for the port of the one that is gone."""
    directory = site.broker.log.parent.with_name("another-broker")
    return broker_for(
        site.fleet, directory, kind=site.broker.kind, port=site.broker.port
    )


@contextlib.asynccontextmanager
async def driving(site: Site) -> AsyncIterator[Driver]:
    [vehicle_id] = site.fleet.vehicle_ids()
    directory = site.fleet.vehicle_directory(vehicle_id)
    car = Car(directory, boot_ms=boot_ms)
    identity = TlsIdentity(
        directory / VehiclePart.TLS_CERTIFICATE,
        directory / VehiclePart.TLS_KEY,
        directory / VehiclePart.TRUST_ANCHORS,
    )
    settings = LinkSettings(*site.address, client_id=str(vehicle_id))
    async with MqttLink(settings, client_context(identity, now=clock())) as link:
        await link.subscribe(downlinks_of(vehicle_id))
        driver = Driver(car, link)
        listening = asyncio.create_task(driver.listen())
        yield driver
        listening.cancel()


async def test_a_rental_is_ordered_told_and_receipted_over_a_real_broker(
    site: Site,
) -> None:
    settings = local_settings(
        site.fleet.path, state=site.state, broker=site.address, api=("127.0.0.1", 0)
    )
    key = (site.state / "api.keys").read_text().strip()
    async with (
        asyncio.timeout(PATIENCE_S),
        open_bridge(settings) as bridge,
        aiohttp.ClientSession(bridge.api_url, headers={"X-Api-Key": key}) as client,
    ):
        await bridge.wait_connected()
        async with driving(site) as driver:
            await driver.say(FrameClass.HELLO, driver.car.hello())
            await until(lambda: bool(driver.got(FrameClass.RECEIPT)))

            unlocking = asyncio.create_task(
                client.post(
                    f"/v1/vehicles/{driver.car.id}/commands",
                    params={"wait_s": "10"},
                    json={"kind": "unlock", "rental_id": RENTAL.hex()},
                )
            )
            await until(lambda: bool(driver.got(FrameClass.CMD)))
            [command] = driver.got(FrameClass.CMD)
            await driver.say(FrameClass.RESULT, driver.car.result(command))
            await driver.say(FrameClass.EVENT, driver.car.event(REPORT))
            async with await unlocking as response:
                answer = await response.json()
            await until(lambda: driver.receipted() == 2)

            async with client.get(f"/v1/rentals/{RENTAL.hex()}") as response:
                rental = await response.json()

    assert (answer["state"], answer["code"]) == ("succeeded", "ok")
    assert rental["state"] == "ended"
    assert rental["report"]["distance_m"] == 12_500


async def test_the_bridge_says_that_the_broker_is_gone_and_comes_back(
    site: Site,
) -> None:
    # Row 19: what the broker remembered is gone with it.
    settings = local_settings(
        site.fleet.path, state=site.state, broker=site.address, api=("127.0.0.1", 0)
    )
    async with asyncio.timeout(PATIENCE_S), open_bridge(settings) as bridge:
        await bridge.wait_connected()
        assert await bridge.conditions() == {}

        await site.broker.stop()
        await until(lambda: not bridge.is_connected)

        assert "broker" in await bridge.conditions()

        async with another_broker(site):
            await bridge.wait_connected()
            assert await bridge.conditions() == {}
            # Its subscriptions are there as well: it hears a car.
            async with driving(site) as driver:
                await driver.say(FrameClass.HELLO, driver.car.hello())
                await until(lambda: bool(driver.got(FrameClass.RECEIPT)))


def bridge_process(site: Site) -> subprocess.Popen[bytes]:
    host, port = site.address
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tools.cli", "bridge", "run", "--quiet"),
            *("--fleet", str(site.fleet.path), "--state", str(site.state)),
            *("--broker", f"{host}:{port}", "--api", "127.0.0.1:0"),
        ],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


async def started(site: Site) -> subprocess.Popen[bytes]:
    process = bridge_process(site)
    assert process.stdout is not None
    line = await asyncio.to_thread(process.stdout.readline)
    assert b"bridge runs" in line
    return process


def stored(site: Site) -> list[tuple[int, int]]:
    connection = sqlite3.connect(site.state / "bridge.sqlite")
    try:
        return list(
            connection.execute(
                "select (select count(*) from frames), (select count(*) from outbox)"
            )
        )
    finally:
        connection.close()


BODIES: tuple[EventBody, ...] = (
    AgentStarted(1, bytes(4)),
    RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400),
    Parked(RENTAL, AccessMeans.CARD, 1_005_000),
    Resumed(RENTAL, AccessMeans.CARD, 60_000),
)


async def test_a_bridge_that_is_killed_at_any_point_loses_and_doubles_nothing(
    site: Site,
) -> None:
    # I-21, row 25: what had a receipt is there; the rest is sent again.
    entries: list[bytes] = []
    async with asyncio.timeout(55), driving(site) as driver:
        for round_number in range(3):
            process = await started(site)
            try:
                for number in range(40):
                    entries.append(driver.car.event(BODIES[number % 4]))
                    await driver.say(FrameClass.EVENT, entries[-1])
                # The first rounds are cut at once, in the middle of the work.
                if round_number:
                    await asyncio.sleep(0.02 * round_number)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()
                process.communicate()
            [(frames, _)] = stored(site)
            assert frames >= driver.receipted()

        process = await started(site)
        try:
            while driver.receipted() < len(entries):
                first = driver.receipted()
                for entry in entries[first : first + 64]:
                    await driver.say(FrameClass.EVENT, entry)
                await asyncio.sleep(0.2)
        finally:
            process.send_signal(signal.SIGTERM)
            _out, errors = process.communicate(timeout=15)

    assert process.returncode == 0, errors
    assert stored(site) == [(len(entries), len(entries))]
