"""What callers, balancers and PostgreSQL see of a bridge whose database fails (row 26).

A whole bridge with its API on a real server, which is killed, frozen, slowed and made
read-only. `test_postgres_faults` looks closer at what is stored and acknowledged.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import pytest
from sqlalchemy import make_url

from bridge import lease
from bridge.settings import StoreSettings
from bridge.store_threads import CHECK_S
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.car import RENTAL, receipt_of
from tests.bridge.memory_broker import Message
from tests.bridge.running import Json, Running, running_bridge
from tests.bridge.stream import entries_of
from tests.postgres import Server, running_server
from tests.proxy import Proxy, running_proxy
from tools.bridge_settings import local_settings

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

UNLOCK: Final = {"kind": "unlock", "rental_id": RENTAL.hex()}

IN_TIME_S: Final = CHECK_S + 4.0
"""The store's patience, and what a busy machine adds; without it, it was 20 to 35 s."""

AT_ONCE_S: Final = CHECK_S - 1.0
"""Well before anybody's patience has ended."""

SLOW_S: Final = 5.0
"""How long each commit of a batch takes at the slow server."""

ATTEMPTS_PER_S: Final = 10
"""Connections that a bridge without callers asks a dead server for, at most."""

UNAVAILABLE: Final = (503, "urn:freefloat:problem:store-unavailable")

Answered = tuple[int, str]
T = TypeVar("T")


@dataclass(slots=True)
class Place:
    """A running bridge, and its server behind a proxy."""

    running: Running
    server: Server
    proxy: Proxy
    url: str
    entries: list[bytes]

    def tell(self, number: int) -> Message:
        running = self.running
        topic = running.car.topic(FrameClass.EVENT)
        return running.broker.deliver(topic, self.entries[number])

    async def ready(self) -> tuple[int, str]:
        status, answer = await self.running.get("/ready")
        return status, answer["waiting_for"].get("store", "")

    async def order(self) -> Answered:
        return _answered(await self.running.order(UNLOCK))

    async def look(self) -> Answered:
        path = f"/v1/vehicles/{self.running.car.id}"
        return _answered(await self.running.get(path))

    async def becomes(self, *, ready: bool) -> None:
        async with asyncio.timeout(60):
            while ((await self.ready())[0] == 200) != ready:  # noqa: ASYNC110 - over HTTP
                await asyncio.sleep(0.2)

    async def recovered(self) -> None:
        """Wait until it is ready by itself; then nothing must be missing."""
        await self.becomes(ready=True)
        self.running.broker.sent.clear()
        # The broker sends again what was not acknowledged, the car what has no receipt.
        for number in range(len(self.entries)):
            await self.tell(number).is_done.wait()
        async with asyncio.timeout(20):
            while self.receipted < len(self.entries):  # noqa: ASYNC110 - no event tells
                await asyncio.sleep(0.05)
        assert (await self.order())[0] == 202
        assert (await self.look())[0] == 200

    @property
    def receipted(self) -> int:
        sent = self.running.broker.sent_of(FrameClass.RECEIPT)
        return max((receipt_of(data).upto for data in sent), default=0)

    def execute(self, statement: str) -> None:
        self.server.execute(self.server.url(self.url.rsplit("/", 1)[1]), statement)


def _answered(answer: tuple[int, Json]) -> Answered:
    status, body = answer
    return status, str(body.get("type", ""))


async def timed(asking: Awaitable[T]) -> tuple[float, T]:
    begun_s = time.monotonic()
    answered = await asking
    return time.monotonic() - begun_s, answered


@pytest.fixture
def server() -> Iterator[Server]:
    with running_server() as made:
        yield made


@pytest.fixture
async def place(
    fleet: FleetDirectory, tmp_path: Path, server: Server
) -> AsyncIterator[Place]:
    with running_proxy(server.port) as proxy:
        url = make_url(server.make_database()).set(port=proxy.port).render_as_string()
        local = local_settings(
            fleet.path, state=tmp_path, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
        )
        settings = msgspec.structs.replace(local, store=StoreSettings(url=url))
        async with running_bridge(fleet, tmp_path, settings=settings) as running:
            await running.say(FrameClass.HELLO, running.car.hello())
            made = Place(running, server, proxy, url, entries_of(running.car))
            await made.tell(0).is_done.wait()
            assert (await made.ready())[0] == 200
            yield made


