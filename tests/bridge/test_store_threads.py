"""Who waits for a database that hangs, and what is known of it (row 26)."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.errors import StoreError
from bridge.sqlite_database import SqliteDatabase
from bridge.store_threads import StoreThreads
from tests.bridge.running import until


class Hanging:
    """Work that hangs until it is let go."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.let_go = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        self.let_go.wait(60)


@pytest.fixture
def threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreThreads]:
    monkeypatch.setattr("bridge.store_threads.CHECK_S", 0.1)
    database = SqliteDatabase(tmp_path / "bridge.sqlite")
    database.open()
    made = StoreThreads(database)
    yield made
    made.shutdown()
    database.close()


async def leave(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_write_that_hangs_makes_the_store_late_also_when_its_caller_has_left(
    threads: StoreThreads,
) -> None:
    """Row 26: it still holds the one thread that writes, so every other one waits."""
    hanging = Hanging()
    first = asyncio.create_task(threads.alone(hanging))
    await asyncio.to_thread(hanging.begun.wait, 60)
    await leave(first)
    await asyncio.sleep(0.2)
    was_late = threads.is_late
    hanging.let_go.set()
    await threads.alone(lambda: None)

    assert was_late
    assert not threads.is_late


async def test_a_write_that_its_caller_left_before_it_began_makes_nobody_late(
    threads: StoreThreads,
) -> None:
    hanging, behind = Hanging(), Hanging()
    first = asyncio.create_task(threads.alone(hanging))
    second = asyncio.create_task(threads.alone(behind))
    await asyncio.to_thread(hanging.begun.wait, 60)
    await leave(second)
    hanging.let_go.set()
    await first
    await asyncio.sleep(0.2)

    assert not threads.is_late
    assert not behind.begun.is_set()


async def test_a_write_that_fails_makes_nobody_late(threads: StoreThreads) -> None:
    def fail() -> None:
        raise StoreError("the disk is gone")

    with pytest.raises(StoreError):
        await threads.alone(fail)
    await asyncio.sleep(0.2)

    assert not threads.is_late


async def test_the_store_is_late_as_long_as_its_write_hangs_and_no_longer(
    threads: StoreThreads,
) -> None:
    hanging = Hanging()
    writing = asyncio.create_task(threads.alone(hanging))
    await until(lambda: threads.is_late)
    hanging.let_go.set()
    await writing

    assert not threads.is_late
