"""Several bridges on one real broker and one PostgreSQL (row 28, I-25, I-34).

Cars' frames are shared among the bridges by the broker, so parts of one ledger arrive
at different bridges in any order, while bridges come and go.
"""

import asyncio
import contextlib
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import pytest

from bridge.bootstrap import Bridge, open_bridge
from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.settings import BrokerSettings, Settings, StoreSettings, TlsSettings
from certs.bridges import COMMAND_KEY, RECEIPT_KEY, issue_bridge
from certs.fleet import FleetDirectory
from certs.services import bridge_service
from protocol.codes import FrameClass
from protocol.fleet import FleetPart, TlsPart, VehiclePart
from protocol.topic import downlinks_of, parse_topic
from tests.bridge.car import RENTAL, Car, receipt_of
from tests.bridge.conftest import make_fleet
from tests.bridge.running import until
from tests.bridge.stream import BODIES, TYPES
from tests.postgres import Server, running_server
from tools.bridge_settings import local_settings
from tools.certs_trust import roots_at_hand
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto, pytest.mark.postgres]

CARS: Final = 4
REPLICAS: Final = 4
ENTRIES: Final = 60
"""Of each car, spread over all phases."""


def clock() -> datetime:
    return datetime.fromtimestamp(time.clock_gettime(time.CLOCK_REALTIME), UTC)


def boot_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


@dataclass(slots=True)
class Driver:
    """A car that sends what has no receipt again, as every car does."""

    car: Car
    link: MqttLink
    entries: list[bytes] = field(default_factory=list)
    receipts: int = 0
    receipted: int = 0
    commands: list[bytes] = field(default_factory=list)

    async def listen(self) -> None:
        with contextlib.suppress(Exception):
            async for message in self.link.messages():
                message.done()
                match parse_topic(message.topic).frame_class:
                    case FrameClass.RECEIPT:
                        self.receipts += 1
                        upto = receipt_of(message.payload).upto
                        self.receipted = max(self.receipted, upto)
                    case FrameClass.CMD:
                        self.commands.append(message.payload)
                    case _:
                        pass

    async def tell(self, count: int) -> None:
        """Make `count` entries and send them, and what may have been lost before."""
        made = [
            self.car.event(body)
            for body in islice(
                cycle(BODIES), len(self.entries), len(self.entries) + count
            )
        ]
        self.entries += made
        for entry in made:
            await self.link.publish(self.car.topic(FrameClass.EVENT), entry)

    async def finish(self) -> None:
        while self.receipted < len(self.entries):
            for entry in self.entries[self.receipted : self.receipted + 64]:
                await self.link.publish(self.car.topic(FrameClass.EVENT), entry)
            await asyncio.sleep(0.3)


@dataclass(slots=True)
class Site:
    fleet: FleetDirectory
    broker: EmbeddedBroker
    folder: Path
    server: Server
    url: str
    drivers: list[Driver] = field(default_factory=list)

    def settings(self, number: int) -> Settings:
        """Return the settings of one replica with an identity of its own."""
        address = (self.broker.host, self.broker.port)
        state = self.folder / f"state-{number}"
        identity = self.fleet.path / bridge_service(number).part
        made = local_settings(
            self.fleet.path, state=state, broker=address, api=("127.0.0.1", 0)
        )
        return msgspec.structs.replace(
            made,
            broker=BrokerSettings(host=address[0], port=address[1], share="bridges"),
            store=StoreSettings(url=self.url),
            fleet=msgspec.structs.replace(
                made.fleet,
                command_key=str(self.fleet.path / COMMAND_KEY.format(number)),
                receipt_key=str(self.fleet.path / RECEIPT_KEY.format(number)),
            ),
            tls=TlsSettings(
                certificate=str(identity / TlsPart.CERTIFICATE),
                key=str(identity / TlsPart.KEY),
            ),
        )

    @contextlib.asynccontextmanager
    async def replica(self, number: int) -> AsyncIterator[Bridge]:
        async with open_bridge(self.settings(number)) as bridge:
            await bridge.wait_connected()
            yield bridge

    async def tell(self, count: int) -> None:
        await asyncio.gather(*(driver.tell(count) for driver in self.drivers))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
