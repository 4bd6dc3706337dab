"""Rows of what a city is told of the fleet."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, func, select, tuple_

from bridge import schema
from bridge.mds.machine import MdsEventType, MdsState
from bridge.rows.statements import chunks, insert_many
from bridge.workspace import StepRow
from protocol.identity import VehicleId

_TABLE: Final = schema.mds_steps
_VEHICLES: Final = schema.vehicles


@dataclass(frozen=True, slots=True)
class StoredStep:
    """A step as it is stored."""

    position: int
    """Rises in the order in which steps were told, ledger order within a vehicle."""
    event_id: bytes
    """16 bytes; stays the same for ever."""
    vehicle_id: VehicleId
    """Which vehicle."""
    state: MdsState
    """Where it is after it."""
    type: MdsEventType
    """Why."""
    at_ms: int
    """UTC ms when it happened."""
    stored_ms: int
    """UTC ms when it became known."""
    rental_id: bytes
    """16 bytes; zeros for none."""
    ledger_id: bytes
    """8 bytes; zeros for none."""
    seq: int
    """The entry that says so, or 0."""
    energy_pct: int | None
    """0 to 100."""
    is_electric: bool
    """Whether that is charge."""


def write_steps(connection: Connection, rows: Sequence[StepRow], *, now: int) -> None:
    """Put steps behind those that are there."""
    values = [
        (
            _event_id(row, now, number),
            str(row.vehicle_id),
            row.step.state.value,
            row.step.type.value,
            row.step.at_ms,
            now,
            row.step.rental_id,
            row.ledger_id,
            row.seq,
            row.step.is_inferred,
            row.energy_pct,
            row.is_electric,
        )
        for number, row in enumerate(rows)
    ]
    if values:
        insert_many(connection, _TABLE, values)


def steps_between(
    connection: Connection,
    since_ms: int,
    until_ms: int,
    *,
    after: tuple[int, int] = (-1, 0),
    limit: int,
    kind: MdsEventType | None = None,
) -> list[StoredStep]:
    """Return steps that happened in a span, by time and then by position.

    Args:
        connection: inside a transaction.
        since_ms: UTC ms, included.
        until_ms: UTC ms, not included.
        after: time and position of the last one that is known.
        limit: most rows.
        kind: of steps; None for all.
    """
    query = (
        select(_TABLE)
        .where(
            _TABLE.c.at_ms >= since_ms,
            _TABLE.c.at_ms < until_ms,
            tuple_(_TABLE.c.at_ms, _TABLE.c.id) > after,
        )
        .order_by(_TABLE.c.at_ms, _TABLE.c.id)
        .limit(limit)
    )
    if kind is not None:
        query = query.where(_TABLE.c.type == kind.value)
    return [_step(row) for row in connection.execute(query)]


def steps_of_rentals(
    connection: Connection, rental_ids: Iterable[bytes], kind: MdsEventType
) -> list[StoredStep]:
    """Return the steps of one kind of these rentals, in the order they were told in."""
    found: list[StoredStep] = []
    for chunk in chunks(rental_ids):
        query = (
            select(_TABLE)
            .where(_TABLE.c.rental_id.in_(chunk), _TABLE.c.type == kind.value)
            .order_by(_TABLE.c.id)
        )
        found += [_step(row) for row in connection.execute(query)]
    return found


def last_steps(
    connection: Connection, vehicle_ids: Iterable[VehicleId]
) -> dict[VehicleId, StoredStep]:
    """Return the last step of each of these vehicles; of some there is none."""
    found: dict[VehicleId, StoredStep] = {}
    own = _TABLE.alias("own")
    # For each vehicle by itself: of a group every step would be read, of two years.
    newest = (
        select(func.max(own.c.id))
        .where(own.c.vehicle_id == _VEHICLES.c.vehicle_id)
        .correlate(_VEHICLES)
        .scalar_subquery()
    )
    for chunk in chunks(str(vehicle_id) for vehicle_id in vehicle_ids):
        of_these = select(newest).where(_VEHICLES.c.vehicle_id.in_(chunk))
        query = select(_TABLE).where(_TABLE.c.id.in_(of_these))
        steps = [_step(row) for row in connection.execute(query)]
        found |= {step.vehicle_id: step for step in steps}
    return found


def is_followed() -> ColumnElement[bool]:
    """Return the condition that a step is not the last one of its vehicle.

    An index answers it for each row that is asked about. A list of all last steps is
    the whole table read, for each statement that has it; and so may be EXISTS, which
    PostgreSQL takes for a join.
    """
    later = _TABLE.alias("later")
    last = (
        select(func.max(later.c.id))
        .where(later.c.vehicle_id == _TABLE.c.vehicle_id)
        .correlate(_TABLE)
        .scalar_subquery()
    )
    return _TABLE.c.id < last


def known_since_ms(connection: Connection) -> int | None:
    """Return since when every step is kept (UTC ms), or None for none ever.

    The last step of each vehicle outlives its age, so it says nothing of its time,
    unless there are no others: then nothing has happened since the newest.
    """
    first = (
        select(_TABLE.c.at_ms).where(is_followed()).order_by(_TABLE.c.at_ms).limit(1)
    )
    newest = select(func.max(_TABLE.c.at_ms))
    found: int | None = connection.execute(first).scalar_one_or_none()
    if found is None:
        found = connection.execute(newest).scalar_one()
    return found


def _event_id(row: StepRow, now: int, number: int) -> bytes:
    what = (
        f"{row.vehicle_id} {row.ledger_id.hex()} {row.seq} {row.step.type} "
        f"{row.step.state} {row.step.at_ms} {now} {number}"
    )
    digest = hashlib.sha256(b"ff-mds-event-v1\0" + what.encode())
    return digest.digest()[:16]


def _step(row: Row[Any]) -> StoredStep:
    return StoredStep(
        row.id,
        row.event_id,
        VehicleId.from_text(row.vehicle_id),
        MdsState(row.state),
        MdsEventType(row.type),
        row.at_ms,
        row.stored_ms,
        row.rental_id,
        row.ledger_id,
        row.seq,
        row.energy_pct,
        row.is_electric,
    )