async def test_a_database_that_is_down_is_asked_seldom_and_everybody_told_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 26 (down), I-23: no loop of the bridge hurries a server that is gone."""
    # What it led has passed on by then, as in an outage that lasts.
    monkeypatch.setattr(lease, "TTL_MS", 2_000)
    monkeypatch.setattr(lease, "RENEW_S", 0.5)
    await asyncio.to_thread(place.server.kill)
    unheard = place.tell(1)
    await place.becomes(ready=False)
    asked = [await timed(place.look()), await timed(place.order())]
    before, begun_s = place.proxy.connections, time.monotonic()
    await asyncio.sleep(5)
    rate = (place.proxy.connections - before) / (time.monotonic() - begun_s)
    _, why = await place.ready()
    was_acknowledged = unheard.is_done.is_set()
    await asyncio.to_thread(place.server.start)
    await place.recovered()

    assert [answered for _, answered in asked] == [UNAVAILABLE] * 2
    assert max(took_s for took_s, _ in asked) < AT_ONCE_S
    assert "did not commit" in why
    assert 0 < rate < ATTEMPTS_PER_S, "it finds the server again, and is no burden"
    assert not was_acknowledged


async def test_a_database_that_is_frozen_keeps_nobody_waiting(place: Place) -> None:
    """Row 26 (no answer), I-23: its machine takes connections and says nothing.

    Who came when nobody knew yet is told in time, who comes later at once: nothing
    queues up behind what hangs.
    """
    place.server.freeze()
    try:
        unheard = place.tell(1)
        first = await asyncio.gather(
            *(timed(place.look()) for _ in range(6)),
            *(timed(place.order()) for _ in range(3)),
        )
        status, why = await place.ready()
        second = await asyncio.gather(
            *(timed(place.look()) for _ in range(6)),
            *(timed(place.order()) for _ in range(3)),
        )
        was_acknowledged = unheard.is_done.is_set()
    finally:
        place.server.thaw()
    await place.recovered()

    assert {answered for _, answered in (*first, *second)} == {UNAVAILABLE}
    assert max(took_s for took_s, _ in first) < IN_TIME_S
    assert max(took_s for took_s, _ in second) < AT_ONCE_S
    assert (status, why) == (503, "the store does not answer in time")
    assert not was_acknowledged


async def test_a_database_that_takes_five_seconds_is_waited_for_and_said(
    place: Place,
) -> None:
    """Row 26 (slow 5 s), I-23: acknowledged when it has committed and not before."""
    place.execute(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN PERFORM pg_sleep({SLOW_S}); RETURN NULL; END $$"
    )
    place.execute(
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON frames "
        "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slowly()"
    )
    begun_s = time.monotonic()
    slow = place.tell(1)
    await asyncio.sleep(0.2)
    # A commit that is slow is no reason to read nothing.
    looked, ordered, ready = await asyncio.gather(
        timed(place.look()), timed(place.order()), place.ready()
    )
    was_acknowledged = slow.is_done.is_set()
    await slow.is_done.wait()
    took_s = time.monotonic() - begun_s
    place.execute("DROP TRIGGER slow ON frames")
    await place.recovered()

    assert ready == (503, "the store does not answer in time")
    assert not was_acknowledged
    assert took_s >= SLOW_S
    assert looked[1][0] == 200
    assert looked[0] < AT_ONCE_S
    assert ordered[1] == UNAVAILABLE
    assert ordered[0] < IN_TIME_S


async def test_a_database_that_only_reads_is_read_and_nothing_is_ordered(
    place: Place,
) -> None:
    """Row 26 (read-only), I-23."""
    name = place.url.rsplit("/", 1)[1]
    admin = place.server.url("postgres")
    only_reads = f"ALTER DATABASE {name} SET default_transaction_read_only = on"
    place.server.execute(admin, only_reads)
    place.proxy.cut()
    unheard = place.tell(1)
    await place.becomes(ready=False)
    _, why = await place.ready()
    looked, ordered = await timed(place.look()), await timed(place.order())
    was_acknowledged = unheard.is_done.is_set()
    place.server.execute(
        admin, f"ALTER DATABASE {name} RESET default_transaction_read_only"
    )
    place.proxy.cut()
    await place.recovered()

    assert "read-only" in why
    assert looked[1][0] == 200
    assert ordered[1] == UNAVAILABLE
    assert max(looked[0], ordered[0]) < AT_ONCE_S
    assert not was_acknowledged
