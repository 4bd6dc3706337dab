"""Rows of leases: who does now what only one bridge at a time may do.

A lease is measured by the database's own clock, so bridges whose clocks differ agree.
That clock may be set, or be another server's after a failover: a lease that ends
further ahead than any holder asks for is nobody's.

Its epoch rises with each new holder. Whoever froze and wakes finds another epoch, and
what it writes then is refused (`require_epoch`).
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    bindparam,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from bridge import schema
from bridge.errors import LeaseLostError

_TABLE: Final = schema.leases

_HELD: Final = (
    select(_TABLE.c.epoch).where(_TABLE.c.name == bindparam("named")).with_for_update()
)

_CLOCKS: Final[dict[str, ColumnElement[int]]] = {
    # Read when a row is looked at: a bridge may have waited for it, or been frozen.
    "postgresql": literal_column(
        "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)", BigInteger
    ),
    # Days since noon of 4714-11-24 BC (SQLite, date and time functions).
    "sqlite": literal_column(
        "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)", BigInteger
    ),
}

FARTHEST: Final = 2
"""How many times its length a lease may end ahead: a clock may go back a little."""


def take_lease(
    connection: Connection, name: str, holder: str, *, ttl_ms: int
) -> int | None:
    """Take a lease that nobody holds; return its epoch, or None if somebody does."""
    now_ms = _now_ms(connection)
    until_ms = _TABLE.c.until_ms
    insert = (
        postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    )
    statement = insert(_TABLE).values(
        name=name, holder=holder, epoch=1, until_ms=now_ms + ttl_ms
    )
    taken = statement.on_conflict_do_update(
        index_elements=["name"],
        set_={
            "holder": holder,
            "epoch": _TABLE.c.epoch + 1,
            "until_ms": statement.excluded.until_ms,
        },
        where=or_(until_ms < now_ms, until_ms > now_ms + FARTHEST * ttl_ms),
    ).returning(_TABLE.c.epoch)
    return connection.execute(taken).scalar_one_or_none()


def renew_lease(connection: Connection, name: str, epoch: int, *, ttl_ms: int) -> bool:
    """Hold a lease longer; False if it passed to somebody else meanwhile."""
    renewed = connection.execute(
        update(_TABLE)
        .where(_TABLE.c.name == name, _TABLE.c.epoch == epoch)
        .values(until_ms=_now_ms(connection) + ttl_ms)
    )
    return renewed.rowcount == 1


def drop_lease(connection: Connection, name: str, epoch: int) -> None:
    """Let somebody else have it at once; nothing if it has passed on already."""
    connection.execute(
        update(_TABLE)
        .where(_TABLE.c.name == name, _TABLE.c.epoch == epoch)
        .values(until_ms=0)
    )


def pass_lease(connection: Connection, name: str) -> None:
    """Take a lease from whoever holds it, and leave it to the next who asks."""
    connection.execute(
        update(_TABLE)
        .where(_TABLE.c.name == name)
        .values(epoch=_TABLE.c.epoch + 1, until_ms=0)
    )


def drop_all_leases(connection: Connection) -> None:
    """Let go of what a bridge that is certainly gone held."""
    connection.execute(update(_TABLE).values(until_ms=0))


def require_epoch(connection: Connection, name: str, epoch: int) -> None:
    """Refuse the transaction of a bridge whose lease has passed on.

    Raises:
        LeaseLostError: another bridge took it; nothing of this may be written.
    """
    found = connection.execute(_HELD, {"named": name}).scalar_one_or_none()
    if found != epoch:
        raise LeaseLostError(f"another bridge does {name} now")


def _now_ms(connection: Connection) -> ColumnElement[int]:
    return _CLOCKS[connection.dialect.name]
