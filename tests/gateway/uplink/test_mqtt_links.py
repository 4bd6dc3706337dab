"""The uplink over real brokers with mutual TLS: connect, lose the broker, come back."""

import asyncio
import re
import secrets
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.broker.process import free_port
from gateway.bootstrap import build_gateway
from gateway.runtime.system_clock import SystemClock, boot_mark
from gateway.runtime.timekeeper import Timekeeper
from gateway.uplink.link import LinkFactory
from gateway.uplink.mqtt_links import mqtt_links
from gateway.uplink.renewal import Renewal
from gateway.uplink.tls_store import InstalledTls
from protocol.codes import Code, FrameClass
from protocol.command import ANY_VERSION, Ping
from protocol.event import RentalEnded
from protocol.snapshot import NO_RENTAL
from protocol.topic import ALL_UPLINKS, parse_topic, topic_of
from tests.broker.pki import DAY, HOUR, Pki, clock
from tests.gateway.devices import FakeBoard, FakeDisplay, FakePositioning, FakeReader
from tests.gateway.fleet_end import VEHICLE, Air, AirMessage, FleetEnd
from tests.gateway.world import ALICE, IDENTITY
from transport.backoff import Backoff
from transport.errors import LinkError
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context

pytestmark = pytest.mark.broker

KINDS = pytest.mark.parametrize(
    "kind", [pytest.param("mosquitto", marks=pytest.mark.mosquitto), "nats"]
)
BRIDGE = "ff-bridge-1"
ACCESS = BrokerAccess(
    is_vehicle={str(VEHICLE)}.__contains__, bridges=(BRIDGE,), engineers=()
)


class BrokerAir(Air):
    """The way to the car over a real broker."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: asyncio.Queue[tuple[FrameClass, bytes]] = asyncio.Queue()

    def deliver(
        self, frame_class: FrameClass, data: bytes, *, retain: bool = False
    ) -> AirMessage | None:
        assert not retain
        self.waiting.put_nowait((frame_class, data))
        return None


class Street:
    """A broker, a fleet on it, and a car."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.host = "127.0.0.1"
        """What the car calls the broker; its certificate has localhost too."""
        self.directory = directory
        self.pki = Pki(directory / "pki", now=clock())
        self.server = self.pki.issue("broker", server=True)
        self.bridge = self.pki.issue(BRIDGE)
        self.car = self.pki.issue(str(VEHICLE))
        self.clock = SystemClock()
        self.time = Timekeeper(self.clock, int(clock().timestamp() * 1000))
        self.air = BrokerAir()
        self.fleet = FleetEnd(self.air, self.clock)
        self.board = FakeBoard(self.clock)
        self.reader = FakeReader()
        self.changed = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def broker(self, port: int) -> EmbeddedBroker:
        return EmbeddedBroker(
            directory=self.directory / f"broker-{port}",
            identity=self.server,
            access=ACCESS,
            clock=clock,
            kind=self.kind,
            port=port,
        )

    def start_fleet(self, port: int) -> None:
        self.tasks.append(asyncio.create_task(self._run_fleet(port)))

    async def _run_fleet(self, port: int) -> None:
        settings = LinkSettings("127.0.0.1", port, client_id=BRIDGE)
        context = client_context(self.bridge, now=clock())
        try:
            async with MqttLink(settings, context) as link:
                await link.subscribe(ALL_UPLINKS)
                sender = asyncio.create_task(self._send(link))
                try:
                    async for message in link.messages():
                        route = parse_topic(message.topic)
                        self.fleet.take(route.frame_class, message.payload)
                        self.changed.set()
                        message.done()
                finally:
                    sender.cancel()
        except LinkError:
            return  # the broker went

    async def _send(self, link: MqttLink) -> None:
        while True:
            frame_class, data = await self.air.waiting.get()
            await link.publish(topic_of(VEHICLE, frame_class), data)

    def start_car(self, port: int, tls: TlsIdentity) -> None:
        self.start_gateway(
            mqtt_links(
                VEHICLE,
                InstalledTls(tls),
                host=self.host,
                port=port,
                time=self.time,
            )
        )

    def start_gateway(self, links: LinkFactory, renewal: Renewal | None = None) -> None:
        place = self.directory / "identity"
        place.mkdir(exist_ok=True)
        gateway = build_gateway(
            replace(IDENTITY, directory=place),
            store=self.directory / "ledger.db",
            links=links,
            renewal=renewal,
            reader=self.reader,
            board=self.board,
            display=FakeDisplay(),
            positioning=FakePositioning(),
            clock=self.clock,
            random_bytes=secrets.token_bytes,
            boot_mark=boot_mark(),
            backoff=Backoff(initial_s=0.1, maximum_s=0.5),
        )
        self.tasks.append(asyncio.create_task(gateway.run()))

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@KINDS
async def test_entries_survive_a_broker_that_dies_and_comes_back(
    kind: str, tmp_path: Path
) -> None:
    # FF-LED-07.
    # Rows 19 and 21, L1: what the broker held is gone, what the car holds is not.
    street = Street(kind, tmp_path)
    async with street.broker(0) as broker:
        port = broker.port
        street.start_fleet(port)
        street.start_car(port, street.car)
        await street.until(lambda: street.fleet.contiguous >= 1)
        ping = street.fleet.send(Ping(NO_RENTAL, ANY_VERSION, bytes(16)), ttl_ms=9_000)
        await street.until(lambda: street.fleet.codes_of(ping) == [Code.OK])
    street.reader.present(ALICE)  # refused, and written down without a link

    async with street.broker(port):
        street.start_fleet(port)
        await street.until(lambda: street.fleet.contiguous >= 3)

        # Not by a second hello: the car may have said it before the fleet was back on
        # a broker that remembers nothing. The third entry is younger than the first
        # broker's end.
        assert not any(isinstance(e, RentalEnded) for e in street.fleet.events())
        await street.stop()


