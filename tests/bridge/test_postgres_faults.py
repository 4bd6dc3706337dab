"""A PostgreSQL that is slow, locked or read-only under a running bridge (row 26)."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from bridge.postgres_database import PostgresDatabase
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.car import receipt_of
from tests.bridge.memory_broker import Message
from tests.bridge.running import until
from tests.bridge.stream import TYPES, entries_of
from tests.bridge.world import World
from tests.postgres import Server, running_server

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
    was_writable = await world.store.is_writable()
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
    assert not any(acknowledged)
    assert confirmed == 0
    assert await world.events() == TYPES
    await until(lambda: receipted(world) == len(TYPES))


async def until_writable(world: World) -> None:
    for _ in range(200):
        if await world.store.is_writable():
            return
        await asyncio.sleep(0.1)
    raise TimeoutError
