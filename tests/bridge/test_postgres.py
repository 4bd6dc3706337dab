"""The store on PostgreSQL: several bridges on it lose, double and reorder nothing.

The rules of a batch are the same on both engines; `FREEFLOAT_STORE=postgres pytest
tests/bridge` runs every test of the bridge's world on PostgreSQL.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import Connection, text

from bridge import lease
from bridge.database import Topic
from bridge.errors import LeaseLostError, SettingsError, StoreError
from bridge.instant import Instant
from bridge.lease import Lease
from bridge.postgres_database import PostgresDatabase
from bridge.rows.locks import lock_outbox
from bridge.rows.receipts import SignedReceipt
from bridge.store import Store
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.identity import KEY_ID_SIZE
from tests.bridge.stream import TYPES, entries_of
from tests.bridge.world import NOW_MS, World
from tests.postgres import Server, running_server
from tests.proxy import running_proxy

pytestmark = pytest.mark.postgres

FLEET: Final = bytes(16)

NOW = Instant.written(NOW_MS)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    store = Store(PostgresDatabase(url), fleet_id=FLEET)
    await asyncio.to_thread(store.open)
    try:
        yield store
    finally:
        await store.close()


async def test_a_rental_is_stored_told_and_receipted(
    fleet: FleetDirectory, tmp_path: Path, server: Server
) -> None:
    # I-21
    database = PostgresDatabase(server.make_database())
    async with World(fleet, tmp_path / "unused", database=database) as world:
        await world.greet()
        await world.say(FrameClass.EVENT, *entries_of(world.car))

        assert await world.events() == TYPES
        await world.broker.until_receipted(world.car.head)


async def test_a_topic_that_postgres_cannot_store_stops_nobody_s_frames(
    fleet: FleetDirectory, tmp_path: Path, server: Server
) -> None:
    # I-31: PostgreSQL refuses a NUL in a text, and a batch with it.
    database = PostgresDatabase(server.make_database())
    async with World(fleet, tmp_path / "unused", database=database) as world:
        odd = world.broker.deliver("ff/v1/\0\ud800/up/event", b"no frame")
        await world.say(FrameClass.EVENT, *entries_of(world.car))
        await odd.is_done.wait()

        assert await world.events() == TYPES
        [letter] = await world.store.dead_letters()
        assert letter.topic == "ff/v1/\\x00\\ud800/up/event"


async def test_a_commit_waits_for_the_disk_even_on_a_server_that_is_set_not_to(
    server: Server,
) -> None:
    # I-23, L11
    url = server.make_database()
    name = url.rpartition("/")[2]
    server.execute(url, f"ALTER DATABASE {name} SET synchronous_commit = off")

    def durability(connection: Connection) -> str:
        found: str = connection.execute(text("SHOW synchronous_commit")).scalar_one()
        return found

    async with opened(url) as store:
        found = await asyncio.gather(
            store._write(durability), *(store._read(durability) for _ in range(8))
        )

    assert set(found) == {"on"}


async def test_two_bridges_that_hold_parts_of_one_ledger_tell_it_once_and_in_order(
    fleet: FleetDirectory, tmp_path: Path, server: Server
) -> None:
    # I-25: a shared subscription hands a car's frames to whoever is free.
    url = server.make_database()
    async with (
        World(
            fleet, tmp_path / "a", database=PostgresDatabase(url), holder="one"
        ) as one,
        World(
            fleet, tmp_path / "b", database=PostgresDatabase(url), holder="two"
        ) as two,
    ):
        entries = entries_of(one.car)
        messages = [
            (one, two)[place % 2].deliver(FrameClass.EVENT, entry, one.car)
            for place, entry in enumerate(reversed(entries))
        ]
        for message in messages:
            await message.is_done.wait()

        assert await one.events() == TYPES
        assert await two.events() == TYPES
        # By whichever bridge closed the ledger's last gap.
        waits = [
            asyncio.create_task(world.broker.until_receipted(one.car.head))
            for world in (one, two)
        ]
        done, late = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        done.pop().result()


async def test_two_bridges_that_keep_receipts_of_one_another_s_cars_wait_in_no_circle(
    fleet: FleetDirectory, server: Server
) -> None:
    """Fault row 26 (deadlock): found by real bridges; each one cost a reconnect."""
    receipts = [
        SignedReceipt(vehicle_id, bytes(8), upto, b"receipt", NOW_MS)
        for upto in range(1, 200)
        for vehicle_id in fleet.vehicle_ids()
    ]
    url = server.make_database()
    async with opened(url) as one, opened(url) as two:
        await asyncio.gather(
            *(
                store.commit_batch([], published={}, receipts=kept, at=NOW)
                for _ in range(10)
                for store, kept in ((one, receipts), (two, receipts[::-1]))
            )
        )


async def test_no_number_is_given_to_two_bridges(server: Server) -> None:
    # FF-CMD: two replicas of one key would otherwise sign two commands with one number.
    url = server.make_database()
    place = (bytes(KEY_ID_SIZE), bytes(16), 1)
    async with opened(url) as one, opened(url) as two:
        firsts = await asyncio.gather(
            *(
                store.reserve_sequences(*place, 3)
                for _ in range(20)
                for store in (one, two)
            )
        )

    assert sorted(firsts) == list(range(1, 1 + 3 * 40, 3))


async def test_a_position_is_seen_only_when_every_smaller_one_is(
    server: Server,
) -> None:
    """A sink that set its cursor past an uncommitted event would lose it (I-26)."""
    url = server.make_database()
    insert = (
        "INSERT INTO outbox (event_id, vehicle_id, type, body, created_ms) "
        "VALUES ('{}', 'A', 't', '', 0)"
    )
    held = asyncio.Event()
    let_go = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(connection: Connection) -> None:
        lock_outbox(connection)
        connection.execute(text(insert.format("slow")))
        loop.call_soon_threadsafe(held.set)
        asyncio.run_coroutine_threadsafe(let_go.wait(), loop).result(10)

    def quick(connection: Connection) -> None:
        lock_outbox(connection)
        connection.execute(text(insert.format("quick")))

    async with opened(url) as one, opened(url) as two:
        first = asyncio.create_task(one._write(slow))
        await held.wait()
        second = asyncio.create_task(two._write(quick))
        await asyncio.sleep(0.3)

        assert not second.done()
        let_go.set()
        await asyncio.gather(first, second)
        positions = server.execute(url, "SELECT event_id FROM outbox ORDER BY position")

    assert positions == [("slow",), ("quick",)]


async def test_a_bridge_that_froze_and_wakes_writes_no_cursor(server: Server) -> None:
    # Row 29: split brain.
    async with opened(server.make_database()) as one:
        epoch = await one.take_lease("sink a", "frozen", ttl_ms=-1)
        later = await one.take_lease("sink a", "awake", ttl_ms=10_000)
        assert (epoch, later) == (1, 2)

        with pytest.raises(LeaseLostError):
            await one.set_cursor("a", 7, {}, tenure=("sink a", 1), now=0)
        await one.set_cursor("a", 5, {}, tenure=("sink a", 2), now=0)

        assert await one.cursor("a") == 5
        assert not await one.renew_lease("sink a", 1, ttl_ms=10_000)


async def test_work_passes_to_the_next_bridge_when_one_stops(server: Server) -> None:
    # I-34
    url = server.make_database()
    doing: list[str] = []
    changed = asyncio.Event()

    def worker(name: str) -> "asyncio.Task[None]":
        async def work(_epoch: int) -> None:
            doing.append(name)
            changed.set()
            await asyncio.Event().wait()

        return asyncio.create_task(Lease(stores[name], "work", holder=name).hold(work))

    async with opened(url) as one, opened(url) as two:
        stores = {"one": one, "two": two}
        first = worker("one")
        await changed.wait()
        changed.clear()
        second = worker("two")
        await asyncio.sleep(0.3)
        assert doing == ["one"]

        first.cancel()
        async with asyncio.timeout(20):
            await changed.wait()
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)

    assert doing == ["one", "two"]


async def test_work_passes_on_although_the_servers_clock_was_set_back(
    server: Server,
) -> None:
    """Rows 29, 36: after a failover the next server's clock may be an hour behind."""
    url = server.make_database()
    doing = asyncio.Event()

    async def work(_epoch: int) -> None:
        doing.set()
        await asyncio.Event().wait()

    async with opened(url) as gone, opened(url) as other:
        assert await gone.take_lease("work", "gone", ttl_ms=lease.TTL_MS) == 1
        assert await other.take_lease("work", "other", ttl_ms=lease.TTL_MS) is None
        # As the clock that counts from now on sees what was written by the one before.
        server.execute(
            url, "UPDATE leases SET until_ms = until_ms + 3600000 RETURNING name"
        )
        taking = asyncio.create_task(Lease(other, "work", holder="other").hold(work))
        async with asyncio.timeout(lease.TTL_MS / 1000):
            await doing.wait()
        # Who held it, and perhaps still does its work, is told so by the epoch.
        assert not await gone.renew_lease("work", 1, ttl_ms=lease.TTL_MS)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)


