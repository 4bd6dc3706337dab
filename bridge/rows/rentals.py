"""Rows of rentals, with the evidence behind them."""

from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, Connection, select, update

from bridge import cloud_event, schema
from bridge.approvals import MissingEntries
from bridge.cloud_event import Json
from bridge.rows.commands import find_reservation
from bridge.rows.outbox import write_outbox
from bridge.rows.receipts import SignedReceipt
from bridge.workspace import Workspace
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
    needs_close: bool
    """Whether it was open in a ledger that is lost: a person must end it."""
    frame: bytes
    """The signed entry."""
    receipt: SignedReceipt | None
    """The first kept receipt that covers it."""


OPEN_STATES: Final = ("reserved", "running")
"""What a rental is in while nobody ended it."""

CLOSED: Final = "closed"
"""Ended by a person, without the car's word."""


def flag_lost(connection: Connection, space: Workspace, *, now: int) -> None:
    """Flag rentals that were open in a ledger that a car lost, and tell of them."""
    table = schema.rentals
    for vehicle_id, (ledger_id, head_seq) in space.replaced.items():
        is_lost = (table.c.ledger_id != ledger_id) | (table.c.seq > head_seq)
        _flag(connection, vehicle_id, is_lost, fleet_id=space.fleet_id, now=now)


def flag_unended(
    connection: Connection,
    missing: MissingEntries,
    rental_now: bytes,
    *,
    fleet_id: bytes,
    now: int,
) -> None:
    """Flag rentals whose end must be among entries that are given up; tell of them.

    Args:
        connection: in a transaction that has gone on behind these entries.
        missing: what is given up.
        rental_now: the rental that the car says it is in; zeros for none.
        fleet_id: 16 bytes.
        now: UTC ms.
    """
    table = schema.rentals
    is_unended = (
        (table.c.ledger_id == missing.ledger_id)
        & (table.c.seq < missing.first)
        & (table.c.rental_id != rental_now)
    )
    _flag(connection, missing.vehicle_id, is_unended, fleet_id=fleet_id, now=now)


def _flag(
    connection: Connection,
    vehicle_id: VehicleId,
    condition: ColumnElement[bool],
    *,
    fleet_id: bytes,
    now: int,
) -> None:
    table = schema.rentals
    wanted = (
        (table.c.vehicle_id == str(vehicle_id))
        & table.c.state.in_(OPEN_STATES)
        & ~table.c.needs_close
        & condition
    )
    rows = connection.execute(select(table).where(wanted)).all()
    connection.execute(update(table).where(wanted).values(needs_close=True))
    events = [
        cloud_event.to_close(
            vehicle_id, row.rental_id, row.ledger_id, fleet_id=fleet_id, now=now
        )
        for row in rows
    ]
    write_outbox(connection, events, now=now)


def close_rental(connection: Connection, rental_id: bytes, *, now: int) -> bool:
    """Note that a person closed a flagged rental; False if there is none."""
    table = schema.rentals
    wanted = (table.c.rental_id == rental_id) & table.c.needs_close
    closed = connection.execute(
        update(table)
        .where(wanted)
        .values(needs_close=False, state=CLOSED, updated_ms=now)
    )
    return closed.rowcount > 0


def find_lost_rentals(connection: Connection, vehicle_id: VehicleId) -> list[bytes]:
    """Return a car's rentals that were open in a ledger it lost, and nobody closed."""
    table = schema.rentals
    query = select(table.c.rental_id).where(
        table.c.vehicle_id == str(vehicle_id), table.c.needs_close
    )
    return list(connection.execute(query.order_by(table.c.updated_ms)).scalars())


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
        needs_close=row.needs_close,
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
