"""The store: durable on every connection, whole or not at all."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from sqlalchemy import Connection, text

from bridge import store_threads
from bridge.errors import SettingsError, StoreError
from bridge.ingest import Rejection
from bridge.instant import Instant
from bridge.rows import batches, letters
from bridge.sqlite_database import SqliteDatabase
from bridge.store import Store
from bridge.store_threads import StoreThreads
from protocol.codes import AccessMeans, Code, FrameClass
from protocol.event import RentalStarted
from tests.bridge.car import RENTAL
from tests.bridge.world import NOW_MS, World

if TYPE_CHECKING:
    from bridge.database import Database

STARTED = RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400)

FULL = 2

NOW = Instant.written(NOW_MS)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    made = Store(SqliteDatabase(tmp_path / "bridge.sqlite"), fleet_id=bytes(16))
    made.open()
    yield made
    await made.close()


async def test_every_connection_waits_for_the_disk(store: Store) -> None:
    # L11: the pragma belongs to the connection.
    def durability(connection: Connection) -> tuple[int, str]:
        return (
            connection.execute(text("PRAGMA synchronous")).scalar_one(),
            connection.execute(text("PRAGMA journal_mode")).scalar_one(),
        )

    work = [store._read(durability) for _ in range(8)]
    work += [store._write(durability) for _ in range(2)]

    assert set(await asyncio.gather(*work)) == {(FULL, "wal")}


async def test_a_batch_that_fails_half_way_leaves_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # FF-LED-14.
    real = batches._write_rentals

    def disk_full(connection: Connection, *_args: object) -> None:
        connection.execute(text("insert into no_such_table values (1)"))

    monkeypatch.setattr(batches, "_write_rentals", disk_full)
    world.broker.subscribed.clear()
    message = world.deliver(FrameClass.EVENT, world.car.event(STARTED))
    await world.broker.subscribed.wait()
    before = await world.events(), await world.store.vehicle(world.car.id)
    monkeypatch.setattr(batches, "_write_rentals", real)
    world.broker.cut()
    await message.is_done.wait()

    assert before == ([], None)
    assert await world.events() == ["freefloat.rental.started"]


async def test_sequences_are_given_out_once(store: Store) -> None:
    firsts = await asyncio.gather(
        *(store.reserve_sequences(bytes(8), bytes(16), 1, 10) for _ in range(20))
    )

    assert sorted(firsts) == list(range(1, 201, 10))
    assert await store.reserve_sequences(bytes(8), bytes(16), 2, 10) == 1


async def test_reservations_that_wait_together_share_a_transaction(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A thousand cars come back at once: an order does not wait for a thousand disks.
    real, transactions = store.write_soon, 0

    async def counted(work: Callable[[Connection], object]) -> object:
        nonlocal transactions
        transactions += 1
        return await real(work)

    monkeypatch.setattr(store, "write_soon", counted)

    firsts = await asyncio.gather(
        *(
            store.reserve_sequences(bytes(8), number.to_bytes(16, "big"), 0, 10)
            for number in range(1_000)
        )
    )

    assert firsts == [1] * 1_000
    assert 1 <= transactions <= 3


async def test_a_reservation_that_is_not_stored_is_nobodys(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full_disk(_work: object) -> object:
        raise StoreError("the store did not commit: disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(store, "write_soon", full_disk)
        results = await asyncio.gather(
            *(store.reserve_sequences(bytes(8), bytes(16), 1, 10) for _ in range(3)),
            return_exceptions=True,
        )
    assert [type(result) for result in results] == [StoreError] * 3

    assert await store.reserve_sequences(bytes(8), bytes(16), 1, 10) == 1


async def test_a_caller_that_goes_away_takes_nobodys_reservation_along(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun, go_on = store.write_soon, asyncio.Event(), asyncio.Event()

    async def slow(work: Callable[[Connection], object]) -> object:
        begun.set()
        await go_on.wait()
        return await real(work)

    monkeypatch.setattr(store, "write_soon", slow)
    calls = [
        asyncio.create_task(store.reserve_sequences(bytes(8), bytes(16), lane, 10))
        for lane in range(3)
    ]
    await begun.wait()

    calls[0].cancel()
    go_on.set()

    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [1, 1]


class Hanging:
    """A database that does nothing until it is let go on."""

    is_shared = True
    name = "hanging"

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.transactions = 0

    def transact(self, work: object, *, writes: bool) -> None:  # noqa: ARG002 - a database's
        self.transactions += 1
        assert self.go_on.wait(20)


async def test_what_nobody_waits_for_any_more_is_not_even_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row 26: else each would hold up the others when the database is back."""
    monkeypatch.setattr(store_threads, "CHECK_S", 0.1)
    database = Hanging()
    threads = StoreThreads(cast("Database", database))
    hangs = asyncio.create_task(threads.write(bool))
    gone = await asyncio.gather(
        *(threads.write_soon(bool) for _ in range(5)), return_exceptions=True
    )
    was_late = threads.is_late
    database.go_on.set()
    await hangs
    await threads.write(bool)
    threads.shutdown()

    assert [type(error) for error in gone] == [StoreError] * 5
    assert (database.transactions, was_late, threads.is_late) == (2, True, False)


async def test_who_comes_when_it_is_known_that_the_store_hangs_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Row 26: also while another read's patience has not ended yet."""
    monkeypatch.setattr(store_threads, "CHECK_S", 1.0)
    database = Hanging()
    threads = StoreThreads(cast("Database", database))
    calls = [asyncio.create_task(threads.write(bool))]
    calls.append(asyncio.create_task(threads.read(bool)))
    await asyncio.sleep(0.8)
    calls.append(asyncio.create_task(threads.read(bool)))
    with pytest.raises(StoreError):
        await calls[1]
    begun_s = time.monotonic()
    with pytest.raises(StoreError):
        await threads.read(bool)
    took_s = time.monotonic() - begun_s
    database.go_on.set()
    await asyncio.gather(*calls, return_exceptions=True)
    threads.shutdown()

    assert took_s < 0.4


async def test_dead_letters_are_kept_and_bounded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "LETTERS_LIMIT", 3)
    for number in range(5):
        letter = Rejection(
            Code.BAD_MAGIC, "x" * 2_000, "\ud800" * 300, bytes([number]), None
        )
        await store.commit_batch([letter], published={}, receipts=[], at=NOW)

    kept = await store.dead_letters()
    assert [letter.data for letter in kept] == [b"\4", b"\3", b"\2"]
    assert all(len(k.reason) <= 512 and len(k.topic) <= 256 for k in kept)


async def test_a_second_bridge_is_kept_off_the_store(tmp_path: Path) -> None:
    # K6: two bridges with one certificate would throw each other off the broker.
    first = Store(SqliteDatabase(tmp_path / "bridge.sqlite"), fleet_id=bytes(16))
    second = Store(SqliteDatabase(tmp_path / "bridge.sqlite"), fleet_id=bytes(16))
    first.open()

    with pytest.raises(SettingsError, match="another bridge uses the store"):
        second.open()
    await first.close()
    second.open()
    is_usable = await second.is_writable()
    await second.close()

    assert is_usable


async def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = Store(SqliteDatabase(tmp_path / "bridge.sqlite"), fleet_id=bytes(16))

    with pytest.raises(StoreError, match="not open"):
        await store.vehicles([])
    store.open()
    await store.close()

    with pytest.raises(StoreError, match="not open"):
        await store.vehicles([])
