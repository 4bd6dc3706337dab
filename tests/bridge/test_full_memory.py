"""A broker whose memory fills under a bridge that does not take (row 24).

mosquitto with the file of deploy/. What fills it in practice is a bridge that is
connected and slow; here its store is locked. With the limits of that file, made small,
nobody is cut off; with a `memory_limit`, which it does not have, everybody is.
"""

import asyncio
import contextlib
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest

from bridge.bootstrap import open_bridge
from bridge.settings import MetricsSettings, Settings
from certs.fleet import FleetDirectory
from protocol.fleet import VehiclePart
from protocol.identity import VehicleId
from protocol.topic import downlinks_of
from tests.bridge.car import Car
from tests.bridge.conftest import make_fleet
from tests.bridge.scraping import figures_of
from tests.bridge.site import Driver, boot_ms, clock, locked
from tests.broker.pki import Pki
from tests.broker.test_deployment import Deployed, deployed
from tests.broker.test_full_broker import connected
from tools.bridge_settings import local_settings
from transport.errors import LinkError
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto]

LIMIT_BYTES = 2_000_000
"""Some 1,300 of `FILLER`, above what the bridge itself has on its way (1,024)."""

QUEUED = 1_000
"""Messages that may wait for the bridge in the broker."""

FILLER = bytes(1_000)
"""No frame of anybody: the bridge puts it aside."""

TOLD = 20
"""Entries of the honest car while nothing is stored."""


class Street:
    """A fleet's cars and where their broker listens."""

    def __init__(self, fleet: FleetDirectory, port: int) -> None:
        self.fleet = fleet
        self.port = port

    def link(self, vehicle_id: VehicleId) -> MqttLink:
        directory = self.fleet.vehicle_directory(vehicle_id)
        identity = TlsIdentity(
            directory / VehiclePart.TLS_CERTIFICATE,
            directory / VehiclePart.TLS_KEY,
            directory / VehiclePart.TRUST_ANCHORS,
        )
        settings = LinkSettings("127.0.0.1", self.port, client_id=str(vehicle_id))
        return MqttLink(settings, client_context(identity, now=clock()))

    @contextlib.asynccontextmanager
    async def driving(
        self, vehicle_id: VehicleId, car: Car | None = None
    ) -> AsyncIterator[Driver]:
        link = await connected(lambda: self.link(vehicle_id))
        await link.subscribe(downlinks_of(vehicle_id))
        directory = self.fleet.vehicle_directory(vehicle_id)
        driver = Driver(car or Car(directory, boot_ms=boot_ms), link, 1)
        listening = asyncio.create_task(driver.listen())
        try:
            yield driver
        finally:
            listening.cancel()
            await link.__aexit__(None, None, None)


async def fill(driver: Driver) -> int:
    """Publish until the broker cuts us off; return how many it had taken."""
    topic, taken = f"ff/v1/{driver.car.id}/up/telem", 0

    async def publish() -> None:
        nonlocal taken
        while True:
            await driver.link.publish(topic, FILLER)
            taken += 1

    ends = await asyncio.gather(*(publish() for _ in range(32)), return_exceptions=True)
    assert all(isinstance(end, LinkError) for end in ends), ends
    return taken


async def test_a_broker_without_memory_costs_no_entry_and_the_bridge_says_why(
    tmp_path: Path,
) -> None:
    """Row 24 (memory), I-21 (F), L1: who publishes is cut off, and sends it again.

    At its limit mosquitto 2.0.11 often crashes, and without one the system kills it;
    here it is killed, so that it always ends in the same way.
    """
    fleet = make_fleet(tmp_path / "fleet", 2, now=clock())
    honest_id, loud_id = fleet.vehicle_ids()
    limit = f"memory_limit {LIMIT_BYTES}"
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
        full = await stack.enter_async_context(broker(fleet, tmp_path / "1", limit))
        street = Street(fleet, full.port)
        settings = bridge_settings(fleet, tmp_path, full.port)
        honest = await stack.enter_async_context(street.driving(honest_id))
        bridge = await stack.enter_async_context(open_bridge(settings))
        await bridge.wait_connected()
        await honest.greet()
        with locked(settings):
            await honest.tell(TOLD)
            async with street.driving(loud_id) as loud:
                taken = await fill(loud)
                with pytest.raises(LinkError):
                    await tell_until_cut_off(honest)
            figures = await figures_of(bridge)
            waiting = figures["freefloat_verify_queue_frames"]
            with contextlib.suppress(ProcessLookupError):
                full.process.kill()
            receipted = honest.receipted
        await full.process.wait()
        again = broker(fleet, tmp_path / "2", port=full.port)
        await stack.enter_async_context(again)
        await finish(street, honest)
        await bridge.wait_connected()
        conditions = await bridge.conditions()

    sys.stdout.write(f"full after {taken} frames, {waiting:.0f} wait in the bridge\n")
    assert b"disconnected due to out of memory" in full.log.read_bytes()
    assert receipted == 0
    # What the alert VerifyQueueFull looks at.
    assert waiting > 800
    assert conditions == {}
    assert kept(Path(settings.store.path), honest_id) == len(honest.entries)


