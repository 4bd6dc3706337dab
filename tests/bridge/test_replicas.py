"""Several bridges on one real broker and one PostgreSQL (row 28, I-25, I-34).

Cars' frames are shared among the bridges by the broker, so parts of one ledger arrive
at different bridges in any order, while bridges come and go.
"""

import asyncio
import contextlib
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import pytest

from bridge.bootstrap import Bridge, open_bridge
from protocol.codes import FrameClass
from tests.bridge.car import RENTAL
from tests.bridge.running import until
from tests.bridge.site import Site, open_site
from tests.bridge.stream import TYPES
from tests.postgres import Server, running_server

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto, pytest.mark.postgres]

CARS: Final = 4
REPLICAS: Final = 4
ENTRIES: Final = 60
"""Of each car, spread over all phases."""


@contextlib.asynccontextmanager
async def replica(site: Site, number: int) -> AsyncIterator[Bridge]:
    async with open_bridge(site.settings(number)) as bridge:
        await bridge.wait_connected()
        yield bridge


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
async def site(tmp_path: Path, server: Server) -> AsyncIterator[Site]:
    async with open_site(tmp_path, server, cars=CARS, bridges=REPLICAS) as made:
        yield made


async def test_bridges_come_and_go_and_every_ledger_is_told_once_in_its_order(
    site: Site,
) -> None:
    """I-25, I-34, row 28: one bridge, four, one; nothing acknowledged is lost."""
    # I-25 (F), row 28.
    phase = ENTRIES // 4
    async with asyncio.timeout(120), replica(site, 1) as first:
        await site.tell(phase)
        async with contextlib.AsyncExitStack() as others:
            for number in range(2, REPLICAS + 1):
                await others.enter_async_context(replica(site, number))
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
        replica(site, 1) as asked,
        replica(site, 2),
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
