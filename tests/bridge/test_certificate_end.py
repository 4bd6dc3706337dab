"""The bridge's own certificate ends while it is connected (row 35).

Real brokers, a real bridge with its store, and a car that sends again what has no
receipt.
"""

import asyncio
import contextlib
import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from bridge.bootstrap import Bridge, open_bridge
from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.settings import MetricsSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.fleet import FleetPart
from tests.bridge.conftest import make_fleet
from tests.bridge.running import until
from tests.bridge.scraping import scraped
from tests.bridge.test_real_broker import (
    BODIES,
    BROKERS,
    PATIENCE_S,
    Driver,
    Site,
    clock,
    driving,
    stored,
)
from tests.broker.pki import DAY, Pki
from tools.bridge_settings import local_settings
from transport.backoff import Backoff
from transport.tls import TlsIdentity

pytestmark = pytest.mark.broker

LIFE = timedelta(seconds=3)
"""What the certificate has left: the bridge is connected within a third of it."""

RENEWED_DAYS = 20
"""What the next one has: a warning that it is due soon stays."""


def put(fleet: FleetDirectory, pki: Pki, *, file: str, ends: timedelta) -> None:
    """Exchange the bridge's certificate as an operator does, the key first."""
    made = pki.issue("ff-bridge-1", file=file, ends=clock() - pki.now + ends)
    place = TlsIdentity.of_fleet(fleet.path, FleetPart.BRIDGE)
    shutil.copyfile(made.key, place.key)
    shutil.copyfile(made.certificate, place.certificate)


def broker(
    fleet: FleetDirectory, directory: Path, kind: str, port: int = 0
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


async def measured(bridge: Bridge) -> dict[str, float]:
    """Return what the alerts look at: the link, and days by what ends."""
    _, samples = await scraped(bridge)
    return {
        dict(labels).get("name", name): value
        for (name, labels), value in samples.items()
        if name in {"freefloat_link_up", "freefloat_expiry_days"}
    }


async def tell(driver: Driver, number: int) -> bytes:
    entry = driver.car.event(BODIES[number])
    await driver.say(FrameClass.EVENT, entry)
    return entry


async def repeat(driver: Driver, entry: bytes) -> None:
    """Send an entry until its receipt is there, as every car does."""
    while driver.receipted() < driver.car.seq:
        await driver.say(FrameClass.EVENT, entry)
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("kind", BROKERS)
async def test_a_bridge_goes_on_beyond_its_certificate_and_comes_back_with_the_next(
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Row 35 (F): warned before, not cut off, and no event is lost at the exchange."""
    monkeypatch.setattr("bridge.housekeeping.EXPIRY_LOOK_S", 0.1)
    monkeypatch.setattr("bridge.intake.BACKOFF", Backoff(initial_s=0.2, maximum_s=0.4))
    fleet = make_fleet(tmp_path / "fleet", 1, now=clock())
    pki = Pki.of_fleet(tmp_path / "pki", fleet, now=clock())
    async with asyncio.timeout(PATIENCE_S), contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(
            broker(fleet, tmp_path / "broker", kind)
        )
        site = Site(fleet, first, tmp_path / "state")
        settings = msgspec.structs.replace(
            local_settings(
                fleet.path,
                state=site.state,
                broker=site.address,
                api=("127.0.0.1", 0),
            ),
            metrics=MetricsSettings(port=0),
        )
        put(fleet, pki, file="ending", ends=LIFE)
        end = clock() + LIFE
        bridge = await stack.enter_async_context(open_bridge(settings))
        await bridge.wait_connected()

        before = await measured(bridge)
        async with driving(site) as driver:
            car = driver.car
            await driver.say(FrameClass.HELLO, car.hello())
            await repeat(driver, await tell(driver, 0))
            await asyncio.sleep((end - clock()).total_seconds() + 0.1)
            if kind == "mosquitto":
                # It looks at dates when somebody connects; NATS when they come to pass.
                await repeat(driver, await tell(driver, 1))
                assert (await measured(bridge))["freefloat_link_up"] == 1.0
                await first.stop()
                await stack.enter_async_context(
                    broker(fleet, tmp_path / "broker", kind, first.port)
                )
        await until(lambda: "expired on" in caplog.text)
        refused, beyond = await bridge.conditions(), await measured(bridge)

        async with driving(site) as driver:
            driver.car = car
            entry = await tell(driver, 2)
            put(fleet, pki, file="next", ends=RENEWED_DAYS * DAY)
            await repeat(driver, entry)
        await until(lambda: bridge.days_left()["bridge certificate"] > 0)
        after = await measured(bridge)

    assert before["freefloat_link_up"] == 1.0
    assert before["bridge certificate"] == 0.0
    assert "bridge certificate ends in 0 days; put the next one" in caplog.text
    assert "expired on" in refused["broker"]
    assert beyond["freefloat_link_up"] == 0.0
    assert beyond["bridge certificate"] == -1.0
    assert after["freefloat_link_up"] == 1.0
    assert after["bridge certificate"] == RENEWED_DAYS - 1
    # Each entry once, and who is there.
    [(frames, events)] = stored(site)
    assert (frames, events) == (car.seq, car.seq + 1)
