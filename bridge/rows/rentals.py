"""Rows of rentals, with the evidence behind them."""

from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, select

from bridge import schema
from bridge.cloud_event import Json
from bridge.rows.commands import find_reservation
from bridge.rows.receipts import SignedReceipt
from protocol.codes import Opcode
from protocol.identity import VehicleId


@dataclass(frozen=True, slots=True)
class Rental:
    """A rental as the store knows it."""

    rental_id: bytes
    """16 bytes."""
    vehicle_id: VehicleId
    """The car that says so."""
    state: str
    """reserved, running, ended, cancelled or expired."""
    report: dict[str, Json] | None
    """The report, once it has ended."""
    ledger_id: bytes
    """8 bytes: where the newest entry about it stands."""
    seq: int
    """Its sequence."""
    updated_ms: int
    """UTC ms."""
    frame: bytes
    """The signed entry."""
    receipt: SignedReceipt | None
    """The first kept receipt that covers it."""


def find_rental(connection: Connection, rental_id: bytes) -> Rental | None:
    """Return a rental, or None.

    A rental id is the caller's; a hostile car could claim one. So the car that was
    ordered to reserve for it is asked first.
    """
    table = schema.rentals
    rows = {
        row.vehicle_id: row
        for row in connection.execute(
            select(table).where(table.c.rental_id == rental_id)
        )
    }
    if not rows:
        return None
    reserved = find_reservation(connection, rental_id, Opcode.RESERVE)
    row = rows.get(str(reserved)) or rows[min(rows)]
    place = (row.vehicle_id, row.ledger_id, row.seq)
    entries = schema.frames.c
    frame: bytes = connection.execute(
        select(entries.data).where(
            entries.vehicle_id == place[0],
            entries.ledger_id == place[1],
            entries.seq == place[2],
        )
    ).scalar_one()
    kept = schema.receipts.c
    receipt = connection.execute(
        select(schema.receipts)
        .where(
            kept.vehicle_id == place[0],
            kept.ledger_id == place[1],
            kept.upto >= place[2],
        )
        .order_by(kept.upto)
        .limit(1)
    ).one_or_none()
    vehicle_id = VehicleId.from_text(row.vehicle_id)
    return Rental(
        rental_id=rental_id,
        vehicle_id=vehicle_id,
        state=row.state,
        report=None if row.report is None else msgspec.json.decode(row.report),
        ledger_id=row.ledger_id,
        seq=row.seq,
        updated_ms=row.updated_ms,
        frame=frame,
        receipt=None
        if receipt is None
        else SignedReceipt(
            vehicle_id,
            receipt.ledger_id,
            receipt.upto,
            receipt.data,
            receipt.signed_ms,
        ),
    )
