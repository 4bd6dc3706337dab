"""Rows of approvals, and of the vehicles that callers reached.

Whoever asks for a place among the reached vehicles holds a lock until the commit, so
that two calls at the same moment, of one bridge or of two, never both get the last one.
"""

from dataclasses import replace
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, delete, func, insert, select, update

from bridge import schema
from bridge.approvals import (
    CARRY_OUT_MS,
    Approval,
    ApprovalState,
    Cause,
    MassLimits,
)
from bridge.rows.locks import lock_reached
from bridge.rows.statements import upsert
from protocol.identity import VehicleId

_TABLE: Final = schema.approvals
_REACHED: Final = schema.reached


def reach(
    connection: Connection,
    caller: str,
    vehicle_id: VehicleId,
    limits: MassLimits,
    *,
    now: int,
) -> Cause | None:
    """Note that a caller reaches a vehicle; return why they may not, and note nothing.

    A vehicle that was reached within the window counts once, however often.
    """
    lock_reached(connection)
    since_ms = now - limits.window_ms
    connection.execute(delete(_REACHED).where(_REACHED.c.at_ms <= since_ms))
    others = select(func.count(func.distinct(_REACHED.c.vehicle_id))).where(
        _REACHED.c.vehicle_id != str(vehicle_id)
    )
    own = others.where(_REACHED.c.caller == caller)
    if connection.execute(own).scalar_one() >= limits.by_caller:
        return Cause.MANY_BY_CALLER
    if connection.execute(others).scalar_one() >= limits.in_all:
        return Cause.MANY_IN_ALL
    connection.execute(
        upsert(connection, _REACHED).values(
            caller=caller, vehicle_id=str(vehicle_id), at_ms=now
        )
    )
    return None


def add_approval(connection: Connection, approval: Approval) -> Approval:
    """Store a new approval; return it, or the pending one of the same request."""
    lock_reached(connection)
    known = _find(
        connection,
        select(_TABLE)
        .where(
            _TABLE.c.digest == approval.digest,
            _TABLE.c.state == ApprovalState.PENDING.value,
            _TABLE.c.expires_ms > approval.asked_ms,
        )
        .limit(1),
    )
    if known:
        return known[0]
    row_id = connection.execute(
        insert(_TABLE).values(**_columns(approval)).returning(_TABLE.c.id)
    ).scalar_one()
    return replace(approval, row_id=row_id)


def find_approval(connection: Connection, approval_id: bytes) -> Approval | None:
    """Return an approval, or None."""
    found = _find(connection, select(_TABLE).where(_TABLE.c.approval_id == approval_id))
    return found[0] if found else None


def find_consent(connection: Connection, approval_id: bytes) -> bytes:
    """Return what who approved signed with their own key; empty if nothing."""
    found = find_approval(connection, approval_id)
    return b"" if found is None else found.consent


def find_by_request(connection: Connection, digest: bytes) -> Approval | None:
    """Return the newest approval of a request, or None."""
    query = select(_TABLE).where(_TABLE.c.digest == digest)
    found = _find(connection, query.order_by(_TABLE.c.id.desc()).limit(1))
    return found[0] if found else None


def list_approvals(
    connection: Connection, state: ApprovalState | None, *, before: int, limit: int
) -> list[Approval]:
    """Return approvals before a row, the newest first."""
    query = select(_TABLE).where(_TABLE.c.id < before)
    if state is not None:
        query = query.where(_TABLE.c.state == state.value)
    return _find(connection, query.order_by(_TABLE.c.id.desc()).limit(limit))


def decide(connection: Connection, before: Approval, after: Approval) -> bool:
    """Write a decision over a pending approval; False if somebody else was first."""
    decided = connection.execute(
        update(_TABLE)
        .where(
            _TABLE.c.id == before.row_id,
            _TABLE.c.state == ApprovalState.PENDING.value,
        )
        .values(**_columns(after))
    )
    return decided.rowcount == 1


def note_outcomes(connection: Connection, approval: Approval) -> None:
    """Write what became of an approved order so far."""
    connection.execute(
        update(_TABLE)
        .where(
            _TABLE.c.id == approval.row_id,
            _TABLE.c.state == ApprovalState.APPROVED.value,
        )
        .values(**_columns(approval))
    )


def overdue(connection: Connection, *, now: int, limit: int) -> list[Approval]:
    """Return pending approvals whose time is over, the oldest first."""
    query = select(_TABLE).where(
        _TABLE.c.state == ApprovalState.PENDING.value, _TABLE.c.expires_ms <= now
    )
    return _find(connection, query.order_by(_TABLE.c.id).limit(limit))


def unfinished(connection: Connection, *, limit: int) -> list[Approval]:
    """Return what was approved and is not carried out, the oldest first."""
    query = select(_TABLE).where(
        _TABLE.c.state == ApprovalState.APPROVED.value,
        _TABLE.c.carry_out_ms.is_not(None),
    )
    return _find(connection, query.order_by(_TABLE.c.id).limit(limit))


def pending(connection: Connection) -> tuple[int, int | None]:
    """Return how many wait for a decision, and when the first of them is over."""
    query = select(func.count(), func.min(_TABLE.c.expires_ms)).where(
        _TABLE.c.state == ApprovalState.PENDING.value
    )
    count, first_ms = connection.execute(query).one()
    return count, first_ms


def _find(connection: Connection, query: Select[Any]) -> list[Approval]:
    return [
        replace(msgspec.json.decode(row.record, type=Approval), row_id=row.id)
        for row in connection.execute(query)
    ]


def _columns(approval: Approval) -> dict[str, object]:
    waits = approval.state is ApprovalState.APPROVED and not approval.is_carried_out
    decided_ms = approval.decided_ms or 0
    return {
        "approval_id": approval.approval_id,
        "state": approval.state.value,
        "asked_by": approval.asked_by,
        "digest": approval.digest,
        "expires_ms": approval.expires_ms,
        "carry_out_ms": decided_ms + CARRY_OUT_MS if waits else None,
        "record": msgspec.json.encode(approval),
    }
