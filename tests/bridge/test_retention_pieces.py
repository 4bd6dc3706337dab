"""A piece of what is let go costs what it lets go, and fails by itself (K25).

On both engines as the bridge opens them, with the indexes that its steps made.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Final

import psycopg
import pytest
from sqlalchemy import Connection, create_engine, func, select, text

from bridge import postgres_database, schema
from bridge.database import Database
from bridge.places import PlaceState
from bridge.postgres_database import PostgresDatabase
from bridge.retention import Retention, ages_of
from bridge.rows.locks import lock_vehicles
from bridge.rows.retention import PIECE, Kind, let_go
from bridge.settings import RetentionSettings
from bridge.sqlite_database import SqliteDatabase
from bridge.store import Store
from protocol.identity import VehicleId
from tests.bridge.query_plans import effort_of
from tests.bridge.running import until
from tests.postgres import Server, running_server

NOW: Final = 1_800_000_000_000
AGES: Final = ages_of(RetentionSettings(), now=NOW)
OLD: Final = 1_000
"""When what is due came: long ago, UTC ms."""
YOUNG: Final = NOW - 1_000
AHEAD: Final = AGES.ahead_ms + 1_000

DUE: Final = 20
"""Rows of each kind that are due."""
SINK: Final = "billing"

VEHICLE: Final = "A" * 26
_ENTRY: Final = {"vehicle_id": VEHICLE, "ledger_id": bytes(8)}
_LOST: Final = {"vehicle_id": VEHICLE, "ledger_id": b"the lost"}

Open = Callable[[], Database]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Return what makes another empty database, to be opened."""
    if request.param == "postgres":
        running: Server = request.getfixturevalue("server")
        return lambda: PostgresDatabase(running.make_database())
    names = iter(range(100))
    return lambda: SqliteDatabase(tmp_path / f"{next(names)}.sqlite")


@contextlib.contextmanager
def opened(fresh: Open) -> Iterator[Database]:
    database = fresh()
    database.open()
    try:
        yield database
    finally:
        database.close()


def put_rentals(
    connection: Connection, count: int, *, over_ms: int, state: int
) -> None:
    """Add rentals that are over, each with a place in this state."""
    if not count:
        return
    rentals, places = schema.rentals, schema.places
    last = connection.execute(select(func.max(rentals.c.seq))).scalar_one() or 0
    numbers = range(last + 1, last + 1 + count)
    is_erased = state == PlaceState.ERASED
    common = [
        _ENTRY | {"seq": n, "rental_id": n.to_bytes(16, "little")} for n in numbers
    ]
    rental = {"state": "ended", "needs_close": False, "updated_ms": over_ms}
    rental["has_places"] = not is_erased
    place = {
        "state": state,
        "commitment": bytes(32),
        "prev_hash": bytes(32),
        "arrivals": 1,
        "sealed": None if is_erased else b"sealed",
        "came_ms": OLD,
    }
    connection.execute(rentals.insert(), [one | rental for one in common])
    connection.execute(places.insert(), [one | place for one in common])
    if not is_erased:
        keys = [_ENTRY | {"seq": n, "key": bytes(32)} for n in numbers]
        connection.execute(schema.place_keys.insert(), keys)


def put_places(connection: Connection, due: int, kept: int) -> None:
    held, erased = int(PlaceState.HELD), int(PlaceState.ERASED)
    put_rentals(connection, kept, over_ms=OLD, state=erased)
    put_rentals(connection, due, over_ms=OLD, state=held)
    put_rentals(connection, kept, over_ms=YOUNG, state=held)


def put_early(connection: Connection, due: int, kept: int) -> None:
    early, lapsed = int(PlaceState.EARLY), int(PlaceState.LAPSED)
    place = {
        "commitment": b"",
        "prev_hash": b"",
        "rental_id": b"",
        "arrivals": 0,
        "sealed": b"sealed",
    }
    was = chain(
        repeat((lapsed, OLD), kept),
        repeat((early, OLD), due),
        repeat((early, YOUNG), kept),
    )
    rows = [
        _LOST | place | {"seq": seq, "state": state, "came_ms": at_ms}
        for seq, (state, at_ms) in enumerate(was, 1)
    ]
    keys = [_LOST | {"seq": row["seq"], "key": bytes(32)} for row in rows]
    connection.execute(schema.places.insert(), rows)
    connection.execute(schema.place_keys.insert(), keys[kept:])


