"""Letting go of what is older than it may be kept (K25).

Ledger entries, receipts and commands stay: they are evidence, and hold no position but
by a commitment that tells nothing once its salt is gone. Everything here works in small
pieces, so that no transaction holds up a batch for long.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    delete,
    func,
    select,
)

from bridge import schema
from bridge.places import PlaceState
from bridge.rows.locks import lock_vehicles
from bridge.rows.places import empty_places
from bridge.rows.rentals import OPEN_STATES
from bridge.rows.steps import is_followed
from bridge.rows.telemetry import drop_telemetry
from protocol.identity import VehicleId

PIECE: Final = 500
"""Rows that one transaction lets go: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Ages:
    """UTC ms before which each kind is let go."""

    places_ms: int
    """Where rentals that are over began, parked and ended."""
    telemetry_ms: int
    """Samples, which hold positions of free cars."""
    events_ms: int
    """What every sink has taken, or given up."""
    letters_ms: int
    """What was received and not believed."""
    steps_ms: int
    """What a city was told of vehicles."""


@dataclass(frozen=True, slots=True)
class LetGo:
    """How much one piece let go."""

    places: int
    telemetry: int
    events: int
    letters: int
    steps: int

    @property
    def is_nothing(self) -> bool:
        """Whether there is no more to let go."""
        return not self.rows

    @property
    def rows(self) -> int:
        """How many rows."""
        return sum((self.places, self.telemetry, self.events, self.letters, self.steps))


def let_go(connection: Connection, ages: Ages, sinks: tuple[str, ...]) -> LetGo:
    """Let go of one piece of each kind; call again until it is nothing.

    Args:
        connection: inside a transaction.
        ages: what is old.
        sinks: names of those that must have taken an event first. With none, nobody
            ever takes one, and age alone decides.
    """
    letters = schema.dead_letters
    steps = schema.mds_steps
    return LetGo(
        places=_erase_places(connection, ages.places_ms),
        telemetry=drop_telemetry(connection, ages.telemetry_ms),
        events=_drop_events(connection, ages.events_ms, sinks),
        letters=_delete(connection, letters, letters.c.received_ms < ages.letters_ms),
        # The last one of a vehicle stays: it says where it is.
        steps=_delete(
            connection,
            steps,
            (steps.c.at_ms < ages.steps_ms) & is_followed(),
        ),
    )


def _erase_places(connection: Connection, before_ms: int) -> int:
    table, rentals = schema.places, schema.rentals
    is_over = rentals.c.state.not_in(OPEN_STATES) & (rentals.c.updated_ms < before_ms)
    of_old = (
        select(table.c.vehicle_id, table.c.rental_id)
        .join(
            rentals,
            (rentals.c.rental_id == table.c.rental_id)
            & (rentals.c.vehicle_id == table.c.vehicle_id),
        )
        .where(is_over, table.c.state != int(PlaceState.ERASED))
        .distinct()
        .limit(PIECE)
    )
    found = connection.execute(of_old).all()
    lock_vehicles(connection, [VehicleId.from_text(row.vehicle_id) for row in found])
    return empty_places(
        connection,
        *(
            (table.c.vehicle_id == row.vehicle_id)
            & (table.c.rental_id == row.rental_id)
            for row in found
        ),
    )


def _drop_events(connection: Connection, before_ms: int, sinks: tuple[str, ...]) -> int:
    table, cursors, undelivered = schema.outbox, schema.cursors, schema.undelivered
    old = table.c.created_ms < before_ms
    if sinks:
        query = select(cursors.c.sink, cursors.c.position)
        taken = {row.sink: row.position for row in connection.execute(query)}
        old &= table.c.position <= min(taken.get(sink, 0) for sink in sinks)
    # The newest stays, so that positions go on rising from it on every engine.
    newest = select(func.max(table.c.position)).scalar_subquery()
    wanted = select(table.c.position).where(old, table.c.position < newest)
    positions = list(
        connection.execute(wanted.order_by(table.c.position).limit(PIECE)).scalars()
    )
    if positions:
        connection.execute(
            delete(undelivered).where(undelivered.c.position.in_(positions))
        )
        connection.execute(delete(table).where(table.c.position.in_(positions)))
    return len(positions)


def _delete(connection: Connection, table: Table, is_old: ColumnElement[bool]) -> int:
    keys = list(table.primary_key)
    found = connection.execute(select(*keys).where(is_old).limit(PIECE)).all()
    for row in found:
        matches = [key == value for key, value in zip(keys, row, strict=True)]
        connection.execute(delete(table).where(*matches, is_old))
    return len(found)