@pytest.mark.parametrize("delay_s", [0.0, 0.3], ids=["at once", "a slow beginning"])
async def test_who_cannot_renew_its_lease_stops_before_another_bridge_begins(
    server: Server, monkeypatch: pytest.MonkeyPatch, delay_s: float
) -> None:
    """I-34, row 29: a database that says nothing makes no tenure longer."""
    monkeypatch.setattr(lease, "TTL_MS", 3_000)
    monkeypatch.setattr(lease, "RENEW_S", 0.75)
    monkeypatch.setattr(lease, "RETRY_S", 0.2)
    clock = asyncio.get_running_loop().time
    said: list[tuple[str, float]] = []
    has_begun = {name: asyncio.Event() for name in ("first", "second")}

    def worker(store: Store, name: str) -> "asyncio.Task[None]":
        async def work(_epoch: int) -> None:
            said.append((f"{name} begins", clock()))
            has_begun[name].set()
            try:
                await asyncio.Event().wait()
            finally:
                said.append((f"{name} ends", clock()))

        return asyncio.create_task(Lease(store, "work", holder=name).hold(work))

    url = server.make_database()
    with running_proxy(server.port) as proxy:
        through = url.replace(f":{server.port}", f":{proxy.port}")
        async with opened(url) as near, opened(through) as far:
            proxy.delay_s = delay_s
            first = worker(far, "first")
            await has_begun["first"].wait()
            proxy.delay_s = 0.0
            proxy.silence()
            second = worker(near, "second")
            async with asyncio.timeout(30):
                await has_begun["second"].wait()
                told = list(said)
            first.cancel()
            second.cancel()
            proxy.cut()
            await asyncio.gather(first, second, return_exceptions=True)

    assert [what for what, _ in told] == ["first begins", "first ends", "second begins"]


