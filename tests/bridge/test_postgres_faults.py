"""A PostgreSQL that is slow, locked or read-only under a running bridge (row 26)."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, make_url, text

from bridge.intake import BATCH_LIMIT
from bridge.postgres_database import PostgresDatabase
from bridge.rows.locks import lock_outbox, lock_vehicles
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.car import receipt_of
from tests.bridge.memory_broker import Message
from tests.bridge.running import until
from tests.bridge.stream import TYPES, entries_of
from tests.bridge.world import World
from tests.depth import times
from tests.postgres import Server, running_server
from tests.proxy import running_proxy

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(120)]

SLOW_S = 2.0
"""How long a commit is kept waiting; a batch takes milliseconds otherwise."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
def url(server: Server) -> str:
    return server.make_database()


@pytest.fixture
async def world(fleet: FleetDirectory, url: str) -> AsyncIterator[World]:
    database = PostgresDatabase(url)
    async with World(fleet, Path("unused"), database=database) as made:
        await made.greet()
        yield made


def receipted(world: World) -> int:
    return max(
        (receipt_of(r).upto for r in world.broker.sent_of(FrameClass.RECEIPT)),
        default=0,
    )


def tell(world: World, entries: list[bytes]) -> list[Message]:
    return [world.deliver(FrameClass.EVENT, entry) for entry in entries]


async def test_a_locked_table_makes_the_bridge_wait_and_neither_lose_nor_acknowledge(
    world: World, url: str
) -> None:
    """Fault row 26 (slow, locked), I-23."""
    async with await psycopg.AsyncConnection.connect(url) as other:
        await other.execute("LOCK TABLE frames IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        messages = tell(world, entries_of(world.car))
        await asyncio.sleep(SLOW_S)
        early = [message.is_done.is_set() for message in messages]
        confirmed = receipted(world)
        await other.rollback()
    for message in messages:
        await message.is_done.wait()
    took_s = time.monotonic() - began

    assert not any(early)
    assert confirmed == 0
    assert took_s >= SLOW_S
    assert await world.events() == TYPES
    await until(lambda: receipted(world) == len(TYPES))


async def test_a_database_that_became_read_only_is_said_and_survived_by_itself(
    world: World, server: Server, url: str
) -> None:
    """Fault row 26 (read-only, failover), I-23, L2."""
    name = url.rsplit("/", 1)[1]
    admin = server.url("postgres")

    def everybody_out() -> None:
        server.execute(
            admin,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname LIKE 'bridge_%' AND pid <> pg_backend_pid()",
        )

    # As after a failover to a standby: connections break, new ones may only read.
    server.execute(
        admin, f"ALTER DATABASE {name} SET default_transaction_read_only = on"
    )
    everybody_out()
    was_writable, why = await world.store.is_writable(), world.store.fault
    entries = entries_of(world.car)
    first = tell(world, entries)
    await asyncio.sleep(0.5)
    acknowledged = [message.is_done.is_set() for message in first]
    confirmed = receipted(world)
    server.execute(admin, f"ALTER DATABASE {name} RESET default_transaction_read_only")
    everybody_out()
    await until_writable(world)
    # The broker sends again what was not acknowledged, and the car what has no receipt.
    await world.broker.subscribed.wait()
    for message in tell(world, entries):
        await message.is_done.wait()

    assert not was_writable
    assert "read-only" in why
    assert not any(acknowledged)
    assert confirmed == 0
    assert await world.events() == TYPES
    await until(lambda: receipted(world) == len(TYPES))


async def test_a_slow_network_to_the_database_delays_everything_and_loses_nothing(
    fleet: FleetDirectory, server: Server
) -> None:
    """Fault row 26 (slow), I-23: what waits stays with the broker, in its order."""
    with running_proxy(server.port) as proxy:
        url = make_url(server.make_database()).set(port=proxy.port)
        database = PostgresDatabase(url.render_as_string())
        async with World(fleet, Path("unused"), database=database) as world:
            await world.greet()
            proxy.delay_s = times(1, deep=10) / 20
            many = [
                world.deliver(FrameClass.TELEM, b"no frame")
                for _ in range(6 * BATCH_LIMIT)
            ]
            messages = tell(world, entries_of(world.car))
            began = time.monotonic()
            proxy.silence()
            await until(lambda: world.intake.queued <= 5 * BATCH_LIMIT)
            await asyncio.sleep(0.5)
            queued = world.intake.queued
            early = any(message.is_done.is_set() for message in [*many, *messages])
            confirmed = receipted(world)
            # A connection that broke: nothing of the batch was acknowledged.
            world.broker.subscribed.clear()
            proxy.cut()
            # Seven batches, each of some ten round trips.
            async with asyncio.timeout(times(60, deep=240)):
                for message in messages:
                    await message.is_done.wait()
            took_s = time.monotonic() - began
            told = await world.events()

        assert queued >= 2 * BATCH_LIMIT, "it takes no more than it can store"
        assert not early
        assert confirmed == 0
        assert took_s > proxy.delay_s
        assert told == TYPES


async def test_a_deadlock_that_costs_the_bridge_its_transaction_costs_nothing_else(
    world: World, url: str
) -> None:
    """Fault row 26 (deadlock), I-23: the server undoes the bridge's batch.

    It looks for a circle after a second, and the bridge waits for ten at most.
    """
    other = PostgresDatabase(url)
    await asyncio.to_thread(other.open)
    sees = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"

    def against_the_order() -> None:
        """Take the outbox and then the car, which no bridge does."""

        def work(connection: Connection) -> None:
            connection.execute(text("SET LOCAL deadlock_timeout = '60s'"))
            lock_outbox(connection)
            outbox_is_taken.set()
            while connection.execute(text(sees)).scalar_one() == 0:
                time.sleep(0.05)
            lock_vehicles(connection, [world.car.id])
            seen.append([message.is_done.is_set() for message in messages])

        other.transact(work, writes=True)

    seen: list[list[bool]] = []
    outbox_is_taken = threading.Event()
    messages: list[Message] = []
    holding = asyncio.create_task(asyncio.to_thread(against_the_order))
    await asyncio.to_thread(outbox_is_taken.wait)
    connections = world.broker.connections
    messages += tell(world, entries_of(world.car))
    async with asyncio.timeout(60):
        await holding
        for message in messages:
            await message.is_done.wait()
    await asyncio.to_thread(other.close)

    assert seen
    assert not any(seen[0])
    assert world.broker.connections > connections, "the batch was undone"
    assert await world.events() == TYPES
    await until(lambda: receipted(world) == len(TYPES))


async def until_writable(world: World) -> None:
    for _ in range(200):
        if await world.store.is_writable():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError
