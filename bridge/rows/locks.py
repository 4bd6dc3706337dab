"""Keeping apart what several bridges write to one PostgreSQL.

SQLite has one writer, so both functions do nothing there. On PostgreSQL a batch relies
on nobody else changing the cars and ledgers that it loaded (`bridge.workspace`), and a
sink relies on positions becoming visible in their order.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, text

from protocol.identity import VehicleId

_LOCK_EACH: Final = text(
    "SELECT pg_advisory_xact_lock(number) FROM (SELECT number FROM "
    "unnest(CAST(:numbers AS bigint[])) AS number ORDER BY number) AS ordered"
)

_OUTBOX_LOCK: Final = int.from_bytes(b"ffoutbox", signed=True)
"""Held from the first event of a transaction to its commit."""

_AUDIT_LOCK: Final = int.from_bytes(b"ffaudit!", signed=True)
"""Held alone, from reading the head of the trail to its commit."""

_REACHED_LOCK: Final = int.from_bytes(b"ffreach!", signed=True)
"""Held from counting the vehicles that callers reached to the commit."""


def lock_vehicles(connection: Connection, vehicle_ids: Iterable[VehicleId]) -> None:
    """Wait until no other bridge has these cars in a transaction; until the commit.

    Everybody takes them in the order of their numbers, so that two batches with the
    same cars wait for one another and never in a circle.
    """
    if connection.dialect.name == "postgresql":
        numbers = sorted({_number(vehicle_id) for vehicle_id in vehicle_ids})
        connection.execute(_LOCK_EACH, {"numbers": numbers})


def lock_outbox(connection: Connection) -> None:
    """Wait until no other bridge has events in a transaction; until the commit.

    Without it position 11 could be seen, and a cursor set to it, before position 10 is
    committed. Cars are locked before and never after.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK_EACH, {"numbers": [_OUTBOX_LOCK]})


def lock_audit(connection: Connection) -> None:
    """Wait until no other bridge appends to the audit trail; until the commit."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK_EACH, {"numbers": [_AUDIT_LOCK]})


def lock_reached(connection: Connection) -> None:
    """Wait until no other bridge counts reached vehicles; until the commit."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK_EACH, {"numbers": [_REACHED_LOCK]})


def _number(vehicle_id: VehicleId) -> int:
    digest = hashlib.blake2b(vehicle_id.raw, digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
