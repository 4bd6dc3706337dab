"""Rows of the audit trail: appended, read, never changed and never deleted."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select

from bridge import schema
from bridge.audit import AuditEntry, AuditHead, AuditRow, chained
from bridge.rows.locks import lock_audit
from bridge.rows.statements import upsert

_TABLE: Final = schema.audit
_HEAD: Final = "audit_head"


def append_audit(connection: Connection, entries: Sequence[AuditEntry]) -> int:
    """Write entries behind the others; return the id of the last one."""
    lock_audit(connection)
    head = audit_head(connection)
    rows = []
    for entry in entries:
        row = chained(head, entry)
        rows.append(
            {
                "id": row.row_id,
                "at_ms": entry.at_ms,
                "who": entry.who,
                "role": entry.role,
                "what": entry.what,
                "outcome": entry.outcome,
                "asked": entry.asked,
                "prev_hash": row.prev_hash,
                "row_hash": row.row_hash,
            }
        )
        head = AuditHead(row.row_id, row.row_hash)
    if rows:
        connection.execute(insert(_TABLE), rows)
    connection.execute(
        upsert(connection, schema.meta).values(
            name=_HEAD, value=f"{head.row_id} {head.row_hash.hex()}"
        )
    )
    return head.row_id


def audit_head(connection: Connection) -> AuditHead:
    """Return the end of the trail as it is kept beside the rows."""
    query = select(schema.meta.c.value).where(schema.meta.c.name == _HEAD)
    kept = connection.execute(query).scalar_one_or_none()
    if kept is None:
        return AuditHead()
    row_id, row_hash = kept.split(" ")
    return AuditHead(int(row_id), bytes.fromhex(row_hash))


def audit_after(
    connection: Connection, after: int, limit: int
) -> tuple[list[AuditRow], AuditHead]:
    """Return the next rows behind an id, and the head of the same moment."""
    query = select(_TABLE).where(_TABLE.c.id > after).order_by(_TABLE.c.id).limit(limit)
    rows = [audit_row_of(row) for row in connection.execute(query)]
    return rows, audit_head(connection)


def audit_row_of(row: Row[Any]) -> AuditRow:
    """Return a row of the table as what it says."""
    return AuditRow(
        row.id,
        AuditEntry(
            at_ms=row.at_ms,
            who=row.who,
            role=row.role,
            what=row.what,
            outcome=row.outcome,
            asked=row.asked,
        ),
        row.prev_hash,
        row.row_hash,
    )
