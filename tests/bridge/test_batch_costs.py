"""A batch costs what comes in it, however much the store keeps for ever."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from bridge import schema
from bridge.places import PlaceState
from bridge.sqlite_database import SqliteDatabase
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.query_plans import effort_of
from tests.bridge.test_places import PARKED, STARTED, _entry, _frame, _told
from tests.bridge.world import World

T = TypeVar("T")


class CountedDatabase(SqliteDatabase):
    """Counts the steps of what is written to it."""

    effort = 0

    def transact(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        def counted(connection: Connection) -> T:
            done: list[T] = []
            self.effort += effort_of(connection, lambda: done.append(work(connection)))
            return done[0]

        return super().transact(counted if writes else work, writes=writes)


def put_old_rows(connection: Connection, count: int) -> None:
    """Add entries, places and ledgers of other cars, as years of work leave them."""
    numbers = range(count)
    common: list[dict[str, object]] = [
        {"vehicle_id": f"{number % 100:026}", "ledger_id": bytes(8), "seq": number}
        for number in numbers
    ]
    rentals = [{"rental_id": number.to_bytes(16, "big")} for number in numbers]
    hashes = {"entry_hash": bytes(32), "prev_hash": bytes(32)}
    frame = hashes | {"data": b"frame", "received_ms": 0, "is_held": False}
    place = {
        "state": int(PlaceState.HELD),
        "commitment": bytes(32),
        "prev_hash": bytes(32),
        "arrivals": 1,
        "sealed": b"sealed",
        "came_ms": 0,
    }
    connection.execute(schema.frames.insert(), [one | frame for one in common])
    connection.execute(
        schema.places.insert(),
        [one | place | rental for one, rental in zip(common, rentals, strict=True)],
    )
    connection.execute(
        schema.place_keys.insert(), [one | {"key": bytes(32)} for one in common]
    )
    connection.execute(
        schema.ledgers.insert(),
        [
            {
                "vehicle_id": f"{number:026}",
                "ledger_id": bytes(8),
                "upto": 1,
                "head_hash": bytes(32),
                "is_gap_told": False,
            }
            for number in numbers
        ],
    )


async def say_of_all(world: World, frame_class: FrameClass, *frames: bytes) -> None:
    """Publish frames of several cars at one moment, each in its order."""
    messages = [
        world.deliver(frame_class, data, car)
        for car, data in zip(world.cars, frames, strict=True)
    ]
    await asyncio.gather(*(message.is_done.wait() for message in messages))


async def work_of_all(world: World) -> None:
    """Let every car tell of a rental behind a gap, fill it, and tell all again."""
    started, parked, places = [], [], []
    for car in world.cars:
        world.car = car
        places.append([_frame(world, _told(world, seq)) for seq in (1, 2)])
        started.append(_entry(world, STARTED))
        parked.append(_entry(world, PARKED))
    for one in zip(*places, strict=True):
        await say_of_all(world, FrameClass.TELEM, *one)
    for entries in (parked, started, parked):
        await say_of_all(world, FrameClass.EVENT, *entries)
    await say_of_all(world, FrameClass.HELLO, *(car.hello() for car in world.cars))


async def effort(fleet: FleetDirectory, path: Path, kept: int) -> int:
    database = CountedDatabase(path)
    async with World(fleet, path, database=database) as world:
        await world.store.write(lambda c: put_old_rows(c, kept))
        await say_of_all(world, FrameClass.HELLO, *(c.hello() for c in world.cars))
        database.effort = 0
        await work_of_all(world)
        assert len(await world.store.places(STARTED.rental_id)) > 0
        return database.effort


async def test_a_batch_costs_the_same_however_much_is_stored(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """I-31: with 300,000 entries two HELLOs in one batch took 0.1 s.

    SQLite read the whole table for every list of entries, and more for more.
    """
    few = await effort(fleet, tmp_path / "few", 1_000)
    many = await effort(fleet, tmp_path / "many", 20_000)

    assert many < 1.5 * few
    assert few > 0