async def test_an_expired_certificate_is_said_and_the_car_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Row 34, I-19.
    street = Street("nats", tmp_path)
    expired = street.pki.issue(
        str(VEHICLE), file="expired", starts=-2 * HOUR, ends=-HOUR
    )
    street.start_car(1, expired)

    async with asyncio.timeout(10):
        while "expired on" not in caplog.text:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.02)

    assert not street.tasks[0].done()
    await street.stop()


@KINDS
async def test_a_certificate_that_is_not_valid_yet_is_said_and_works_once_it_is(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Row 34 (not yet valid), I-19: the office's clock is ahead of the broker's.
    street = Street(kind, tmp_path)
    begins = clock().replace(microsecond=0) + timedelta(seconds=3)
    refusal = f"ours begins on {begins.isoformat()}"
    early = street.pki.issue(
        str(VEHICLE), file="early", starts=begins - street.pki.now, ends=DAY
    )
    async with street.broker(0) as broker:
        street.start_fleet(broker.port)
        street.start_car(broker.port, early)
        async with asyncio.timeout(10):
            while refusal not in caplog.text:  # noqa: ASYNC110 - a log has no event
                await asyncio.sleep(0.02)
        assert not street.fleet.contiguous

        await street.until(lambda: street.fleet.contiguous >= 1)
        reached = clock()
        await street.stop()
        said = broker.log.read_text()

    assert reached >= begins
    assert "check that clock" in caplog.text
    if kind == "nats":
        assert re.search(f"is not yet valid: .* is before .*CN={VEHICLE}", said)
    else:
        # mosquitto 2.0.11 gives neither the reason nor the name.
        assert "certificate verify failed" in said


class Resolver:
    """Answers for one name as it is told, and for others as the system does.

    Tests may connect to 127.0.0.1 alone, so another address is another port of it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.ports: list[int] = []
        """Where the name leads to."""
        self._system = socket.getaddrinfo

    def __call__(self, host: str, *asked: Any, **named: Any) -> Any:
        if host != self.name:
            return self._system(host, *asked, **named)
        if not self.ports:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
        return [
            found
            for port in self.ports
            for found in self._system("127.0.0.1", port, *asked[1:], **named)
        ]


def liar_of(street: Street) -> EmbeddedBroker:
    """Return a broker of this fleet with another name, where a lie leads.

    Its certificate has the address where it is found, which is not what it is called.
    """
    honest, street.server = (
        street.server,
        street.pki.issue("broker", file="liar", server=True, names=("elsewhere",)),
    )
    liar = street.broker(free_port("127.0.0.1"))
    street.server = honest
    return liar


@pytest.mark.mosquitto
async def test_a_car_follows_its_broker_to_another_address_and_over_a_dead_name_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Row 18: each attempt asks for the name anew; the certificate names it. Where a
    # name server lies, a broker of this fleet that has another name is refused.
    resolver = Resolver("localhost")
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    street = Street("mosquitto", tmp_path)
    street.host = resolver.name
    async with street.broker(0) as broker:
        port = broker.port
        street.start_car(port, street.car)
        async with asyncio.timeout(10):
            while "has no address" not in caplog.text:  # noqa: ASYNC110 - a log
                await asyncio.sleep(0.02)
        resolver.ports = [port]
        street.start_fleet(port)
        await street.until(lambda: street.fleet.contiguous >= 1)
    street.reader.present(ALICE)  # refused, and written down without a link

    async with liar_of(street) as liar:
        resolver.ports = [liar.port]
        async with asyncio.timeout(10):
            while "does not name 'localhost'" not in caplog.text:  # noqa: ASYNC110 - a log
                await asyncio.sleep(0.02)

    async with street.broker(free_port("127.0.0.1")) as other:
        resolver.ports = [other.port]
        street.start_fleet(other.port)
        await street.until(lambda: street.fleet.contiguous >= 2)
        await street.stop()
    assert other.port != port


PATIENCE_S = 2.0
"""Instead of 10, at an address that says nothing."""


async def until_there(broker: EmbeddedBroker) -> None:
    """Wait until the car is on this broker."""
    async with asyncio.timeout(20):
        said = re.compile(rf"connected from \S+ as {VEHICLE} ")
        while not said.search(broker.log.read_text()):  # noqa: ASYNC110 - a log
            await asyncio.sleep(0.02)


@pytest.mark.mosquitto
async def test_a_car_tries_each_address_and_the_last_good_one_when_names_fail_or_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Row 18, I-19: of four addresses one is dead, one says nothing and one lies."""
    resolver = Resolver("localhost")
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(
        "gateway.uplink.mqtt_links.LinkSettings",
        partial(LinkSettings, connect_timeout_s=PATIENCE_S),
    )
    street = Street("mosquitto", tmp_path)
    street.host = resolver.name
    port = free_port("127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with liar_of(street) as liar:
            others = [free_port("127.0.0.1"), silent.getsockname()[1], liar.port]
            resolver.ports = [*others, port]
            async with street.broker(port) as broker:
                street.start_car(port, street.car)
                await until_there(broker)
                # All within its first attempt.
                assert "no link" not in caplog.text
                refused = liar.log.read_text().count("alert bad certificate")

            resolver.ports = [liar.port]
            async with street.broker(port) as broker:
                await until_there(broker)
                assert liar.log.read_text().count("alert bad certificate") > refused

    resolver.ports = []
    async with street.broker(port) as broker:
        await until_there(broker)
        await street.stop()