def put_telemetry(connection: Connection, due: int, kept: int) -> None:
    row = {"upto": 1, "data": b"frame"}
    stamps = chain(repeat(OLD, due), repeat(YOUNG, kept))
    rows = [row | {"received_ms": at_ms} for at_ms in stamps]
    connection.execute(schema.telemetry.insert(), rows)


def put_letters(connection: Connection, due: int, kept: int) -> None:
    row = {"kind": "x", "topic": "x", "data": b"frame", "reason": "x"}
    stamps = chain(repeat(OLD, due), repeat(YOUNG, kept))
    rows = [row | {"received_ms": at_ms} for at_ms in stamps]
    connection.execute(schema.dead_letters.insert(), rows)


def put_steps(connection: Connection, due: int, kept: int) -> None:
    row = _ENTRY | {
        "event_id": bytes(16),
        "state": "available",
        "type": "trip_end",
        "stored_ms": 0,
        "rental_id": bytes(16),
        "seq": 0,
        "is_inferred": False,
        "is_electric": False,
    }
    stamps = chain(repeat(OLD, due), repeat(YOUNG, kept))
    rows = [row | {"at_ms": at_ms} for at_ms in stamps]
    connection.execute(schema.mds_steps.insert(), rows)


def put_stamped(connection: Connection, *stamps: int) -> None:
    """Add events that were stored in this order, when a clock said so."""
    row = {"vehicle_id": VEHICLE, "type": "x", "body": b"{}"}
    rows = [
        row | {"position": n, "event_id": str(n), "created_ms": at_ms}
        for n, at_ms in enumerate(stamps, 1)
    ]
    connection.execute(schema.outbox.insert(), rows)


def put_events(connection: Connection, due: int, kept: int) -> None:
    put_stamped(connection, *repeat(OLD, due), *repeat(YOUNG, kept))
    lost = {"sink": SINK, "reason": "x", "given_up_ms": 0}
    every = range(1, due + kept + 1)
    connection.execute(
        schema.undelivered.insert(), [lost | {"position": n} for n in every]
    )
    connection.execute(schema.cursors.insert(), {"sink": SINK, "position": due + kept})


PUT: Final[dict[Kind, Callable[[Connection, int, int], None]]] = {
    Kind.PLACES: put_places,
    Kind.EARLY_PLACES: put_early,
    Kind.TELEMETRY: put_telemetry,
    Kind.LETTERS: put_letters,
    Kind.STEPS: put_steps,
    Kind.EVENTS: put_events,
}


def effort(database: Database, kind: Kind, kept: int) -> int:
    """Return what it costs to let go of what is due, and to find that nothing is."""

    def all_of_it(connection: Connection) -> None:
        assert let_go(connection, kind, AGES, (SINK,)) == DUE
        assert let_go(connection, kind, AGES, (SINK,)) == 0

    def work(connection: Connection) -> int:
        PUT[kind](connection, DUE, kept)
        if connection.dialect.name == "postgresql":
            # It does so by itself; SQLite never does, and finds other ways if it does.
            connection.execute(text("ANALYZE"))
        return effort_of(connection, lambda: all_of_it(connection))

    return database.transact(work, writes=True)


@pytest.mark.parametrize("kind", Kind, ids=str)
def test_what_is_kept_and_what_was_let_go_long_ago_costs_nothing(
    fresh: Open, kind: Kind
) -> None:
    """K25: with 290,000 places that were erased it took 0.4 s to find that none is due,
    and with 1,000,000 events 1.2 s, in transactions that keep batches waiting.
    """
    found = []
    for kept in (2 * PIECE, 20 * PIECE):
        with opened(fresh) as database:
            found.append(effort(database, kind, kept))
    few, many = found

    assert many < 1.5 * few
    assert few >= DUE