async def test_a_bridge_hears_what_another_one_stored(
    fleet: FleetDirectory, tmp_path: Path, server: Server
) -> None:
    url = server.make_database()
    listening = PostgresDatabase(url)
    async with World(fleet, tmp_path / "a", database=PostgresDatabase(url)) as world:
        signals = listening.signals()
        heard = {(await anext(signals)).topic, (await anext(signals)).topic}
        assert heard == {Topic.OUTBOX, Topic.KEYS}

        await world.say(FrameClass.EVENT, *entries_of(world.car)[:1])
        async with asyncio.timeout(10):
            signal = await anext(signals)
        await signals.aclose()  # type: ignore[attr-defined]  # it is a generator

    assert signal.topic is Topic.OUTBOX


async def test_a_server_that_crashes_costs_nothing_that_was_acknowledged(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # Row 26, I-23: the bridge acknowledges nothing meanwhile and goes on by itself.
    # I-23 (F), row 26.
    with running_server() as own:
        database = PostgresDatabase(own.make_database())
        async with World(fleet, tmp_path / "a", database=database) as world:
            entries = entries_of(world.car)
            await world.say(FrameClass.EVENT, *entries[:2])
            await asyncio.to_thread(own.kill)
            world.broker.subscribed.clear()
            lost = world.deliver(FrameClass.EVENT, entries[2])
            await asyncio.sleep(0.5)
            assert not lost.is_done.is_set()
            with pytest.raises(StoreError):
                await world.store.cursor("any")

            await asyncio.to_thread(own.start)
            async with asyncio.timeout(30):
                await world.broker.subscribed.wait()
            await world.say(FrameClass.EVENT, *entries[2:])

            assert await world.events() == TYPES


@pytest.mark.parametrize(
    ("url", "about"),
    [
        ("postgresql://u:secret@127.0.0.1/x", "holds a password"),
        ("mysql://u@127.0.0.1/x", "names a mysql database"),
        ("nonsense", "no database's address"),
    ],
)
def test_an_address_that_cannot_be_right_is_refused(url: str, about: str) -> None:
    with pytest.raises(SettingsError, match=about) as refused:
        PostgresDatabase(url)

    assert "secret" not in str(refused.value)


def test_a_server_that_is_not_there_is_named_without_a_password(
    server: Server,
) -> None:
    database = PostgresDatabase(server.url("nowhere"), "hush")

    with pytest.raises(SettingsError, match="nowhere") as refused:
        database.open()

    assert "hush" not in f"{refused.value}{refused.value.advice}"
