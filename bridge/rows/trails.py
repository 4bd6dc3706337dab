"""Rows that tell the way of one command, from who asked to what the car signed."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Row, select

from bridge import schema
from bridge.approvals import Approval
from bridge.audit import AuditRow
from bridge.commands import CommandRecord
from bridge.rows.approvals import find_approval
from bridge.rows.audit import audit_row_of
from bridge.rows.commands import load_commands
from bridge.rows.evidence import rotations_of
from bridge.rows.receipts import SignedReceipt
from protocol.entry import FIRST_SEQ, split_entry
from protocol.evidence import ENTRIES_LIMIT
from protocol.frame import parse_frame

ANSWER_ROWS: Final = 100_000
"""So many rows of the audit trail are looked at for the answer to one that asks. An
answer is written within half a minute; a bridge that died wrote none."""

_AUDIT: Final = schema.audit
_FRAMES: Final = schema.frames
_RECEIPTS: Final = schema.receipts


@dataclass(frozen=True, slots=True)
class Trail:
    """Everything that is stored about one command; a value."""

    record: CommandRecord
    """The command."""
    parts: "tuple[Trail | None, ...]"
    """Of a compound, in their order; None for one that does not exist."""
    asked: AuditRow | None
    """Who asked; None if nobody did by the API."""
    answered: AuditRow | None
    """What that caller was answered."""
    approval: Approval | None
    """Who approved; None if nobody needed to."""
    decided: AuditRow | None
    """The call that approved; None if nobody needed to."""
    entries: tuple[bytes, ...]
    """The run of the ledger from the car's result to what the receipt confirms."""
    receipt: SignedReceipt | None
    """The fleet's word that it has the result."""
    rotations: tuple[bytes, ...]
    """Every KEY_ROTATED of the vehicle, oldest first."""


def find_trail(connection: Connection, command_id: bytes) -> Trail | None:
    """Return the way of a command, or None if there is no such command."""
    record = load_commands(connection, [command_id]).get(command_id)
    if record is None:
        return None
    receipt, entries = _confirmed(connection, record)
    asked, answered = _asked(connection, record.origin.audit_row)
    approval_id = record.origin.approval_id
    approval = find_approval(connection, approval_id) if approval_id else None
    return Trail(
        record=record,
        parts=tuple(find_trail(connection, part.command_id) for part in record.parts),
        asked=asked,
        answered=answered,
        approval=approval,
        decided=_row(connection, approval.decided_row) if approval else None,
        entries=entries,
        receipt=receipt,
        rotations=rotations_of(connection, str(record.vehicle_id)),
    )


def _asked(
    connection: Connection, row_id: int
) -> tuple[AuditRow | None, AuditRow | None]:
    if not row_id:
        return None, None
    answered: Row[tuple[object, ...]] | None = connection.execute(
        select(_AUDIT)
        .where(_AUDIT.c.id.between(row_id + 1, row_id + ANSWER_ROWS))
        .where(_AUDIT.c.asked == row_id)
        .order_by(_AUDIT.c.id)
        .limit(1)
    ).first()
    return (
        _row(connection, row_id),
        None if answered is None else audit_row_of(answered),
    )


def _row(connection: Connection, row_id: int) -> AuditRow | None:
    query = select(_AUDIT).where(_AUDIT.c.id == row_id)
    found = connection.execute(query).first()
    return None if found is None else audit_row_of(found)


def _confirmed(
    connection: Connection, record: CommandRecord
) -> tuple[SignedReceipt | None, tuple[bytes, ...]]:
    """Return the first receipt over the car's result, and the entries up to there."""
    if not record.result_frame:
        return None, ()
    frame = parse_frame(record.result_frame)
    seq = frame.header.seq
    if seq < FIRST_SEQ:
        return None, ()
    name, ledger_id = str(record.vehicle_id), split_entry(frame.payload)[0].ledger_id
    found = connection.execute(
        select(_RECEIPTS)
        .where(
            _RECEIPTS.c.vehicle_id == name,
            _RECEIPTS.c.ledger_id == ledger_id,
            _RECEIPTS.c.upto.between(seq, seq + ENTRIES_LIMIT - 1),
        )
        .order_by(_RECEIPTS.c.upto)
        .limit(1)
    ).first()
    if found is None:
        return None, ()
    entries = connection.execute(
        select(_FRAMES.c.data)
        .where(
            _FRAMES.c.vehicle_id == name,
            _FRAMES.c.ledger_id == ledger_id,
            _FRAMES.c.seq.between(seq, found.upto),
        )
        .order_by(_FRAMES.c.seq)
    ).scalars()
    receipt = SignedReceipt(
        record.vehicle_id, ledger_id, found.upto, found.data, found.signed_ms
    )
    return receipt, tuple(entries)
