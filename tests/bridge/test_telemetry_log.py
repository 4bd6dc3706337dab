"""Samples lie in a log of batches, and make up for what was not written (I-23, K25)."""

import shutil
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from bridge import schema
from bridge.rows import telemetry
from bridge.rows.telemetry import (
    StoredSamples,
    drop_telemetry,
    frames_in,
    samples_between,
    told_since,
    write_telemetry,
)
from bridge.sqlite_database import SqliteDatabase
from bridge.store import Store
from bridge.vehicle import VehicleState
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.telemetry import SAMPLES_LIMIT
from tests.bridge.car import sample
from tests.bridge.world import World


async def _opened(path: Path, world: World) -> VehicleState | None:
    """Return the car as a bridge finds it that starts on this file."""
    store = Store(SqliteDatabase(path), fleet_id=world.fleet.fleet.fleet_id)
    store.open()
    try:
        return await store.vehicle(world.car.id)
    finally:
        await store.close()


async def _say(world: World, count: int) -> None:
    for number in range(count):
        world.advance(3)
        measured = sample(energy_pct=number % 100, odometer_m=1_000_000 + number)
        await world.say(FrameClass.TELEM, world.car.telemetry(measured))


async def _append(world: World, frames: list[bytes], *, now: int) -> None:
    await world.store.write(lambda c: write_telemetry(c, frames, now=now))


def _rows(connection: Connection) -> int:
    return connection.execute(
        select(func.count()).select_from(schema.telemetry)
    ).scalar_one()


async def test_a_bridge_that_was_killed_finds_every_committed_sample(
    world: World, tmp_path: Path
) -> None:
    """The file as a SIGKILL leaves it, with its log."""
    await world.greet()
    await _say(world, 20)
    left = tmp_path / "left"
    left.mkdir()
    for path in world.path.parent.glob(f"{world.path.name}*"):
        shutil.copy(path, left)

    found = await _opened(left / world.path.name, world)

    known = await world.vehicle()
    assert found is not None
    assert found.twin == known.twin
    assert found.presence == known.presence
    assert known.twin["energy_pct"].value == 19


async def test_a_bridge_that_stops_writes_what_it_kept(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    path = tmp_path / "bridge.sqlite"
    async with World(fleet, path) as world:
        await world.greet()
        await _say(world, 20)
        known = await world.vehicle()
        await world.store.write(
            # Nothing is left by which it could be made up for.
            lambda connection: connection.execute(schema.telemetry.delete())
        )

    assert await _opened(path, world) == known


async def test_a_batch_is_one_row_however_many_samples_it_has(world: World) -> None:
    await world.greet()
    frames = [
        world.car.telemetry(*[sample(speed_dkmh=n) for n in range(size)])
        for size in (0, 1, 7, SAMPLES_LIMIT)
    ]

    await _append(world, frames, now=5)
    await _append(world, [], now=6)

    def found(connection: Connection) -> tuple[int, list[StoredSamples]]:
        return _rows(connection), list(told_since(connection, 5))

    count, told = await world.store.read(found)
    assert count == 1
    assert [one.data for one in told] == frames
    assert {one.vehicle_id for one in told} == {world.car.id}
    assert list(frames_in(b"".join(frames))) == frames


async def test_a_city_reads_a_span_page_by_page_and_misses_nothing(
    world: World,
) -> None:
    frames = [world.car.telemetry(sample(speed_dkmh=n)) for n in range(30)]
    for first, now in ((0, 10), (10, 20), (20, 30)):
        await _append(world, frames[first : first + 10], now=now)

    def pages(connection: Connection, limit: int) -> list[bytes]:
        found: list[bytes] = []
        after = (0, -1)
        while page := samples_between(connection, 10, 30, after=after, limit=limit):
            assert len(page) <= limit
            found += [one.data for one in page]
            after = (page[-1].row, page[-1].place)
        return found

    for limit in (1, 7, 10, 11, 100):
        assert await world.store.read(partial(pages, limit=limit)) == frames[:20]


async def test_the_log_does_not_grow_beyond_its_bound(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "KEPT_FRAMES", 100)
    frames = [world.car.telemetry(sample(speed_dkmh=n)) for n in range(10)]
    most = 0
    for now in range(100):
        await _append(world, frames, now=now)
        most = max(most, await world.store.read(_rows))

    left = await world.store.read(lambda c: list(told_since(c, 0)))
    assert most <= 10 + telemetry.TRIM_EACH
    assert len(left) >= 100
    assert left[-1].received_ms == 99


async def test_old_samples_go_by_age(world: World) -> None:
    """K25."""
    frame = world.car.telemetry(sample())
    for now in (1, 2, 3):
        await _append(world, [frame], now=now)

    assert await world.store.write(lambda c: drop_telemetry(c, 3)) == 2
    assert await world.store.write(lambda c: drop_telemetry(c, 3)) == 0

    left = await world.store.read(lambda c: list(told_since(c, 0)))
    assert [one.received_ms for one in left] == [3]
