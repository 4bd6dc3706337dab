"""Statements that both engines have, each in its own words."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.sql.dml import Insert

CHUNK: Final = 256
"""Rows named in one statement; SQLite takes 32,766 values in all."""

STATEMENTS_KEPT: Final = 64
"""Statements that are made once: two for each table and engine would be fewer. Making
one takes longer than SQLite needs for the row."""

T = TypeVar("T")


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield the items in lists that fit one statement."""
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def storable(text: str) -> str:
    """Return text that both engines take, with what they do not take escaped.

    Some texts quote what a stranger chose, such as a topic. PostgreSQL refuses a NUL,
    neither takes half a surrogate pair, and the batch would be refused with it.
    """
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def upsert(
    connection: Connection, table: Table, *, rising: str | None = None
) -> Insert:
    """Return an insert that overwrites the row with the same primary key.

    Args:
        connection: says which engine's words to use.
        table: where to.
        rising: a column; within one ``ledger_id`` a row is not overwritten by one
            with a smaller value in it.
    """
    return _upsert(connection.dialect.name, table, rising)


@lru_cache(maxsize=STATEMENTS_KEPT)
def _upsert(dialect: str, table: Table, rising: str | None) -> Insert:
    keys = [column.name for column in table.primary_key]
    is_postgresql = dialect == "postgresql"
    statement = (postgresql_insert if is_postgresql else sqlite_insert)(table)
    replaced = {c.name: c for c in statement.excluded if c.name not in keys}
    where = None
    if rising is not None:
        old, new = table.c, statement.excluded
        where = (old.ledger_id != new.ledger_id) | (old[rising] <= new[rising])
    return statement.on_conflict_do_update(
        index_elements=keys, set_=replaced, where=where
    )


def insert_new(
    connection: Connection, table: Table, *, unique: Sequence[str]
) -> Insert:
    """Return an insert that leaves a row with the same unique columns as it is."""
    return _insert_new(connection.dialect.name, table, tuple(unique))


@lru_cache(maxsize=STATEMENTS_KEPT)
def _insert_new(dialect: str, table: Table, unique: tuple[str, ...]) -> Insert:
    is_postgresql = dialect == "postgresql"
    statement = (postgresql_insert if is_postgresql else sqlite_insert)(table)
    return statement.on_conflict_do_nothing(index_elements=list(unique))


def look_up(
    connection: Connection, text: str, values: Sequence[object]
) -> Sequence[Any]:
    """Return what a query finds, asked of the driver itself.

    For queries of every batch: SQLAlchemy takes longer to make one than SQLite to
    answer it.

    Args:
        connection: inside a transaction.
        text: both engines' words, with a ``?`` for each value and for nothing else.
        values: bound to them.
    """
    return _read_rows(connection, _marked(connection.dialect.name, text), values)


def look_up_named(
    connection: Connection, text: str, names: Sequence[tuple[object, ...]]
) -> Sequence[Any]:
    """Return the rows that have one of these names, as `look_up` does.

    SQLite is asked for one after another: for a list of names it reads the whole table
    (a second for 3,000,000 rows), whatever index there is. That is so in 3.40, and in
    every statement that names several rows by more than one column.

    Args:
        connection: inside a transaction.
        text: a query that ends with the columns of a name and IN.
        names: at most `CHUNK`, at least one.
    """
    dialect, width = connection.dialect.name, len(names[0])
    if dialect == "sqlite":
        one = _named(dialect, text, width, 1)
        found: list[Any] = []
        for name in dict.fromkeys(names):
            found += _read_rows(connection, one, name)
        return found
    # So many that few texts are made, and drivers know them again.
    count = 1 << (len(names) - 1).bit_length()
    padded = [*names, *[names[-1]] * (count - len(names))]
    values = tuple(value for name in padded for value in name)
    return _read_rows(connection, _named(dialect, text, width, count), values)


@lru_cache(maxsize=STATEMENTS_KEPT)
def _named(dialect: str, text: str, width: int, count: int) -> str:
    name = f"({', '.join('?' * width)})"
    if dialect == "sqlite":
        return f"{text.removesuffix('IN')}= {name}"
    return _marked(dialect, f"{text} ({', '.join([name] * count)})")


@lru_cache(maxsize=STATEMENTS_KEPT)
def _marked(dialect: str, text: str) -> str:
    return text.replace("?", "%s") if dialect == "postgresql" else text


def upsert_many(
    connection: Connection, table: Table, rows: Sequence[tuple[object, ...]]
) -> None:
    """Insert rows, or overwrite those with the same primary keys, by the driver itself.

    For rows by the thousand: SQLAlchemy takes longer to convert one than SQLite to
    write it.

    Args:
        connection: inside a transaction.
        table: whose columns need no conversion.
        rows: a value for each column, in the table's order.
    """
    _write_many(connection, _upsert_text(connection.dialect.name, table), rows)


def insert_many(
    connection: Connection,
    table: Table,
    rows: Sequence[tuple[object, ...]],
    *,
    unique: str | None = None,
) -> None:
    """Insert rows without their ``id``, by the driver itself, as `upsert_many` does.

    Args:
        connection: inside a transaction.
        table: whose first column gives each row its number.
        rows: a value for each column but the first, in the table's order.
        unique: a column; a row that is there with the same value in it stays.
    """
    _write_many(connection, _insert_text(connection.dialect.name, table, unique), rows)


def _write_many(
    connection: Connection, text: str, rows: Sequence[tuple[object, ...]]
) -> None:
    if connection.dialect.name == "sqlite":
        # SQLAlchemy's own part of a statement is more than SQLite's for some rows; what
        # the driver raises `bridge.sqlite_database` types as it types SQLAlchemy's.
        connection.connection.driver_connection.executemany(text, rows)  # type: ignore[union-attr] # open as long as the transaction
    else:
        connection.exec_driver_sql(text, list(rows))


def _read_rows(
    connection: Connection, text: str, values: Sequence[object]
) -> Sequence[Any]:
    if connection.dialect.name == "sqlite":
        found: list[Any] = connection.connection.driver_connection.execute(  # type: ignore[union-attr] # as above
            text, values
        ).fetchall()
        return found
    return connection.exec_driver_sql(text, tuple(values)).all()


@lru_cache(maxsize=STATEMENTS_KEPT)
def _upsert_text(dialect: str, table: Table) -> str:
    names = [column.name for column in table.columns]
    keys = {column.name for column in table.primary_key}
    replaced = ", ".join(f"{n} = excluded.{n}" for n in names if n not in keys)
    return (
        f"{_values_text(dialect, table, names)} "
        f"ON CONFLICT ({', '.join(n for n in names if n in keys)}) "
        f"DO UPDATE SET {replaced}"
    )


@lru_cache(maxsize=STATEMENTS_KEPT)
def _insert_text(dialect: str, table: Table, unique: str | None) -> str:
    text = _values_text(dialect, table, [c.name for c in table.columns][1:])
    return text if unique is None else f"{text} ON CONFLICT ({unique}) DO NOTHING"


def _values_text(dialect: str, table: Table, names: Sequence[str]) -> str:
    marks = ", ".join(["%s" if dialect == "postgresql" else "?"] * len(names))
    columns = ", ".join(names)
    return f"INSERT INTO {table.name} ({columns}) VALUES ({marks})"  # noqa: S608 - names of our own tables, values are bound
