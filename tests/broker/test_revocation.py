"""A withdrawn car loses its session and gets none (K8, L5, rows 34 and 35).

L5's three failures of revocation lists, as three tests on both brokers, each with the
car connected: (a) its connection goes on, (b) a list that is too old locks everybody
out, (c) a list that is broken or missing lets the revoked in again.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.broker.service_certificate import SERVICE_NAME
from bridge.broker.trespass import TrespassWatch
from bridge.registry import RegistryDirectory
from certs.fleet import FleetDirectory
from certs.revocation import LIST_LIFETIME, publish_list
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.fleet import FleetPart
from tests.broker.conftest import BROKERS
from tests.broker.pki import clock
from tests.broker.room import down, observing, up
from transport.errors import TransportError
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context

pytestmark = pytest.mark.broker

LIMIT_S = 60.0
"""K8: revocation takes effect within a minute."""

COUNT = 20


@dataclass
class Street:
    """A fleet with its registry, and a broker that goes by it."""

    fleet: FleetDirectory
    registry: RegistryDirectory
    broker: EmbeddedBroker
    names: list[str]

    def link(self, name: str) -> MqttLink:
        folder = self.fleet.path / (
            "bridge/1" if name.startswith("ff-") else f"{FleetPart.VEHICLES}/{name}"
        )
        anchors = self.fleet.path / FleetPart.TRUST_ANCHORS
        identity = TlsIdentity(folder / "tls.crt", folder / "tls.key", anchors)
        return MqttLink(
            LinkSettings("127.0.0.1", self.broker.port, client_id=name),
            client_context(identity, now=clock()),
        )

    def revoke(self, name: str) -> None:
        """Do as `freefloat certs revoke` does."""
        revoked = self.fleet.path / "revoked"
        revoked.mkdir(exist_ok=True)
        self.fleet.path.joinpath(FleetPart.REGISTRY, f"{name}.json").rename(
            revoked / f"{name}.json"
        )

    def refresh(self) -> None:
        """Do as the bridge's housekeeping does once a second."""
        with contextlib.suppress(Exception):
            self.registry.refresh()


@pytest_asyncio.fixture(params=BROKERS)
async def street(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[Street]:
    fleet = FleetDirectory.create(tmp_path / "fleet", name="t", now=clock())
    ids = [random_vehicle_id() for _ in range(COUNT)]
    issue_vehicles(fleet, ids, now=clock())
    registry = RegistryDirectory(
        fleet.path / FleetPart.REGISTRY,
        fleet_id=fleet.fleet.fleet_id,
        issuers=[fleet.issuing_certificate],
        wall_ns=lambda: 0,
        refused=lambda _error: None,
    )
    registry.refresh()
    async with EmbeddedBroker(
        directory=tmp_path / "broker",
        identity=TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER),
        access=BrokerAccess(
            is_vehicle=registry.admits, withdrawn=lambda: registry.withdrawn
        ),
        clock=clock,
        kind=request.param,
    ) as broker:
        running = Street(fleet, registry, broker, sorted(map(str, ids)))
        keeping = asyncio.create_task(keep_house(running))
        yield running
        keeping.cancel()


async def keep_house(street: Street) -> None:
    while True:
        await asyncio.sleep(1)
        street.refresh()


async def stays_powerless(
    street: Street, name: str, payload: bytes = b"revoked again"
) -> None:
    """A new connection is refused, or has no topics and is ended."""
    try:
        link = street.link(name)
        async with link:
            assert street.broker.kind == "mosquitto"
            with contextlib.suppress(TransportError):
                await link.subscribe(f"ff/v1/{name}/down/+")
            with contextlib.suppress(TransportError):
                await link.publish(up(name), payload)
            async with asyncio.timeout(LIMIT_S):
                await link.wait_lost()
    except TransportError:
        assert street.broker.kind == "nats"


async def test_a_a_revoked_cars_live_session_ends_and_no_new_one_is_of_use(
    street: Street,
) -> None:
    # row 34.
    victim, other = street.names[:2]
    async with (
        observing(street.link("ff-bridge-1"), ["ff/v1/+/up/#"]) as bridge,
        street.link(other) as kept,
    ):
        async with street.link(victim) as live:
            await live.subscribe(f"ff/v1/{victim}/down/+")
            await live.publish(up(victim), b"before")
            await bridge.until(b"before")

            street.revoke(victim)
            began = time.monotonic()
            async with asyncio.timeout(LIMIT_S):
                await live.wait_lost()
            took_s = time.monotonic() - began

        await stays_powerless(street, victim)
        await kept.publish(up(other), b"others go on")
        await bridge.until(b"others go on")

        assert took_s < LIMIT_S
        assert b"revoked again" not in bridge.payloads
        assert kept.is_connected
    if street.broker.kind == "mosquitto":
        # The guard takes the car's name for it, which is no fight of two for one name.
        watch = TrespassWatch(street.broker.log, clock_s=lambda: 0.0)
        assert [str(told) for told in watch.look()] == []
        assert SERVICE_NAME in street.broker.log.read_text(encoding="utf-8")


