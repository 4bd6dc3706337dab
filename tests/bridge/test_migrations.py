"""A store of an older release becomes today's, on both engines, and none is guessed."""

import contextlib
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from bridge.errors import SettingsError
from bridge.machine_clock import wall_ms
from bridge.migrations import migration, versions
from bridge.migrations.migration import FIRST_RELEASE, migrate, newest, revision_of
from bridge.retention import ages_of
from bridge.rows.places import WITH_KEYS, find_places
from bridge.rows.retention import Kind, let_go
from bridge.schema import metadata
from bridge.settings import RetentionSettings
from protocol.packed.place import PLACE
from protocol.place import EventPlace, Place
from tests.postgres import running_server

DAY_MS = 86_400_000
LONG_AFTER = ages_of(RetentionSettings(), now=1_800_000_000_000)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    with contextlib.ExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'store'}"
        if request.param == "postgres":
            server = stack.enter_context(running_server())
            url = server.make_database().replace("postgresql:", "postgresql+psycopg:")
        made = create_engine(url)
        stack.callback(made.dispose)
        yield made


def test_a_new_store_has_the_tables_that_the_program_declares(engine: Engine) -> None:
    with engine.begin() as connection:
        migrate(connection, name="x")

    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert revision_of(connection) == newest()


def test_a_store_of_the_first_release_keeps_what_is_in_it(engine: Engine) -> None:
    with engine.begin() as connection:
        command.upgrade(migration._config(connection), FIRST_RELEASE)
        connection.execute(text("DROP TABLE alembic_version"))
        connection.execute(text("INSERT INTO meta VALUES ('schema', '3')"))
        connection.execute(text("INSERT INTO cursors VALUES ('billing', 41)"))

    with engine.begin() as connection:
        migrate(connection, name="x")

    with engine.begin() as connection:
        assert revision_of(connection) == newest()
        kept = connection.execute(text("SELECT sink, position FROM cursors"))
        assert list(kept) == [("billing", 41)]
        names = connection.execute(text("SELECT name FROM meta"))
        assert list(names) == []


def test_places_that_an_older_store_kept_readable_are_sealed(engine: Engine) -> None:
    # K26: whatever was told before is erased as well as what comes now.
    vehicle, place = "A" * 26, Place(481_371_540, 115_761_240, 35, 2)
    columns = {
        "v": vehicle,
        "id": bytes(8),
        "hash": bytes(32),
        "rental": bytes(16),
        "salt": b"\x5a" * 16,
        "place": PLACE.build(place),
    }
    with engine.begin() as connection:
        command.upgrade(migration._config(connection), "0006")
        for seq, state, salt in ((1, 2, ":salt, :place"), (2, 1, "NULL, NULL")):
            values = f":v, :id, {seq}, {state}, :hash, :hash, :rental, 1, {salt}"
            connection.execute(text(f"INSERT INTO places VALUES ({values})"), columns)  # noqa: S608 - our own words

    with engine.begin() as connection:
        migrate(connection, name="x")

    with engine.begin() as connection:
        rows = {row.seq: row for row in connection.execute(WITH_KEYS)}
        found = find_places(connection, bytes(16))
    assert found == {1: EventPlace(bytes(8), 1, b"\x5a" * 16, place)}
    assert (rows[2].sealed, rows[2].key) == (None, None)
    assert PLACE.build(place) not in rows[1].sealed


