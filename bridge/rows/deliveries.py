"""Rows about how far sinks are: what waits, what was given up, and going back."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from bridge import schema
from bridge.rows.leases import pass_lease
from bridge.rows.outbox import cursor_of
from bridge.rows.statements import upsert

_OUTBOX = schema.outbox
_LOST = schema.undelivered


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one sink is."""

    position: int
    """Everything up to here was taken or given up."""
    newest: int
    """The newest event's position; 0 if there is none."""
    oldest: int
    """The oldest event that is still kept: how far back a replay can go; 0 if none."""
    waiting: int
    """Events behind the position."""
    waiting_since_ms: int | None
    """UTC ms when the oldest of them was stored; None if nothing waits."""
    given_up: int
    """Events that the consumer does not want."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """An event that a consumer did not want."""

    position: int
    """Of the event."""
    event_id: str
    """UUID text."""
    vehicle_id: str
    """Canonical text."""
    type: str
    """CloudEvents type."""
    reason: str
    """What the consumer said."""
    given_up_ms: int
    """UTC ms."""


def progress_of(connection: Connection, sink: str) -> Progress:
    """Return how far a sink is; one that never took anything is at 0."""
    position = cursor_of(connection, sink)
    oldest, newest = connection.execute(
        select(func.min(_OUTBOX.c.position), func.max(_OUTBOX.c.position))
    ).one()
    behind = _OUTBOX.c.position > position
    waiting, since_ms = connection.execute(
        select(func.count(), func.min(_OUTBOX.c.created_ms)).where(behind)
    ).one()
    given_up = connection.execute(
        select(func.count()).select_from(_LOST).where(_LOST.c.sink == sink)
    ).scalar_one()
    return Progress(position, newest or 0, oldest or 0, waiting, since_ms, given_up)


def given_up(
    connection: Connection, sink: str, *, after: int, limit: int
) -> list[GivenUp]:
    """Return what a sink gave up, in order; `after` is the last position known."""
    query = (
        select(_LOST, _OUTBOX.c.event_id, _OUTBOX.c.vehicle_id, _OUTBOX.c.type)
        .join(_OUTBOX, _OUTBOX.c.position == _LOST.c.position)
        .where(_LOST.c.sink == sink, _LOST.c.position > after)
        .order_by(_LOST.c.position)
        .limit(limit)
    )
    return [
        GivenUp(
            row.position,
            row.event_id,
            row.vehicle_id,
            row.type,
            row.reason,
            row.given_up_ms,
        )
        for row in connection.execute(query)
    ]


def position_before(connection: Connection, since_ms: int) -> int:
    """Return the position before the first event stored at or after UTC ms."""
    query = select(func.min(_OUTBOX.c.position)).where(_OUTBOX.c.created_ms >= since_ms)
    first = connection.execute(query).scalar_one()
    if first is not None:
        return int(first) - 1
    newest = connection.execute(select(func.max(_OUTBOX.c.position))).scalar_one()
    return newest or 0


def replay(connection: Connection, sink: str, work: str, position: int) -> None:
    """Let a sink begin again behind a position.

    Whoever serves it now loses its lease `work`, so nothing that it still writes moves
    the cursor; the next to take it reads the new one. What was given up behind the
    position is tried again.
    """
    pass_lease(connection, work)
    connection.execute(
        upsert(connection, schema.cursors).values(sink=sink, position=position)
    )
    connection.execute(
        _LOST.delete().where(_LOST.c.sink == sink, _LOST.c.position > position)
    )