def still_there(connection: Connection) -> Counter[Kind]:
    """Return how many rows of each kind are there that are due."""
    places, steps = schema.places, schema.mds_steps
    due = {
        Kind.PLACES: places.c.state == int(PlaceState.HELD),
        Kind.EARLY_PLACES: (places.c.state == int(PlaceState.EARLY))
        & (places.c.came_ms == OLD),
        Kind.TELEMETRY: schema.telemetry.c.received_ms == OLD,
        Kind.LETTERS: schema.dead_letters.c.received_ms == OLD,
        Kind.STEPS: steps.c.at_ms == OLD,
        Kind.EVENTS: schema.outbox.c.created_ms == OLD,
    }
    return Counter(
        {
            kind: connection.execute(select(func.count()).where(condition)).scalar_one()
            for kind, condition in due.items()
        }
    )


def put_all(connection: Connection) -> None:
    for kind, put in PUT.items():
        put(connection, DUE, 0 if kind is Kind.PLACES else 1)


REFUSES: Final = {
    "sqlite": """
        CREATE TRIGGER no_change BEFORE {} ON {} WHEN {}
        BEGIN SELECT RAISE(ABORT, 'it is refused'); END
    """,
    "postgresql": """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'it is refused'; END $$;
        CREATE TRIGGER no_change BEFORE {} ON {} FOR EACH ROW WHEN ({})
        EXECUTE FUNCTION refuse()
    """,
}
"""Words by which a database refuses to let go of one kind."""

CHANGED: Final = {
    Kind.PLACES: ("UPDATE", "places", "OLD.state = 2"),
    Kind.EARLY_PLACES: ("UPDATE", "places", "OLD.state = 0"),
    Kind.TELEMETRY: ("DELETE", "telemetry", "true"),
    Kind.LETTERS: ("DELETE", "dead_letters", "true"),
    Kind.STEPS: ("DELETE", "mds_steps", "true"),
    Kind.EVENTS: ("DELETE", "outbox", "true"),
}


def refuse(connection: Connection, kind: Kind) -> None:
    statements = REFUSES[connection.dialect.name]
    connection.execute(text(statements.format(*CHANGED[kind])))


def allow(connection: Connection, kind: Kind) -> None:
    where = f" ON {CHANGED[kind][1]}"
    is_sqlite = connection.dialect.name == "sqlite"
    connection.execute(text(f"DROP TRIGGER no_change{'' if is_sqlite else where}"))


@contextlib.asynccontextmanager
async def keeping(database: Database) -> AsyncIterator[tuple[Store, Retention]]:
    store = Store(database, fleet_id=bytes(16))
    store.open()
    try:
        await store.write(put_all)
        yield (
            store,
            Retention(
                RetentionSettings(),
                store,
                sinks=(SINK,),
                now=lambda: NOW,
                holder="test",
            ),
        )
    finally:
        await store.close()


@pytest.mark.parametrize("kind", Kind, ids=str)
async def test_a_kind_that_fails_holds_up_no_other(
    fresh: Open, kind: Kind, caplog: pytest.LogCaptureFixture
) -> None:
    """K25: positions are erased in time whatever the outbox does."""
    async with keeping(fresh()) as (store, retention):
        await store.write(lambda c: refuse(c, kind))
        gone = await retention.let_go()
        left = await store.read(still_there)
        await store.write(lambda c: allow(c, kind))
        later = await retention.let_go()
        in_the_end = await store.read(still_there)

    assert gone == {one: DUE for one in Kind if one is not kind}
    assert +left == {kind: DUE}
    assert later == {kind: DUE}
    assert +in_the_end == {}
    [said] = [one for one in caplog.messages if "= retention: " in one]
    assert f"old {kind} are kept too long: the store did not commit: " in said
    assert "it is refused" in said