async def site(tmp_path: Path, server: Server) -> AsyncIterator[Site]:
    fleet = make_fleet(tmp_path / "fleet", CARS, now=clock())
    known = {str(vehicle_id) for vehicle_id in fleet.vehicle_ids()}
    roots = roots_at_hand(fleet, ())
    further = [issue_bridge(fleet, roots, now=clock()) for _ in range(1, REPLICAS)]
    names = ("ff-bridge-1", *(one.name for one in further))
    async with EmbeddedBroker(
        directory=tmp_path / "broker",
        identity=TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER),
        access=BrokerAccess(is_vehicle=known.__contains__, bridges=names),
        clock=clock,
        kind="mosquitto",
    ) as broker:
        made = Site(fleet, broker, tmp_path, server, server.make_database())
        async with contextlib.AsyncExitStack() as stack:
            for vehicle_id in fleet.vehicle_ids():
                directory = fleet.vehicle_directory(vehicle_id)
                identity = TlsIdentity(
                    directory / VehiclePart.TLS_CERTIFICATE,
                    directory / VehiclePart.TLS_KEY,
                    directory / VehiclePart.TRUST_ANCHORS,
                )
                link = await stack.enter_async_context(
                    MqttLink(
                        LinkSettings(
                            broker.host, broker.port, client_id=str(vehicle_id)
                        ),
                        client_context(identity, now=clock()),
                    )
                )
                await link.subscribe(downlinks_of(vehicle_id))
                driver = Driver(Car(directory, boot_ms=boot_ms), link)
                listening = asyncio.create_task(driver.listen())
                stack.callback(listening.cancel)
                made.drivers.append(driver)
            yield made


async def test_bridges_come_and_go_and_every_ledger_is_told_once_in_its_order(
    site: Site,
) -> None:
    """I-25, I-34, row 28: one bridge, four, one; nothing acknowledged is lost."""
    phase = ENTRIES // 4
    async with asyncio.timeout(120), site.replica(1) as first:
        await site.tell(phase)
        async with contextlib.AsyncExitStack() as others:
            for number in range(2, REPLICAS + 1):
                await others.enter_async_context(site.replica(number))
            await site.tell(phase)
            # They leave in the middle of the work.
            await asyncio.gather(others.aclose(), site.tell(phase))
        await site.tell(phase)
        await asyncio.gather(*(driver.finish() for driver in site.drivers))

        rows = await first.store.outbox_after(0, 10 * ENTRIES * CARS)

    told: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if row.type in TYPES:
            event = msgspec.json.decode(row.body)
            told[str(row.vehicle_id)].append(int(event["sequence"]))
    assert told == {
        str(driver.car.id): list(range(1, ENTRIES + 1)) for driver in site.drivers
    }


async def test_who_asked_one_bridge_hears_the_answer_that_another_one_received(
    site: Site,
) -> None:
    """I-11: the car's signed word ends the command, whichever bridge has it."""
    driver = site.drivers[0]
    async with (
        asyncio.timeout(60),
        site.replica(1) as asked,
        site.replica(2),
        aiohttp.ClientSession(asked.api_url) as client,
    ):
        key = (site.folder / "state-1" / "api.keys").read_text().strip()
        hello = driver.car.hello()
        await driver.link.publish(driver.car.topic(FrameClass.HELLO), hello)
        await until(lambda: driver.receipts > 0)
        outcomes = []
        for _ in range(4):
            ordering = asyncio.create_task(
                client.post(
                    f"/v1/vehicles/{driver.car.id}/commands",
                    params={"wait_s": "20"},
                    json={"kind": "unlock", "rental_id": RENTAL.hex()},
                    headers={"X-Api-Key": key, "Idempotency-Key": os.urandom(8).hex()},
                )
            )
            await until(lambda: bool(driver.commands))
            await asyncio.sleep(0.2)
            answer = driver.car.result(driver.commands[-1])
            driver.commands.clear()
            await driver.link.publish(driver.car.topic(FrameClass.RESULT), answer)
            async with await ordering as response:
                outcomes.append((await response.json())["state"])

    assert outcomes == ["succeeded"] * 4
