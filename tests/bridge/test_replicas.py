"""Several bridges on one real broker and one PostgreSQL (row 28, I-25, I-34).

Cars' frames are shared among the bridges by the broker, so parts of one ledger arrive
at different bridges in any order, while bridges come and go.
"""

import asyncio
import contextlib
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import pytest

from bridge.bootstrap import Bridge, open_bridge
from bridge.settings import MetricsSettings
from protocol.codes import FrameClass
from tests.bridge.car import RENTAL
from tests.bridge.running import until
from tests.bridge.scraping import figures_of
from tests.bridge.site import Site, open_site
from tests.bridge.stream import TYPES
from tests.postgres import Server, running_server

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto, pytest.mark.postgres]

CARS: Final = 4
REPLICAS: Final = 4
PHASE: Final = 15
"""Entries of each car while nobody comes or goes."""

PAUSE_S: Final = 0.03
"""Between two entries of each car while bridges come and go."""

RECEIVED: Final = "freefloat_frames_received_total"


@contextlib.asynccontextmanager
async def replica(site: Site, number: int) -> AsyncIterator[Bridge]:
    settings = msgspec.structs.replace(
        site.settings(number), metrics=MetricsSettings(port=0)
    )
    async with open_bridge(settings) as bridge:
        await bridge.wait_connected()
        yield bridge


async def meanwhile(site: Site, coming_or_going: Awaitable[object]) -> None:
    """Let every car tell one entry after the other until bridges have come or gone."""
    work = asyncio.ensure_future(coming_or_going)
    while not work.done():
        await site.tell(1)
        await asyncio.sleep(PAUSE_S)
    await work


async def received(bridges: Sequence[Bridge]) -> list[float]:
    return [(await figures_of(bridge))[RECEIVED] for bridge in bridges]


async def shares(site: Site, bridges: Sequence[Bridge]) -> list[float]:
    """Let cars tell a phase; return how many frames each bridge received of it."""
    await site.settled()
    before = await received(bridges)
    await site.tell(PHASE)
    await site.settled()
    after = await received(bridges)
    return [late - early for early, late in zip(before, after, strict=True)]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
async def site(tmp_path: Path, server: Server) -> AsyncIterator[Site]:
    async with open_site(tmp_path, server, cars=CARS, bridges=REPLICAS) as made:
        yield made


@pytest.fixture
def takes_turns() -> bool:
    """Whether the broker gives every bridge a part even when one could do it all."""
    return True


async def test_bridges_come_and_go_and_every_ledger_is_told_once_in_its_order(
    site: Site, takes_turns: bool
) -> None:
    """I-25 (F), I-34 (F), row 28: one bridge, four, one, while cars tell all the time.

    Each takes its part, no frame goes to two, and of what a car has a receipt for
    nothing is missing, told twice or out of order.
    """
    async with asyncio.timeout(90), replica(site, 1) as first:
        await site.tell(PHASE)
        async with contextlib.AsyncExitStack() as others:
            bridges = [first]
            for number in range(2, REPLICAS + 1):
                joining = others.enter_async_context(replica(site, number))
                bridge = asyncio.ensure_future(joining)
                await meanwhile(site, bridge)
                bridges.append(bridge.result())
            taken = await shares(site, bridges)
            await meanwhile(site, others.aclose())
        alone = await shares(site, [first])
        rows = await first.store.outbox_after(0, 100_000)

    told: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if row.type in TYPES:
            event = msgspec.json.decode(row.body)
            told[str(row.vehicle_id)].append(int(event["sequence"]))
    sys.stdout.write(
        f"{len(rows)} events; of {CARS * PHASE} frames each of four bridges received "
        f"{[round(part) for part in taken]}\n"
    )
    assert told == {
        str(driver.car.id): list(range(1, len(driver.entries) + 1))
        for driver in site.drivers
    }
    assert all(driver.receipted == len(driver.entries) for driver in site.drivers)
    # Not four times: a car sends again only what has no receipt in time.
    assert CARS * PHASE <= sum(taken) < 2 * CARS * PHASE
    if takes_turns:
        assert min(taken) > 0
        assert max(taken) < CARS * PHASE
    assert alone[0] >= CARS * PHASE


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
        driver.answers = True
        outcomes = []
        for _ in range(4):
            async with client.post(
                f"/v1/vehicles/{driver.car.id}/commands",
                params={"wait_s": "20"},
                json={"kind": "unlock", "rental_id": RENTAL.hex()},
                headers={"X-Api-Key": key, "Idempotency-Key": os.urandom(8).hex()},
            ) as response:
                outcomes.append((await response.json())["state"])

    assert outcomes == ["succeeded"] * 4