@pytest.mark.postgres
async def test_events_that_somebody_locks_hold_up_nothing_else(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """K25: the transaction times out, and was that of everything before."""
    monkeypatch.setattr(postgres_database, "LOCK_TIMEOUT_MS", 300)
    url = server.make_database()
    async with keeping(PostgresDatabase(url)) as (store, retention):
        with psycopg.connect(url) as other:
            other.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
            gone = await retention.let_go()
        left = await store.read(still_there)

    assert gone == {kind: DUE for kind in Kind if kind is not Kind.EVENTS}
    assert +left == {Kind.EVENTS: DUE}
    assert "old events are kept too long" in caplog.text


@pytest.mark.postgres
async def test_a_rental_that_another_bridge_hears_of_meanwhile_keeps_its_places(
    server: Server,
) -> None:
    # Its car tells late that it still runs, while we wait for the car's lock.
    url = server.make_database()
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    async with keeping(PostgresDatabase(url)) as (store, retention):
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        with contextlib.closing(engine.connect()) as other:
            lock_vehicles(other, [VehicleId.from_text(VEHICLE)])
            other.execute(schema.rentals.update().values(state="running"))
            letting_go = asyncio.create_task(retention.let_go())
            await until(lambda: bool(server.execute(url, waiting)))
            other.commit()
        engine.dispose()
        gone = await letting_go
        left = await store.read(still_there)

    assert gone[Kind.PLACES] == DUE
    assert +left == {Kind.PLACES: DUE}


@pytest.mark.postgres
async def test_a_place_whose_entry_another_bridge_takes_meanwhile_is_kept(
    server: Server,
) -> None:
    # K25: the entry comes while we wait for the car's lock.
    url = server.make_database()
    places, keys = schema.places, schema.place_keys
    is_due = (places.c.state == int(PlaceState.EARLY)) & (places.c.came_ms == OLD)
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    unread = select(func.count()).where(
        places.c.state == int(PlaceState.EARLY), places.c.sealed.is_(None)
    )
    async with keeping(PostgresDatabase(url)) as (store, _):
        before = await store.read(lambda c: c.execute(select(keys.c.key)).all())
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        with contextlib.closing(engine.connect()) as other:
            lock_vehicles(other, [VehicleId.from_text(VEHICLE)])
            held = {"state": int(PlaceState.HELD)}
            other.execute(places.update().where(is_due).values(held))
            letting_go = asyncio.create_task(
                store.write(lambda c: let_go(c, Kind.EARLY_PLACES, AGES, ()))
            )
            await until(lambda: bool(server.execute(url, waiting)))
            other.commit()
        engine.dispose()
        found = await letting_go
        left = await store.read(still_there)
        after = await store.read(lambda c: c.execute(select(keys.c.key)).all())
        emptied = await store.read(lambda c: c.execute(unread).scalar_one())

    assert found == DUE
    assert left[Kind.PLACES] == 2 * DUE
    assert after == before
    assert emptied == 0


def positions_after(fresh: Open, *stamps: int) -> list[int]:
    """Return positions of the events that are there after all that is due has gone."""

    def work(connection: Connection) -> list[int]:
        put_stamped(connection, *stamps)
        while let_go(connection, Kind.EVENTS, AGES, ()):
            pass
        query = select(schema.outbox.c.position).order_by(schema.outbox.c.position)
        return list(connection.execute(query).scalars())

    with opened(fresh) as database:
        return database.transact(work, writes=True)


def test_an_event_of_a_clock_that_stepped_back_waits_for_its_turn(fresh: Open) -> None:
    # A replay that begins at the oldest event must not pass over a hole.
    assert positions_after(fresh, OLD, YOUNG, OLD, OLD, YOUNG) == [2, 3, 4, 5]


def test_events_of_a_clock_that_ran_ahead_are_as_old_as_those_behind_them(
    fresh: Open,
) -> None:
    """Else a clock that was wrong for an hour keeps everything for years."""
    ahead = [AHEAD] * (PIECE + 10)
    last = 2 * len(ahead) + 2

    left = positions_after(fresh, *ahead, OLD, *ahead, OLD, AHEAD, YOUNG, YOUNG)

    assert left == [last + 1, last + 2, last + 3]


def test_events_of_a_clock_that_ran_ahead_stay_with_young_ones_behind_them(
    fresh: Open,
) -> None:
    ahead = [AHEAD] * (PIECE + 10)

    left = positions_after(fresh, OLD, *ahead, YOUNG, YOUNG)

    assert left == list(range(2, len(ahead) + 4))


def test_a_clock_that_is_behind_lets_go_of_nothing(fresh: Open) -> None:
    # Every event seems to come from the future, and some from a past before that.
    stamps = [AHEAD] * (PIECE + 10) + [OLD] + [AHEAD] * 10

    assert len(positions_after(fresh, *stamps)) == len(stamps)
