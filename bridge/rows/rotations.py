"""Rows of vehicles' changes of their keys."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from bridge import schema
from bridge.database import Topic
from bridge.key_book import KeyBook, Rotation
from bridge.rows.signals import tell_bridges
from bridge.rows.statements import insert_new
from protocol.identity import VehicleId
from protocol.keys import VerifyKey

_TABLE = schema.rotations


def write_rotations(connection: Connection, rotations: Sequence[Rotation]) -> None:
    """Keep changes of keys; one that is known stays as it is."""
    rows = [
        {
            "vehicle_id": str(rotation.vehicle_id),
            "ledger_id": rotation.ledger_id,
            "seq": rotation.seq,
            "old_key": rotation.old_key.raw,
            "new_key": rotation.new_key.raw,
        }
        for rotation in rotations
    ]
    if rows:
        tell_bridges(connection, Topic.KEYS)
        unique = ["vehicle_id", "ledger_id", "seq"]
        connection.execute(insert_new(connection, _TABLE, unique=unique), rows)


def load_key_book(connection: Connection) -> KeyBook:
    """Return every change of a key that is stored, in its order."""
    return KeyBook().with_rotations(
        Rotation(
            VehicleId.from_text(row.vehicle_id),
            row.ledger_id,
            row.seq,
            VerifyKey.load(row.old_key),
            VerifyKey.load(row.new_key),
        )
        for row in connection.execute(select(_TABLE).order_by(_TABLE.c.id))
    )
