"""Rows of the outbox, of the sinks' cursors, and of what a sink gave up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, func, select

from bridge import schema
from bridge.cloud_event import OutboxEvent
from bridge.database import Topic
from bridge.rows.locks import lock_outbox
from bridge.rows.signals import tell_bridges
from bridge.rows.statements import insert_many, look_up, storable, upsert, upsert_many
from protocol.identity import VehicleId

_OUTBOX = schema.outbox
_CURSORS = schema.cursors

_SELECT: Final = (
    "SELECT position, event_id, vehicle_id, type, body, created_ms FROM outbox "
)
_AFTER: Final = f"{_SELECT}WHERE position > ? ORDER BY position LIMIT ?"
_AT: Final = f"{_SELECT}WHERE position IN"


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """One event as a sink gets it."""

    position: int
    """Rises over all vehicles."""
    event_id: str
    """UUID text."""
    vehicle_id: VehicleId
    """Events of one vehicle are delivered one after another."""
    type: str
    """CloudEvents type."""
    body: bytes
    """The CloudEvent in JSON."""
    created_ms: int
    """UTC ms when it was stored."""


def write_outbox(
    connection: Connection, events: Sequence[OutboxEvent], *, now: int
) -> None:
    """Put events behind those that wait.

    An alarm may be raised again by the same facts; it is told once.
    """
    rows = [
        (event.event_id, str(event.vehicle_id), event.type, event.body, now)
        for event in events
    ]
    if rows:
        lock_outbox(connection)
        tell_bridges(connection, Topic.OUTBOX)
        insert_many(connection, _OUTBOX, rows, unique="event_id")


def outbox_after(connection: Connection, position: int, limit: int) -> list[OutboxRow]:
    """Return the next events behind a position."""
    return _rows(look_up(connection, _AFTER, (position, limit)))


def outbox_at(connection: Connection, positions: Sequence[int]) -> list[OutboxRow]:
    """Return the events at these positions, in order; what is gone is missing."""
    marks = ", ".join("?" * len(positions))
    return _rows(look_up(connection, f"{_AT} ({marks}) ORDER BY position", positions))


def _rows(found: Sequence[Any]) -> list[OutboxRow]:
    return [
        OutboxRow(at, event_id, VehicleId.from_text(vehicle), kind, body, created_ms)
        for at, event_id, vehicle, kind, body, created_ms in found
    ]


def cursor_of(connection: Connection, sink: str) -> int:
    """Return up to where a sink took everything; a new sink begins at the beginning."""
    query = select(_CURSORS.c.position).where(_CURSORS.c.sink == sink)
    return connection.execute(query).scalar_one_or_none() or 0


def set_cursor(
    connection: Connection,
    sink: str,
    position: int,
    given_up: Mapping[int, str],
    now: int,
) -> None:
    """Note that a sink took, or gave up, everything up to `position`."""
    upsert_many(connection, _CURSORS, [(sink, position)])
    for lost, reason in given_up.items():
        connection.execute(
            upsert(connection, schema.undelivered).values(
                sink=sink, position=lost, reason=storable(reason)[:512], given_up_ms=now
            )
        )


def outbox_span(connection: Connection) -> tuple[int, int]:
    """Return the oldest and the newest position that are kept; 0 for none."""
    query = select(func.min(_OUTBOX.c.position), func.max(_OUTBOX.c.position))
    oldest, newest = connection.execute(query).one()
    return oldest or 0, newest or 0