@pytest.mark.mosquitto
@pytest.mark.parametrize("street", ["mosquitto"], indirect=True)
async def test_what_is_sent_to_a_revoked_car_is_not_delivered_to_it(
    street: Street,
) -> None:
    # NATS refuses its connection, so there is nobody to deliver to.
    victim, other = street.names[:2]
    street.revoke(victim)
    street.refresh()
    access_list = street.broker.log.with_name("mosquitto.acl")
    async with asyncio.timeout(LIMIT_S):
        while victim not in access_list.read_text():  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.05)
    async with (
        observing(street.link(other), [f"ff/v1/{other}/down/+"]) as kept,
        observing(street.link(victim), [f"ff/v1/{victim}/down/+"]) as revoked,
        street.link("ff-bridge-1") as bridge,
    ):
        await bridge.publish(down(victim), b"for the revoked")
        await bridge.publish(down(other), b"for the other")
        await kept.until(b"for the other")
        async with asyncio.timeout(LIMIT_S):
            await revoked.link.wait_lost()

    assert revoked.payloads == set()


Damage = Callable[[Path], None]


def emptied(registry: Path) -> None:
    for path in registry.iterdir():
        path.unlink()


def missing(registry: Path) -> None:
    registry.rename(registry.with_name("aside"))


def broken(registry: Path) -> None:
    for path in registry.iterdir():
        path.write_bytes(b"\xff\x00")


@pytest.mark.parametrize("damage", [emptied, missing, broken])
async def test_b_and_c_a_list_that_is_damaged_locks_nobody_out_and_nobody_in(
    street: Street, damage: Damage
) -> None:
    # row 35.
    victim, other = street.names[:2]
    street.revoke(victim)
    street.refresh()
    async with (
        street.link(other) as live,
        observing(street.link("ff-bridge-1"), ["ff/v1/+/up/#"]) as bridge,
    ):
        await stays_powerless(street, victim, b"within the minute")

        damage(street.fleet.path / FleetPart.REGISTRY)
        # Several rounds of whoever looks: 1 s, 2 s (NATS) and 5 s (mosquitto).
        await asyncio.sleep(6)

        await live.publish(up(other), b"still here")
        await bridge.until(b"still here")
        third = street.names[2]
        async with street.link(third) as fresh:
            await fresh.publish(up(third), b"and new ones come")
            await bridge.until(b"and new ones come")
        await stays_powerless(street, victim)

        assert b"revoked again" not in bridge.payloads
        assert live.is_connected


def list_is_over(fleet: FleetDirectory) -> None:
    long_ago = clock() - 10 * LIST_LIFETIME
    with contextlib.closing(fleet.books()) as books:
        publish_list(fleet, books, fleet.issuing_authority(), now=long_ago)


def list_is_broken(fleet: FleetDirectory) -> None:
    (fleet.path / FleetPart.REVOCATION_LIST).write_bytes(b"\xff\x00")


def list_is_missing(fleet: FleetDirectory) -> None:
    (fleet.path / FleetPart.REVOCATION_LIST).unlink()


async def test_no_state_of_the_authoritys_revocation_list_lets_in_or_locks_out(
    street: Street,
) -> None:
    """Row 35 (over, corrupt, missing), K8, L5: after each a car is withdrawn.

    With mosquitto that makes the broker read all of its files anew (SIGHUP).
    """
    *victims, other = street.names[:4]
    async with observing(street.link("ff-bridge-1"), ["ff/v1/+/up/#"]) as bridge:
        for number, damage in enumerate(
            (list_is_over, list_is_broken, list_is_missing)
        ):
            damage(street.fleet)
            async with street.link(victims[number]) as live:
                street.revoke(victims[number])
                async with asyncio.timeout(LIMIT_S):
                    await live.wait_lost()
            word = f"after {damage.__name__}".encode()
            async with street.link(other) as fresh:
                await fresh.publish(up(other), word)
                await bridge.until(word)
        for victim in victims:
            await stays_powerless(street, victim)

        assert b"revoked again" not in bridge.payloads


async def test_a_reinstated_car_is_let_in_again(street: Street) -> None:
    name = street.names[0]
    street.revoke(name)
    street.refresh()
    await stays_powerless(street, name)
    revoked = street.fleet.path / "revoked" / f"{name}.json"
    revoked.rename(street.fleet.path / FleetPart.REGISTRY / f"{name}.json")
    street.refresh()

    async with observing(street.link("ff-bridge-1"), ["ff/v1/+/up/#"]) as bridge:
        async with asyncio.timeout(LIMIT_S):
            while b"back" not in bridge.payloads:
                with contextlib.suppress(TransportError):
                    async with street.link(name) as link:
                        await link.publish(up(name), b"back")
                await asyncio.sleep(0.2)


@pytest.mark.mosquitto
@pytest.mark.parametrize("street", ["mosquitto"], indirect=True)
async def test_a_disk_that_is_full_leaves_mosquitto_its_last_list_and_says_so(
    street: Street, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    victim = street.names[0]
    list_path = street.broker.log.with_name("mosquitto.acl")
    before = list_path.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    async with street.link(victim) as live:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            street.revoke(victim)
            street.refresh()
            async with asyncio.timeout(LIMIT_S):
                await live.wait_lost()  # thrown out all the same

            assert list_path.read_bytes() == before
            assert "the old one stands" in caplog.text

    async with asyncio.timeout(LIMIT_S):
        while list_path.read_bytes() == before:  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.1)
    assert f"topic deny ff/v1/{victim}/#" in list_path.read_text()
