"""A running broker with one identity per principal, and what tests do with it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from protocol.topic import DOWN_CLASSES, UP_CLASSES
from tests.broker.pki import Pki, clock
from transport.errors import LinkError
from transport.link import LinkSettings, MqttLink, VersionMemory, Will
from transport.tls import TlsIdentity, client_context

if TYPE_CHECKING:
    from transport.message import IncomingMessage

VEHICLE_A: Final = "A" * 26
VEHICLE_B: Final = "B" * 25 + "A"
UNKNOWN: Final = "C" * 25 + "A"
"""A vehicle id with a certificate of our CA that is in no registry."""
BRIDGE: Final = "ff-bridge-1"
OTHER_BRIDGE: Final = "ff-bridge-2"
ENGINEER: Final = "ff-engineer-1"
OTHER_ENGINEER: Final = "ff-engineer-2"
VEHICLES: Final = (VEHICLE_A, VEHICLE_B)
PRINCIPALS: Final = (
    *VEHICLES,
    UNKNOWN,
    BRIDGE,
    OTHER_BRIDGE,
    ENGINEER,
    OTHER_ENGINEER,
)

ACCESS: Final = BrokerAccess(
    is_vehicle=VEHICLES.__contains__,
    bridges=(BRIDGE, OTHER_BRIDGE),
    engineers=(ENGINEER, OTHER_ENGINEER),
)

PATIENCE_S: Final = 5.0


def up(vehicle: str, label: str = "event") -> str:
    return f"ff/v1/{vehicle}/up/{label}"


def down(vehicle: str, label: str = "cmd") -> str:
    return f"ff/v1/{vehicle}/down/{label}"


UPS: Final = tuple(up(v, c.label) for v in VEHICLES for c in UP_CLASSES)
DOWNS: Final = tuple(down(v, c.label) for v in VEHICLES for c in DOWN_CLASSES)


class Room:
    """The broker and everybody's certificates."""

    def __init__(self, broker: EmbeddedBroker, pki: Pki, directory: Path) -> None:
        self.broker = broker
        self.pki = pki
        self.directory = directory
        self.versions = VersionMemory()
        self.identities = {name: pki.issue(name) for name in PRINCIPALS}

    @property
    def is_mosquitto(self) -> bool:
        return self.broker.kind == "mosquitto"

    def link(
        self,
        name: str,
        *,
        identity: TlsIdentity | None = None,
        will: Will | None = None,
        host: str | None = None,
        other_hosts: tuple[str, ...] = (),
        connect_timeout_s: float = PATIENCE_S,
        keepalive_s: int = 15,
        receive_maximum: int = 64,
        inbox_limit: int = 1024,
    ) -> MqttLink:
        """Return a link for client id `name`, with its own certificate by default."""
        identity = identity or self.identities[name]
        return MqttLink(
            LinkSettings(
                host or self.broker.host,
                self.broker.port,
                client_id=name,
                other_hosts=other_hosts,
                connect_timeout_s=connect_timeout_s,
                publish_timeout_s=PATIENCE_S,
                keepalive_s=keepalive_s,
                receive_maximum=receive_maximum,
                inbox_limit=inbox_limit,
            ),
            client_context(identity, now=clock()),
            versions=self.versions,
            will=will,
        )


class Observer:
    """Collects what a link receives, acknowledging it."""

    def __init__(self, link: MqttLink) -> None:
        self.link = link
        self.received: list[IncomingMessage] = []
        self._arrival = asyncio.Event()
        self._task = asyncio.ensure_future(self._collect())

    async def _collect(self) -> None:
        with contextlib.suppress(LinkError):
            async for message in self.link.messages():
                message.done()
                self.received.append(message)
                self._arrival.set()

    async def until(self, payload: bytes) -> None:
        """Wait until this payload has arrived."""
        async with asyncio.timeout(PATIENCE_S):
            while payload not in self.payloads:
                self._arrival.clear()
                await self._arrival.wait()

    async def until_topics(self, topics: set[str]) -> None:
        """Wait until messages of exactly these topics have arrived."""
        async with asyncio.timeout(PATIENCE_S):
            while self.topics != topics:
                self._arrival.clear()
                await self._arrival.wait()

    @property
    def payloads(self) -> set[bytes]:
        return {m.payload for m in self.received}

    @property
    def topics(self) -> set[str]:
        return {m.topic for m in self.received}

    async def close(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


@contextlib.asynccontextmanager
async def observing(link: MqttLink, filters: Iterable[str]) -> AsyncIterator[Observer]:
    """Enter a link, subscribe, collect."""
    async with link:
        await link.subscribe(*filters)
        observer = Observer(link)
        try:
            yield observer
        finally:
            await observer.close()
