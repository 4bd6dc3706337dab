"""What need not be kept for ever is let go in time, and evidence stays (K25, K26)."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, func, select

from bridge import schema, sqlite_database
from bridge.places import PlaceState
from bridge.retention import Retention, ages_of
from bridge.rows.retention import Kind, let_go
from bridge.settings import RetentionSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.event import RentalStarted
from tests.bridge.car import RENTAL, REPORT
from tests.bridge.test_places import (
    PARKED,
    STARTED,
    _bytes_of,
    _entry,
    _frame,
    _keys,
    _told,
)
from tests.bridge.world import World

DAY_S = 86_400
POLICY = RetentionSettings(
    places_days=30, telemetry_hours=24, events_days=40, letters_days=90
)


def retention(world: World, sinks: tuple[str, ...] = ()) -> Retention:
    return Retention(POLICY, world.store, sinks=sinks, now=world.now, holder="test")


async def rent_and_end(world: World) -> None:
    assert isinstance(STARTED, RentalStarted)
    await world.greet()
    await world.say(FrameClass.TELEM, _frame(world, _told(world, 1)))
    await world.say(FrameClass.EVENT, _entry(world, STARTED))
    await world.say(FrameClass.EVENT, world.car.event(REPORT))


def counts(connection: Connection) -> dict[str, int]:
    tables = (schema.frames, schema.outbox, schema.dead_letters, schema.rentals)
    return {
        table.name: connection.execute(
            select(func.count()).select_from(table)
        ).scalar_one()
        for table in tables
    }


async def test_places_of_a_rental_that_is_over_are_erased_in_time(
    world: World,
) -> None:
    # K25, K26
    await rent_and_end(world)

    world.advance(29 * DAY_S)
    await retention(world).let_go()
    kept = await world.store.places(RENTAL)
    [key] = await world.store.read(_keys)
    world.advance(2 * DAY_S)
    await retention(world).let_go()

    assert len(kept) == 1
    assert await world.store.places(RENTAL) == {}
    assert key not in _bytes_of(world.path)


async def test_a_place_that_comes_after_its_rental_was_let_go_goes_too(
    world: World,
) -> None:
    # K25: an entry that waits behind a gap is kept and changes no rental.
    await rent_and_end(world)
    world.advance(31 * DAY_S)
    await retention(world).let_go()
    world.car.event(STARTED)  # is lost on its way
    entry = _entry(world, PARKED)
    await world.say(FrameClass.TELEM, _frame(world, _told(world, world.car.seq)))
    await world.say(FrameClass.EVENT, entry)
    kept = await world.store.places(RENTAL)

    await retention(world).let_go()

    assert list(kept) == [world.car.seq]
    assert await world.store.places(RENTAL) == {}
    assert await world.store.read(_keys) == []


async def test_what_could_not_be_made_unreadable_is_so_an_hour_later(
    fleet: FleetDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # K26: also if nothing else is due then.
    monkeypatch.setattr(sqlite_database, "BUSY_TIMEOUT_S", 0.1)
    async with World(fleet, tmp_path / "bridge.sqlite") as world:
        await rent_and_end(world)
        [key] = await world.store.read(_keys)
        world.advance(31 * DAY_S)
        keeper = retention(world)
        with contextlib.closing(sqlite3.connect(world.path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM meta").fetchall()
            await keeper.let_go()
        kept = await world.store.places(RENTAL)
        before = key in _bytes_of(world.path)

        assert not await keeper.let_go()

        assert kept == {}
        assert before
        assert "what was let go may still be readable" in caplog.text
        assert key not in _bytes_of(world.path)


@pytest.mark.parametrize("rentals", [1, 20])
def test_dead_letters_are_looked_through_once_however_many_rentals_are_over(
    rentals: int,
) -> None:
    """K25: once for each, a piece took 30 s with 10,000 letters, and no batch went."""
    ids = [number.to_bytes(16, "big") for number in range(1, rentals + 1)]
    common = {"vehicle_id": "A" * 26, "ledger_id": bytes(8), "seq": 1}
    place = {
        "state": int(PlaceState.HELD),
        "commitment": bytes(32),
        "prev_hash": bytes(32),
        "arrivals": 1,
        "sealed": b"sealed",
        "came_ms": 0,
    }
    rental = {"state": "ended", "needs_close": False, "updated_ms": 0}
    looked: list[str] = []
    engine = create_engine("sqlite://")

    @event.listens_for(engine, "before_cursor_execute")
    def note(_c: Any, _cursor: Any, text: str, *_: Any) -> None:
        if "dead_letters.data" in text:
            looked.append(text)

    schema.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(
            schema.places.insert(),
            [
                common | place | {"seq": seq, "rental_id": rental_id}
                for seq, rental_id in enumerate(ids)
            ],
        )
        connection.execute(
            schema.rentals.insert(),
            [common | rental | {"rental_id": rental_id} for rental_id in ids],
        )
        ages = ages_of(POLICY, now=400 * DAY_S * 1_000)
        gone = let_go(connection, Kind.PLACES, ages, ())
    engine.dispose()

    assert gone == rentals
    assert len(looked) == 1


async def test_where_a_rental_is_that_is_not_over_is_kept(world: World) -> None:
    await world.greet()
    await world.say(FrameClass.TELEM, _frame(world, _told(world, 1)))
    await world.say(FrameClass.EVENT, _entry(world, STARTED))

    world.advance(400 * DAY_S)
    await retention(world).let_go()

    assert len(await world.store.places(RENTAL)) == 1


async def test_evidence_outlives_what_is_let_go(world: World) -> None:
    # FF-RCP-15, K13: entries, receipts and rentals stay.
    await rent_and_end(world)
    before = await world.store._read(counts)

    world.advance(4_000 * DAY_S)
    await retention(world).let_go()
    after = await world.store._read(counts)

    assert after == {**before, "outbox": 1}
    assert await world.store.rental(RENTAL) is not None


async def test_an_event_waits_for_every_sink_however_old_it_is(world: World) -> None:
    # I-31: age alone never loses what somebody has not taken.
    await rent_and_end(world)
    world.advance(400 * DAY_S)
    rows = await world.store.outbox_after(0, 100)
    lease = await world.store.take_lease("sink quick", "test", ttl_ms=10_000)
    assert lease is not None
    await world.store.set_cursor(
        "quick", rows[-1].position, {}, tenure=("sink quick", lease), now=0
    )

    await retention(world, ("quick", "slow")).let_go()
    assert await world.store.outbox_after(0, 100) == rows
    await retention(world, ("quick",)).let_go()

    assert await world.store.outbox_after(0, 100) == rows[-1:]


async def test_positions_go_on_rising_after_everything_was_let_go(
    world: World,
) -> None:
    # A cursor that stands behind all events must not stand before the next one.
    await rent_and_end(world)
    last = (await world.store.outbox_after(0, 100))[-1].position
    world.advance(400 * DAY_S)
    await retention(world).let_go()

    await world.say(FrameClass.EVENT, world.car.event(STARTED))

    assert (await world.store.outbox_after(last, 10))[0].position > last


async def test_what_was_not_believed_is_let_go_too(world: World) -> None:
    world.broker.deliver(world.car.topic(FrameClass.EVENT), b"no frame")
    await world.say(FrameClass.EVENT, world.car.event(STARTED))
    assert len(await world.store.dead_letters()) == 1

    world.advance(91 * DAY_S)
    await retention(world).let_go()

    assert await world.store.dead_letters() == []


@pytest.mark.parametrize("days", [1, 30, 3_650])
def test_ages_are_counted_from_now(days: int) -> None:
    ages = ages_of(RetentionSettings(places_days=days), now=10**13)

    assert 10**13 - ages.places_ms == days * DAY_S * 1_000
