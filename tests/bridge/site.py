"""A place for several bridges: a real broker, a PostgreSQL, cars that are connected.

What one car signs waits in its driver until a receipt, and is sent again, as in a car.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path

import msgspec

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.settings import BrokerSettings, Settings, StoreSettings, TlsSettings
from certs.bridges import COMMAND_KEY, RECEIPT_KEY, issue_bridge
from certs.fleet import FleetDirectory
from certs.services import bridge_service
from protocol.codes import FrameClass
from protocol.fleet import FleetPart, TlsPart, VehiclePart
from protocol.identity import VehicleId
from protocol.topic import downlinks_of, parse_topic
from tests.bridge.car import Car, receipt_of
from tests.bridge.conftest import make_fleet
from tests.bridge.stream import BODIES
from tests.postgres import Server
from tools.bridge_settings import local_settings
from tools.certs_trust import roots_at_hand
from transport.errors import LinkError
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context


def clock() -> datetime:
    return datetime.fromtimestamp(time.clock_gettime(time.CLOCK_REALTIME), UTC)


def boot_ms() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


@contextlib.contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Let no bridge write to its SQLite inside the block."""
    with contextlib.closing(
        sqlite3.connect(settings.store.path, isolation_level=None)
    ) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        yield


@dataclass(slots=True)
class Driver:
    """A car that sends what has no receipt again, as every car does."""

    car: Car
    link: MqttLink
    bundle_version: int
    """Of the trust bundle that it has."""
    entries: list[tuple[FrameClass, bytes]] = field(default_factory=list)
    receipts: int = 0
    receipted: int = 0
    commands: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """In the ledger, of what `tell` made; the others are answers."""
    answers: bool = False
    """Whether each command is answered as it comes, with one result however often."""
    executed: dict[bytes, bytes] = field(default_factory=dict)
    """The result of each."""

    async def listen(self) -> None:
        with contextlib.suppress(LinkError):  # the bridge it talks to may die
            async for message in self.link.messages():
                message.done()
                match parse_topic(message.topic).frame_class:
                    case FrameClass.RECEIPT:
                        self.receipts += 1
                        upto = receipt_of(message.payload).upto
                        self.receipted = max(self.receipted, upto)
                    case FrameClass.CMD:
                        self.commands.append(message.payload)
                        await self.answer(message.payload)
                    case _:
                        pass

    async def tell(self, count: int) -> None:
        """Make `count` entries and send them, and what may have been lost before."""
        have = len(self.numbers)
        made = [
            self.car.event(body) for body in islice(cycle(BODIES), have, have + count)
        ]
        self.entries += [(FrameClass.EVENT, entry) for entry in made]
        self.numbers += range(self.car.seq - count + 1, self.car.seq + 1)
        for entry in made:
            await self.link.publish(self.car.topic(FrameClass.EVENT), entry)

    async def answer(self, command: bytes) -> None:
        if not self.answers:
            return
        if command not in self.executed:
            self.executed[command] = self.car.result(command)
            self.entries.append((FrameClass.RESULT, self.executed[command]))
        topic = self.car.topic(FrameClass.RESULT)
        await self.link.publish(topic, self.executed[command])

    async def greet(self) -> None:
        """Say hello until somebody has told the head of the ledger."""
        before = self.receipts
        while self.receipts == before:
            hello = self.car.hello(bundle_version=self.bundle_version)
            await self.link.publish(self.car.topic(FrameClass.HELLO), hello)
            await asyncio.sleep(0.5)

    async def finish(self) -> None:
        while self.receipted < len(self.entries):
            for kind, entry in self.entries[self.receipted : self.receipted + 64]:
                await self.link.publish(self.car.topic(kind), entry)
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

    async def tell(self, count: int) -> None:
        await asyncio.gather(*(driver.tell(count) for driver in self.drivers))

    async def settled(self) -> None:
        """Wait until every car has a receipt for all it told; send again late only."""
        for _ in range(300):
            if all(one.receipted == len(one.entries) for one in self.drivers):
                return
            await asyncio.sleep(0.01)
        await asyncio.gather(*(driver.finish() for driver in self.drivers))


@contextlib.asynccontextmanager
async def driven(
    fleet: FleetDirectory,
    broker: EmbeddedBroker,
    vehicle_id: VehicleId,
    *,
    bundle_version: int,
) -> AsyncIterator[Driver]:
    """Connect a car, and let it listen."""
    directory = fleet.vehicle_directory(vehicle_id)
    identity = TlsIdentity(
        directory / VehiclePart.TLS_CERTIFICATE,
        directory / VehiclePart.TLS_KEY,
        directory / VehiclePart.TRUST_ANCHORS,
    )
    settings = LinkSettings(broker.host, broker.port, client_id=str(vehicle_id))
    async with MqttLink(settings, client_context(identity, now=clock())) as link:
        await link.subscribe(downlinks_of(vehicle_id))
        driver = Driver(Car(directory, boot_ms=boot_ms), link, bundle_version)
        listening = asyncio.create_task(driver.listen())
        try:
            yield driver
        finally:
            listening.cancel()


@contextlib.asynccontextmanager
async def open_site(
    folder: Path, server: Server, *, cars: int, bridges: int
) -> AsyncIterator[Site]:
    """Make a fleet with its broker and an empty database; cars are connected."""
    fleet = make_fleet(folder / "fleet", cars, now=clock())
    known = {str(vehicle_id) for vehicle_id in fleet.vehicle_ids()}
    roots = roots_at_hand(fleet, ())
    further = [issue_bridge(fleet, roots, now=clock()) for _ in range(1, bridges)]
    names = ("ff-bridge-1", *(one.name for one in further))
    async with EmbeddedBroker(
        directory=folder / "broker",
        identity=TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER),
        access=BrokerAccess(is_vehicle=known.__contains__, bridges=names),
        clock=clock,
        kind="mosquitto",
    ) as broker:
        made = Site(fleet, broker, folder, server, server.make_database())
        async with contextlib.AsyncExitStack() as stack:
            for vehicle_id in fleet.vehicle_ids():
                driving = driven(fleet, broker, vehicle_id, bundle_version=bridges)
                made.drivers.append(await stack.enter_async_context(driving))
            yield made
