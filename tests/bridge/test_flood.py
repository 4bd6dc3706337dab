"""One car that floods, and a store that stands still, at a real broker (I-31, K23)."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from bridge.bootstrap import open_bridge
from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.settings import IntakeSettings, MetricsSettings, Settings
from protocol.codes import FrameClass
from protocol.fleet import FleetPart
from tests.bridge.car import sample
from tests.bridge.conftest import make_fleet
from tests.bridge.scraping import figures_of
from tests.bridge.site import Driver, clock, driven, locked
from tests.depth import times
from tools.bridge_settings import local_settings
from transport.tls import TlsIdentity

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto, pytest.mark.timeout(300)]

ASKED = times(20, deep=500)
"""Entries of the honest car, each waited for."""

DROPPED = "freefloat_frames_dropped_total"

FLOOD = 50
"""Frames that the other car sends for each turn of the event loop that it gets."""


class Street:
    """Cars at a broker, and a bridge's settings."""

    def __init__(self, settings: Settings, drivers: list[Driver]) -> None:
        self.settings = settings
        self.drivers = drivers


@pytest.fixture
async def street(
    tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Street]:
    """A street with two cars, or as many as a test asks for."""
    cars = getattr(request, "param", 2)
    fleet = make_fleet(tmp_path / "fleet", cars, now=clock())
    known = {str(vehicle_id) for vehicle_id in fleet.vehicle_ids()}
    async with contextlib.AsyncExitStack() as stack:
        broker = await stack.enter_async_context(
            EmbeddedBroker(
                directory=tmp_path / "broker",
                identity=TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER),
                access=BrokerAccess(is_vehicle=known.__contains__),
                clock=clock,
                kind="mosquitto",
            )
        )
        drivers = [
            await stack.enter_async_context(
                driven(fleet, broker, vehicle_id, bundle_version=1)
            )
            for vehicle_id in fleet.vehicle_ids()
        ]
        made = local_settings(
            fleet.path,
            state=tmp_path / "state",
            broker=(broker.host, broker.port),
            api=("127.0.0.1", 0),
        )
        yield Street(
            msgspec.structs.replace(made, metrics=MetricsSettings(port=0)), drivers
        )


async def until_receipted(driver: Driver, upto: int) -> None:
    for _ in range(10_000):
        if driver.receipted >= upto:
            return
        await asyncio.sleep(0.005)
    raise TimeoutError


async def waits_s(driver: Driver) -> list[float]:
    """Let a car tell entries one by one; return how long each receipt took."""
    found = []
    for _ in range(ASKED):
        begun_s = time.monotonic()
        await driver.tell(1)
        await until_receipted(driver, len(driver.entries))
        found.append(time.monotonic() - begun_s)
    return sorted(found)


async def test_a_car_that_floods_delays_no_other_and_loses_telemetry_alone(
    street: Street,
) -> None:
    """I-31 (F), K23, row 27: signed by its own key, on a real broker."""
    rates = IntakeSettings(telemetry_per_s=10, telemetry_burst=20)
    settings = msgspec.structs.replace(street.settings, intake=rates)
    honest, hostile = street.drivers
    frame = hostile.car.telemetry(sample())
    topic = hostile.car.topic(FrameClass.TELEM)

    async def flood() -> None:
        while True:
            for _ in range(FLOOD):
                hostile.link.post(topic, frame)
            # Cars have processors of their own; here they share one with the bridge.
            await asyncio.sleep(0.01)

    async with open_bridge(settings) as bridge:
        await bridge.wait_connected()
        await honest.greet()
        await hostile.greet()
        alone_s = await waits_s(honest)
        flooding = asyncio.create_task(flood())
        for _ in range(1_000):
            if (await figures_of(bridge))[DROPPED]:
                break
            await asyncio.sleep(0.05)
        beside_s = await waits_s(honest)
        await hostile.tell(5)
        await until_receipted(hostile, 5)
        flooding.cancel()
        dropped = (await figures_of(bridge))[DROPPED]

    middle = ASKED // 2
    sys.stdout.write(
        f"to the receipt: {alone_s[middle] * 1000:.1f} ms alone, "
        f"{beside_s[middle] * 1000:.1f} ms beside a flood, {dropped:.0f} dropped\n"
    )
    assert dropped > ASKED
    assert honest.receipted == 2 * ASKED
    # A bound for a busy machine; the figure above says more.
    assert beside_s[middle] < 1 + 10 * alone_s[middle]


async def test_a_store_that_stands_still_costs_nothing_and_is_said(
    street: Street,
) -> None:
    """L2, L4, row 26: cars get no receipt, and nothing is lost."""
    honest, other = street.drivers
    async with open_bridge(street.settings) as bridge:
        await bridge.wait_connected()
        await honest.greet()
        with locked(street.settings):
            await honest.tell(200)
            await other.tell(200)
            for _ in range(1_000):
                if "store" in await bridge.conditions():
                    break
                await asyncio.sleep(0.05)
            else:
                raise TimeoutError
            assert honest.receipted == other.receipted == 0

        await asyncio.gather(honest.finish(), other.finish())

        assert honest.receipted == other.receipted == 200
        for _ in range(1_000):
            if not await bridge.conditions():
                break
            await asyncio.sleep(0.05)
        else:
            raise TimeoutError
