"""Rows of sent receipts, and of gaps that are told when they grow old."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select, update

from bridge import cloud_event, schema
from bridge.rows.locks import lock_vehicles
from bridge.rows.outbox import write_outbox
from bridge.rows.statements import upsert_many
from protocol.identity import VehicleId
from protocol.receipt import Gap

GAP_ALARM_MS: Final = 60_000
"""A gap that is older than this is told to consumers. A resend over a mobile link takes
seconds; a minute means that somebody has to look."""


@dataclass(frozen=True, slots=True)
class SignedReceipt:
    """A receipt that was sent, to be kept: the fleet cannot deny it either."""

    vehicle_id: VehicleId
    """Whom it was for."""
    ledger_id: bytes
    """8 bytes."""
    upto: int
    """What it confirms."""
    data: bytes
    """The frame."""
    signed_ms: int
    """UTC ms."""


@dataclass(frozen=True, slots=True)
class OpenGap:
    """Entries of one ledger that have not come."""

    vehicle_id: VehicleId
    """Whose they are."""
    ledger_id: bytes
    """8 bytes."""
    ranges: tuple[Gap, ...]
    """What is missing, the oldest first."""


def write_receipts(connection: Connection, receipts: Sequence[SignedReceipt]) -> None:
    """Keep receipts that were sent."""
    # The newest receipt of a position replaces an older one that says the same.
    rows = {
        (str(r.vehicle_id), r.ledger_id, r.upto): (r.data, r.signed_ms)
        for r in receipts
        if r.upto
    }
    if rows:
        told = [(*place, *said) for place, said in rows.items()]
        upsert_many(connection, schema.receipts, told)


def tell_gaps(connection: Connection, fleet_id: bytes, now: int) -> bool:
    """Put an alarm into the outbox for every gap that is too old; once each."""
    table = schema.ledgers
    is_old = (table.c.gap_since_ms <= now - GAP_ALARM_MS) & ~table.c.is_gap_told
    names = connection.execute(select(table.c.vehicle_id).where(is_old)).scalars()
    # Cars first, then the outbox: in the order in which batches take them.
    lock_vehicles(connection, [VehicleId.from_text(name) for name in names])
    rows = connection.execute(select(table).where(is_old)).all()
    for row in rows:
        vehicle_id = VehicleId.from_text(row.vehicle_id)
        alarm = cloud_event.alarm(
            cloud_event.GAP_TYPE,
            vehicle_id,
            ledger_id=row.ledger_id,
            seq=row.upto + 1,
            detail=f"entry {row.upto + 1} is missing, and entries behind it are held",
            evidence=b"",
            fleet_id=fleet_id,
            now=now,
        )
        write_outbox(connection, [alarm], now=now)
        connection.execute(
            update(table)
            .where(
                table.c.vehicle_id == row.vehicle_id,
                table.c.ledger_id == row.ledger_id,
            )
            .values(is_gap_told=True)
        )
    return bool(rows)