def test_places_of_rentals_of_an_older_store_are_erased_in_time(engine: Engine) -> None:
    # K25: no rental of before says whether it has places.
    columns = {"v": "A" * 26, "id": bytes(8), "rental": bytes(16), "hash": bytes(32)}
    rental = text(
        "INSERT INTO rentals (vehicle_id, ledger_id, seq, rental_id, state, "
        "needs_close, updated_ms) VALUES (:v, :id, 1, :rental, 'ended', false, 5)"
    )
    place = text(
        "INSERT INTO places (vehicle_id, ledger_id, seq, rental_id, state, commitment, "
        "prev_hash, arrivals, sealed) VALUES (:v, :id, 1, :rental, 2, :hash, :hash, 1, "
        ":hash)"
    )
    with engine.begin() as connection:
        command.upgrade(migration._config(connection), "0007")
        connection.execute(rental, columns)
        connection.execute(place, columns)
        migrate(connection, name="x")

    with engine.begin() as connection:
        erased = let_go(connection, Kind.PLACES, LONG_AFTER, ())
        left = connection.execute(text("SELECT sealed FROM places"))
        assert list(left) == [(None,)]
        assert erased == 1
        assert let_go(connection, Kind.PLACES, LONG_AFTER, ()) == 0


def test_a_place_that_waits_for_its_entry_in_an_older_store_waits_from_now_on(
    engine: Engine,
) -> None:
    # K25: nobody knows when it came.
    columns = {"v": "A" * 26, "id": bytes(8), "empty": b"", "sealed": bytes(72)}
    place = text(
        "INSERT INTO places (vehicle_id, ledger_id, seq, rental_id, state, commitment, "
        "prev_hash, arrivals, sealed) VALUES (:v, :id, :seq, :empty, 0, :empty, "
        ":empty, 0, :sealed)"
    )
    policy = RetentionSettings(places_days=30)
    with engine.begin() as connection:
        command.upgrade(migration._config(connection), "0009")
        connection.execute(place, columns | {"seq": 1})
        migrate(connection, name="x")
        # A bridge of the release before may still be at work.
        connection.execute(place, columns | {"seq": 2})

    with engine.begin() as connection:
        erased = [
            let_go(
                connection,
                Kind.EARLY_PLACES,
                ages_of(policy, now=wall_ms() + days * DAY_MS),
                (),
            )
            for days in (29, 31)
        ]
        left = connection.execute(text("SELECT sealed FROM places"))
        assert list(left) == [(None,), (None,)]
    assert erased == [0, 2]


def test_bringing_up_to_date_what_is_up_to_date_changes_nothing(
    engine: Engine,
) -> None:
    for _ in range(2):
        with engine.begin() as connection:
            migrate(connection, name="x")


def newer(connection: Connection) -> None:
    migrate(connection, name="x")
    connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))


def older(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE meta (name TEXT, value TEXT)"))
    connection.execute(text("INSERT INTO meta VALUES ('schema', '2')"))


def somebody_elses(connection: Connection) -> None:
    connection.execute(text("CREATE TABLE meta (name TEXT, value TEXT)"))


@pytest.mark.parametrize(
    ("make", "about"),
    [
        (newer, "revision 9999, which this freefloat does not know"),
        (older, "schema 2, from before the first release"),
        (somebody_elses, "schema of something else"),
    ],
)
def test_what_this_release_does_not_know_is_left_alone(
    tmp_path: Path, make: Callable[[Connection], None], about: str
) -> None:
    # Fault row 37: a half-made or newer database is refused with the reason.
    made = create_engine(f"sqlite:///{tmp_path / 'store'}")
    with made.begin() as connection:
        make(connection)
        before = sorted(inspect(connection).get_table_names())

    with (
        pytest.raises(SettingsError, match=about) as refused,
        made.begin() as connection,
    ):
        migrate(connection, name="x")

    assert refused.value.advice
    with made.begin() as connection:
        assert sorted(inspect(connection).get_table_names()) == before
    made.dispose()


def test_every_step_has_a_number_of_its_own_and_follows_the_one_before() -> None:
    # Two that are made beside one another may take the same: no store would open.
    steps = sorted(Path(versions.__file__).parent.glob("r*.py"))
    numbers = [int(step.name[1:5]) for step in steps]
    declared = [
        importlib.import_module(f"bridge.migrations.versions.{step.stem}")
        for step in steps
    ]

    assert numbers == list(range(1, len(steps) + 1))
    assert [int(step.revision) for step in declared] == numbers
    assert [int(step.down_revision or 0) for step in declared] == [
        number - 1 for number in numbers
    ]