async def test_a_bridge_that_takes_nothing_costs_nobody_his_connection_and_no_entry(
    tmp_path: Path,
) -> None:
    """Row 24 (memory: existing cars unaffected), I-21 (F), I-31 (F).

    What the broker had no room for is dropped, acknowledged all the same (L1), and
    sent again, having no receipt.
    """
    fleet = make_fleet(tmp_path / "fleet", 2, now=clock())
    honest_id, loud_id = fleet.vehicle_ids()
    limits = f"max_queued_messages {QUEUED}\nmax_queued_bytes {LIMIT_BYTES}"
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
        full = await stack.enter_async_context(
            broker(fleet, tmp_path / "1", last=limits)
        )
        street = Street(fleet, full.port)
        settings = bridge_settings(fleet, tmp_path, full.port)
        honest = await stack.enter_async_context(street.driving(honest_id))
        loud = await stack.enter_async_context(street.driving(loud_id))
        bridge = await stack.enter_async_context(open_bridge(settings))
        await bridge.wait_connected()
        await honest.greet()
        with locked(settings):
            topic = f"ff/v1/{loud_id}/up/telem"
            while b"dropped for client ff-bridge-1" not in full.log.read_bytes():
                sending = (loud.link.publish(topic, FILLER) for _ in range(256))
                await asyncio.gather(*sending)
            await honest.tell(TOLD)
            receipted = honest.receipted
            still = honest.link.is_connected, loud.link.is_connected
            was_connected = bridge.is_connected
        await honest.finish()
        conditions = await bridge.conditions()

    assert still == (True, True)
    assert was_connected
    assert receipted == 0
    assert conditions == {}
    assert kept(Path(settings.store.path), honest_id) == len(honest.entries) == TOLD


def bridge_settings(fleet: FleetDirectory, folder: Path, port: int) -> Settings:
    made = local_settings(
        fleet.path,
        state=folder / "state",
        broker=("127.0.0.1", port),
        api=("127.0.0.1", 0),
    )
    return msgspec.structs.replace(made, metrics=MetricsSettings(port=0))


def broker(
    fleet: FleetDirectory, directory: Path, *more: str, port: int = 0, last: str = ""
) -> AbstractAsyncContextManager[Deployed]:
    """Return a mosquitto of this fleet with the file of deploy/."""
    directory.mkdir()
    pki = Pki.of_fleet(directory / "pki", fleet, now=clock())
    return deployed(pki, directory, *more, port=port, last=last)


async def finish(street: Street, told: Driver) -> None:
    """Connect and send until everything has a receipt, as a car does."""
    while told.receipted < len(told.entries):
        try:
            async with street.driving(told.car.id, told.car) as again:
                again.entries = told.entries
                await again.finish()
                told.receipted = again.receipted
        except LinkError:
            await asyncio.sleep(0.2)


async def tell_until_cut_off(driver: Driver) -> None:
    """Use up what the broker got back when it cut off somebody else."""
    for _ in range(100):
        await driver.tell(1)


def kept(store: Path, vehicle_id: VehicleId) -> int:
    with contextlib.closing(sqlite3.connect(store)) as connection:
        [[frames]] = connection.execute(
            "select count(*) from frames where vehicle_id = ?", (str(vehicle_id),)
        )
    return int(frames)
