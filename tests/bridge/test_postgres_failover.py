"""A PostgreSQL that dies without a word, and its replica that takes over (row 26)."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from bridge import answering_connection, store_threads
from bridge.postgres_database import PostgresDatabase
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.stream import TYPES, entries_of
from tests.bridge.world import World
from tests.postgres import Server, running_server
from tests.proxy import Proxy, running_proxy

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(180)]

PATIENCE_S = 60.0


@pytest.fixture
def primary() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
def replica(primary: Server) -> Iterator[Server]:
    made = primary.make_replica()
    yield made
    made.remove()


@pytest.fixture
def proxy(primary: Server) -> Iterator[Proxy]:
    with running_proxy(primary.port) as running:
        yield running


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering_connection, "SILENCE_S", store_threads.CHECK_S + 1)


async def test_a_replica_takes_over_from_a_server_that_fell_silent_and_nothing_is_lost(
    fleet: FleetDirectory, primary: Server, replica: Server, proxy: Proxy
) -> None:
    """Fault row 26 (fail-over), I-23: the old server is gone and nobody says so.

    What was acknowledged is on the replica; while it is a standby nothing is
    acknowledged; once it is promoted the bridge goes on by itself.
    """
    url = make_url(primary.make_database()).set(port=proxy.port)
    database = PostgresDatabase(url.render_as_string())
    async with World(fleet, Path("unused"), database=database) as world:
        entries = entries_of(world.car)
        await world.greet()
        await world.say(FrameClass.EVENT, *entries[:2])

        proxy.silence()
        await asyncio.to_thread(primary.kill)
        proxy.port_behind = replica.port
        taken = proxy.connections
        world.broker.subscribed.clear()
        unheard = world.deliver(FrameClass.EVENT, entries[2])
        was_ready, why = await world.store.is_writable(), world.store.fault
        # The transaction that the bridge gives up, and its next connection: to a
        # server that only reads.
        async with asyncio.timeout(PATIENCE_S):
            while proxy.connections == taken:  # noqa: ASYNC110 - it has its own threads
                await asyncio.sleep(0.05)
        as_standby = await world.store.is_writable(within_s=None)
        was_acknowledged = unheard.is_done.is_set()

        await asyncio.to_thread(replica.promote)
        async with asyncio.timeout(PATIENCE_S):
            await world.broker.subscribed.wait()
            await unheard.is_done.wait()
            # The car sends what has no receipt again.
            await world.say(FrameClass.EVENT, *entries)
            await world.broker.until_receipted(world.car.head)
        told = await world.events()

    assert not was_ready, "nobody knows whether it commits, and that in seconds"
    assert why == "the store does not answer in time"
    assert not as_standby
    assert not was_acknowledged
    assert told == TYPES
