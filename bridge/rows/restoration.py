"""What must be changed in a store that was put back from a backup.

The cars have gone on since: they know numbers of commands, sessions and receipts that
the store does not.

Rule 1: no number is used twice (I-6). Every run of a signer's numbers, known or not yet
known, goes on `JUMP` further: what was signed between backup and loss is below it.
Rule 2: nothing but a challenge is signed for a car that was connected until it says by
a fresh HELLO with our nonce where it stands (FF-SYN-10).
Rule 3: a place whose key is not there was erased, and stays so (K26).
Rule 4: whoever held a lease has lost it: a bridge that froze before the loss is fenced.
"""

import secrets
from collections.abc import Callable
from typing import Final

import msgspec
from sqlalchemy import Connection, select, update

from bridge import schema
from bridge.doubt import Doubt
from bridge.rows.commands import SEQUENCE_FLOOR
from bridge.rows.locks import lock_vehicles
from bridge.rows.places import settle_keys
from bridge.rows.statements import upsert
from bridge.rows.vehicles import load_vehicles, online_vehicles, write_vehicles
from protocol.identity import ID_SIZE

JUMP: Final = 1 << 20
"""Numbers skipped: more commands than a car gets in a session, by far; of 2^64."""

REASON: Final = "the store was put back from a backup"


def mark_restored(
    connection: Connection,
    *,
    now: int,
    fresh_nonce: Callable[[], bytes] = lambda: secrets.token_bytes(ID_SIZE),
) -> int:
    """Make a restored store safe to go on with; return how many cars are in doubt.

    Doing it twice does no harm. No bridge may use the store meanwhile.

    Args:
        connection: in a transaction that may write.
        now: UTC ms.
        fresh_nonce: makes challenges.
    """
    table, meta = schema.sequences, schema.meta
    connection.execute(update(table).values(reserved=table.c.reserved + JUMP))
    floor = connection.execute(
        select(meta.c.value).where(meta.c.name == SEQUENCE_FLOOR)
    ).scalar_one_or_none()
    row = {"name": SEQUENCE_FLOOR, "value": str(int(floor or 0) + JUMP)}
    connection.execute(upsert(connection, meta), [row])
    leases = schema.leases
    connection.execute(update(leases).values(epoch=leases.c.epoch + 1, until_ms=0))
    settle_keys(connection)
    connected = online_vehicles(connection)
    lock_vehicles(connection, connected)
    doubted = {
        vehicle_id: msgspec.structs.replace(
            state,
            # Of the time since the backup nothing is known: it counts as heard now, so
            # that it is asked, and is told silent if it does not answer.
            presence=state.presence.heard(now=now),
            doubt=Doubt(
                fresh_nonce(),
                state.session_id or bytes(ID_SIZE),
                REASON,
                state.clock,
            ),
        )
        for vehicle_id, state in load_vehicles(connection, connected).items()
    }
    write_vehicles(connection, doubted)
    return len(doubted)
