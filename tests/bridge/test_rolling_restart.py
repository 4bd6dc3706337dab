"""Bridges as processes of their own: stopped, started anew, frozen (rows 28, 29).

Real `freefloat bridge run` on a real broker with mutual TLS and a real PostgreSQL,
while cars tell entries and telemetry and a fleet service orders.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import pytest

from protocol.codes import FrameClass
from tests.bridge.car import RENTAL, sample
from tests.bridge.site import Driver, Site, open_site
from tests.bridge.stream import TYPES
from tests.postgres import Server, running_server

pytestmark = [
    pytest.mark.broker,
    pytest.mark.mosquitto,
    pytest.mark.postgres,
    pytest.mark.timeout(240),
]

DRAIN_S: Final = 2.0
"""Long beside the moment between two looks at ``/ready``, also on a busy machine."""


def config_of(site: Site, number: int) -> Path:
    """Write the settings file of one bridge."""
    made = site.settings(number)
    path = site.folder / f"bridge-{number}.toml"
    path.write_text(
        f"""
[fleet]
directory = "{made.fleet.directory}"
command_key = "{made.fleet.command_key}"
receipt_key = "{made.fleet.receipt_key}"
[broker]
host = "{made.broker.host}"
port = {made.broker.port}
share = "{made.broker.share}"
[tls]
certificate = "{made.tls.certificate}"
key = "{made.tls.key}"
[store]
url = "{made.store.url}"
[api]
port = 0
keys_file = "{made.api.keys_file}"
drain_s = {DRAIN_S}
"""
    )
    return path


@dataclass(slots=True)
class Replica:
    """A bridge of its own process."""

    config: Path
    client: aiohttp.ClientSession
    process: asyncio.subprocess.Process
    url: str = ""

    async def ready(self) -> tuple[int, dict[str, Any]]:
        async with self.client.get(f"{self.url}/ready") as response:
            return response.status, await response.json()

    async def started(self) -> None:
        assert self.process.stdout is not None
        said = await self.process.stdout.readline()
        self.url = json.loads(said)["api"]
        await self.becomes_ready()

    async def becomes_ready(self) -> None:
        for _ in range(600):
            if (await self.ready())[0] == 200:
                return
            await asyncio.sleep(0.1)
        raise TimeoutError

    async def stopped(self) -> list[tuple[int, dict[str, Any]]]:
        """Order it to stop; return what `/ready` said until it was gone."""
        self.process.send_signal(signal.SIGTERM)
        seen = []
        with contextlib.suppress(aiohttp.ClientError):
            while True:
                seen.append(await self.ready())
                await asyncio.sleep(0.1)
        assert await self.process.wait() == 0
        return seen


@contextlib.asynccontextmanager
async def replica(site: Site, number: int) -> AsyncIterator[Replica]:
    config = config_of(site, number)
    key = (site.folder / f"state-{number}" / "api.keys").read_text().strip()
    with (site.folder / f"bridge-{number}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tools.cli", "bridge", "run", "--quiet", "--json"),
            *("--config", str(config)),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    async with aiohttp.ClientSession(headers={"X-Api-Key": key}) as client:
        made = Replica(config, client, process)
        try:
            await made.started()
            yield made
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                await process.wait()


@dataclass(slots=True)
class Service:
    """A fleet service: asks another bridge when one does not answer (api.md)."""

    bridges: dict[int, Replica]
    answers: list[int] = field(default_factory=list)
    ends: dict[str, str] = field(default_factory=dict)

    async def order(
        self, driver: Driver, first: int, *, wait_s: int = 10, is_patient: bool = False
    ) -> str:
        """Order an unlock until somebody has taken it; return its id.

        With patience, "try again" is done as it says: a bridge that froze inside a
        transaction holds its locks until the database ends it (IDLE_TIMEOUT_MS), and
        one that wakes up sees only then that its broker hung up meanwhile.
        """
        key = os.urandom(8).hex()
        while True:
            for number in (first, *(set(self.bridges) - {first})):
                bridge = self.bridges.get(number)
                if bridge is None:
                    continue
                with contextlib.suppress(aiohttp.ClientError):
                    async with bridge.client.post(
                        f"{bridge.url}/v1/vehicles/{driver.car.id}/commands",
                        params={"wait_s": str(wait_s)},
                        json={"kind": "unlock", "rental_id": RENTAL.hex()},
                        headers={"Idempotency-Key": key},
                    ) as response:
                        self.answers.append(response.status)
                        document = await response.json()
                        if is_patient and (
                            "Retry-After" in response.headers
                            or "no link to the broker" in document.get("detail", "")
                        ):
                            await asyncio.sleep(1)
                            break
                        assert response.status < 300, document
                        self.ends[document["id"]] = document["state"]
                        return str(document["id"])
            await asyncio.sleep(0.1)

    async def state(self, command_id: str, bridge: Replica) -> str:
        async with bridge.client.get(
            f"{bridge.url}/v1/commands/{command_id}", params={"wait_s": "15"}
        ) as response:
            return str((await response.json())["state"])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
async def site(tmp_path: Path, server: Server) -> AsyncIterator[Site]:
    async with open_site(tmp_path, server, cars=2, bridges=2) as made:
        yield made


def told(site: Site) -> dict[str, list[int]]:
    """Return the numbers of the ledger entries that consumers hear of, in order."""
    rows = site.server.execute(
        site.url, "SELECT vehicle_id, type, body FROM outbox ORDER BY position"
    )
    found: dict[str, list[int]] = defaultdict(list)
    for vehicle_id, kind, body in rows:
        if kind in TYPES:
            assert isinstance(body, bytes)
            found[str(vehicle_id)].append(int(msgspec.json.decode(body)["sequence"]))
    return dict(found)


async def test_bridges_are_restarted_one_after_the_other_under_load_and_nothing_is_lost(
    site: Site,
) -> None:
    """I-34 (F), I-25 (F), row 28."""
    over = asyncio.Event()

    async def drive(driver: Driver) -> None:
        while not over.is_set():
            await driver.tell(1)
            data = driver.car.telemetry(sample())
            await driver.link.publish(driver.car.topic(FrameClass.TELEM), data)
            await asyncio.sleep(0.1)

    async def order(service: Service, driver: Driver, first: int) -> None:
        while not over.is_set():
            await service.order(driver, first)
            await asyncio.sleep(0.2)

    async with asyncio.timeout(220), contextlib.AsyncExitStack() as stack:

        async def start(number: int) -> Replica:
            return await stack.enter_async_context(replica(site, number))

        one, two = await asyncio.gather(start(1), start(2))
        service = Service({1: one, 2: two})
        for driver in site.drivers:
            driver.answers = True
            await driver.greet()
        loads = [asyncio.create_task(drive(driver)) for driver in site.drivers]
        loads += [
            asyncio.create_task(order(service, driver, first))
            for driver, first in zip(site.drivers, (1, 2), strict=True)
        ]
        await asyncio.sleep(1)
        for number in (1, 2):
            leaving = service.bridges[number]
            seen = await leaving.stopped()
            del service.bridges[number]
            # Whoever distributes requests heard it before the door was shut.
            assert seen[-1][0] == 503
            assert seen[-1][1]["waiting_for"] == {"bridge": "stops: ask another one"}
            await asyncio.sleep(0.5)
            service.bridges[number] = await start(number)
        await asyncio.sleep(0.5)
        over.set()
        await asyncio.gather(*loads)
        await asyncio.gather(*(driver.finish() for driver in site.drivers))
        ends = [await service.state(one, service.bridges[1]) for one in service.ends]

    assert told(site) == {str(one.car.id): one.numbers for one in site.drivers}
    # Each order was answered with what was known, and came to its signed end.
    assert set(service.answers) <= {200, 202}
    assert len(ends) >= 4
    assert set(ends) == {"succeeded"}
    # Sent again perhaps; signed twice never.
    assert sum(len(driver.executed) for driver in site.drivers) == len(ends)


async def until(condition: Callable[[], bool], *, seconds: int) -> None:
    for _ in range(4 * seconds):
        if condition():
            return
        await asyncio.sleep(0.25)
    raise TimeoutError


async def test_a_bridge_that_froze_as_the_leader_wakes_up_and_commands_nothing_twice(
    site: Site,
) -> None:
    """Fault row 29: the lease's epoch fences it; what it signed is sent as it was."""
    driver = site.drivers[0]

    def leader() -> int:
        (row,) = site.server.execute(
            site.url,
            "SELECT holder, until_ms - extract(epoch FROM clock_timestamp()) * 1000 "
            "FROM leases WHERE name = 'commands'",
        )
        return int(str(row[0]).split("-")[-2])

    async with asyncio.timeout(220), replica(site, 1) as one, replica(site, 2) as two:
        service = Service({1: one, 2: two})
        await driver.greet()
        by_process = {one.process.pid: 1, two.process.pid: 2}
        frozen = by_process[leader()]
        other = 3 - frozen
        # The leader signs and sends; the car has it and says nothing yet.
        first = await service.order(driver, frozen, wait_s=0)
        service.bridges[frozen].process.send_signal(signal.SIGSTOP)
        await until(lambda: by_process[leader()] == other, seconds=60)
        driver.answers = True
        await driver.answer(driver.commands[0])
        second = await service.order(driver, other, wait_s=15, is_patient=True)
        await driver.finish()
        ended = await service.state(first, service.bridges[other])

        service.bridges[frozen].process.send_signal(signal.SIGCONT)
        await service.bridges[frozen].becomes_ready()
        third = await service.order(driver, frozen, wait_s=15, is_patient=True)
        await driver.finish()
        # Longer than a sweep: what it held for its own would be sent again by now.
        await asyncio.sleep(3)
        ends = [ended] + [
            await service.state(name, service.bridges[frozen])
            for name in (second, third)
        ]

    assert ends == ["succeeded"] * 3
    assert set(driver.commands) == set(driver.executed)
    assert len(driver.executed) == 3
    assert by_process[leader()] == other
