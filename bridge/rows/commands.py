"""Rows of commands and of signers' sequences."""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, Select, Update, and_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from bridge import schema
from bridge.commands import OPEN, CommandRecord
from bridge.database import Topic
from bridge.rows.signals import tell_bridges
from bridge.rows.statements import chunks, insert_new
from protocol.identity import VehicleId

_TABLE = schema.commands
_OPEN: Final = select(_TABLE.c.record).where(
    _TABLE.c.state.in_([state.value for state in OPEN])
)


def load_commands(
    connection: Connection, command_ids: Iterable[bytes]
) -> dict[bytes, CommandRecord]:
    """Return these commands by id; unknown ones are missing."""
    found: dict[bytes, CommandRecord] = {}
    for chunk in chunks(command_ids):
        query = select(_TABLE.c.record).where(_TABLE.c.command_id.in_(chunk))
        found |= _records(connection, query)
    return found


def load_open_commands(
    connection: Connection, vehicle_ids: Iterable[VehicleId] | None
) -> dict[bytes, CommandRecord]:
    """Return commands that wait for a signed word, of these vehicles or of all."""
    if vehicle_ids is None:
        return _records(connection, _OPEN)
    found: dict[bytes, CommandRecord] = {}
    for chunk in chunks(vehicle_ids):
        names = [str(vehicle_id) for vehicle_id in chunk]
        found |= _records(connection, _OPEN.where(_TABLE.c.vehicle_id.in_(names)))
    return found


def find_by_key(
    connection: Connection, vehicle_id: VehicleId, idempotency_key: str
) -> CommandRecord | None:
    """Return the command that was ordered with this key."""
    query = select(_TABLE.c.record).where(
        _TABLE.c.vehicle_id == str(vehicle_id),
        _TABLE.c.idempotency_key == idempotency_key,
    )
    return next(iter(_records(connection, query).values()), None)


def find_reservation(
    connection: Connection, rental_id: bytes, opcode: int
) -> VehicleId | None:
    """Return the car that was last ordered to reserve for this rental."""
    query = (
        select(_TABLE.c.vehicle_id)
        .where(_TABLE.c.rental_id == rental_id, _TABLE.c.opcode == opcode)
        .order_by(_TABLE.c.expires_ms.desc())
        .limit(1)
    )
    text = connection.execute(query).scalar_one_or_none()
    return None if text is None else VehicleId.from_text(text)


def add_command(connection: Connection, record: CommandRecord) -> CommandRecord:
    """Store a new command; return it, or the one that has its idempotency key."""
    if record.idempotency_key is None:
        connection.execute(_TABLE.insert().values(_row(record)))
        return record
    unique = insert_new(connection, _TABLE, unique=["vehicle_id", "idempotency_key"])
    # What was inserted says so itself: a driver need not know how many rows it was.
    inserted = unique.values(_row(record)).returning(_TABLE.c.command_id)
    if connection.execute(inserted).first() is not None:
        return record
    known = find_by_key(connection, record.vehicle_id, record.idempotency_key)
    if known is None:
        raise LookupError("a command stands in the way and cannot be found")
    return known


def write_command(connection: Connection, record: CommandRecord) -> bool:
    """Write a changed command over an older version; False if a newer one is there."""
    statement = (
        update(_TABLE)
        .where(
            and_(
                _TABLE.c.command_id == record.command_id,
                _TABLE.c.version < record.version,
            )
        )
        .values(_row(record))
    )
    return _written(connection, statement, record)


def replace_command(
    connection: Connection, before: CommandRecord, after: CommandRecord
) -> bool:
    """Compare and set: write `after` only over exactly `before`'s version."""
    statement = (
        update(_TABLE)
        .where(
            and_(
                _TABLE.c.command_id == before.command_id,
                _TABLE.c.version == before.version,
            )
        )
        .values(_row(after))
    )
    return _written(connection, statement, after)


SEQUENCE_FLOOR: Final = "sequence_floor"
"""Name in the table meta of what new runs of numbers begin behind."""


def reserve_sequences(
    connection: Connection, key_id: bytes, session_id: bytes, lane: int, count: int
) -> int:
    """Reserve `count` sequences and return the first.

    They begin at 1, or behind what a restored store skips (`bridge.rows.restoration`).
    """
    meta = schema.meta.c
    query = select(meta.value).where(meta.name == SEQUENCE_FLOOR)
    floor = int(connection.execute(query).scalar_one_or_none() or 0)
    table = schema.sequences
    key = {"key_id": key_id, "session_id": session_id, "lane": lane}
    insert = (
        postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    )
    # One statement, since two bridges with one key may reserve at the same time.
    reserved = (
        insert(table)
        .values(**key, reserved=floor + count)
        .on_conflict_do_update(
            index_elements=list(key), set_={"reserved": table.c.reserved + count}
        )
        .returning(table.c.reserved)
    )
    last: int = connection.execute(reserved).scalar_one()
    return last - count + 1


def _written(connection: Connection, statement: Update, record: CommandRecord) -> bool:
    if connection.execute(statement).rowcount != 1:
        return False
    tell_bridges(connection, Topic.COMMANDS, record.command_id.hex())
    return True


def _records(connection: Connection, query: Select[Any]) -> dict[bytes, CommandRecord]:
    found = (_record(row) for row in connection.execute(query))
    return {record.command_id: record for record in found}


def _record(row: Row[Any]) -> CommandRecord:
    return msgspec.json.decode(row.record, type=CommandRecord)


def _row(record: CommandRecord) -> dict[str, object]:
    return {
        "command_id": record.command_id,
        "vehicle_id": str(record.vehicle_id),
        "idempotency_key": record.idempotency_key,
        "state": record.state.value,
        "version": record.version,
        "rental_id": record.rental_id,
        "opcode": record.opcode,
        "expires_ms": record.expires_ms,
        "record": msgspec.json.encode(record),
    }
