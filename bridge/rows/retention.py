"""Letting go of what is older than it may be kept (K25).

Ledger entries, receipts and commands stay: they are evidence, and hold no position but
by a commitment that tells nothing once its salt is gone.

Rule 1: everything works in small pieces, so that no transaction holds up a batch for
long, and each kind has transactions of its own, so that none waits for another.
Rule 2: a piece costs what it lets go of, and not what is kept or ever was: rentals say
themselves whether they have places, those that wait for an entry have an index, and
what lies in the order of its coming is looked at from its oldest end only.
"""

from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Final

from sqlalchemy import Column, Connection, delete, select

from bridge import schema
from bridge.rows.locks import lock_vehicles
from bridge.rows.places import erase_early, erase_rentals
from bridge.rows.rentals import OPEN_STATES
from bridge.rows.steps import is_followed
from bridge.rows.telemetry import drop_telemetry
from protocol.identity import VehicleId

PIECE: Final = 500
"""Rows that one transaction lets go: some milliseconds."""

RENTALS: Final = 100
"""Rentals of which one transaction erases the places, three each: as long, and
all dead letters are looked through once."""

EARLY: Final = 3 * RENTALS
"""Places without an entry that one transaction erases: as many as of rentals."""


@unique
class Kind(StrEnum):
    """What is let go by itself, positions first; values are for people."""

    PLACES = "places of rentals"
    """Where rentals that are over began, parked and ended."""
    EARLY_PLACES = "places without an entry"
    """Those of which nobody knows the rental, since the entry has not come."""
    TELEMETRY = "telemetry"
    """Samples, which hold positions of free cars."""
    LETTERS = "dead letters"
    """What was received and not believed."""
    STEPS = "steps for cities"
    """What a city was told of vehicles."""
    EVENTS = "events"
    """What every sink has taken, or given up."""


@dataclass(frozen=True, slots=True)
class Ages:
    """UTC ms before which each kind is let go."""

    places_ms: int
    """`Kind.PLACES` and `Kind.EARLY_PLACES`."""
    telemetry_ms: int
    """`Kind.TELEMETRY`."""
    events_ms: int
    """`Kind.EVENTS`."""
    letters_ms: int
    """`Kind.LETTERS`."""
    steps_ms: int
    """`Kind.STEPS`."""
    ahead_ms: int
    """After this nothing can have come: a clock that ran ahead says so."""


def let_go(
    connection: Connection, kind: Kind, ages: Ages, sinks: tuple[str, ...]
) -> int:
    """Let go of one piece of a kind; call again until it is nothing.

    Args:
        connection: inside a transaction.
        kind: of what.
        ages: what is old.
        sinks: names of those that must have taken an event first. With none, nobody
            ever takes one, and age alone decides.

    Returns:
        How many rows; of places how many rentals that may have had some.
    """
    match kind:
        case Kind.PLACES:
            return _erase_places(connection, ages.places_ms)
        case Kind.EARLY_PLACES:
            return erase_early(connection, before_ms=ages.places_ms, limit=EARLY)
        case Kind.TELEMETRY:
            return drop_telemetry(connection, ages.telemetry_ms)
        case Kind.LETTERS:
            return _drop_letters(connection, ages)
        case Kind.STEPS:
            return _drop_steps(connection, ages.steps_ms)
        case Kind.EVENTS:
            return _drop_events(connection, ages, sinks)


def _erase_places(connection: Connection, before_ms: int) -> int:
    table = schema.rentals
    query = (
        select(table.c.vehicle_id, table.c.rental_id)
        .where(
            schema.HAS_PLACES,
            table.c.state.not_in(OPEN_STATES),
            table.c.updated_ms < before_ms,
        )
        .order_by(table.c.updated_ms)
        .limit(RENTALS)
    )

    def due() -> set[tuple[VehicleId, bytes]]:
        rows = connection.execute(query)
        return {(VehicleId.from_text(row.vehicle_id), row.rental_id) for row in rows}

    found = due()
    if not found:
        return 0
    lock_vehicles(connection, [vehicle_id for vehicle_id, _ in found])
    # Once more: another bridge may have heard of one before the lock was ours.
    erase_rentals(connection, found & due())
    return len(found)


def _drop_letters(connection: Connection, ages: Ages) -> int:
    table = schema.dead_letters
    newest = _newest(connection, table.c.id)
    gone = _outlived(
        connection,
        table.c.id,
        table.c.received_ms,
        upto=newest,
        before_ms=ages.letters_ms,
        ahead_ms=ages.ahead_ms,
    )
    _delete(connection, table.c.id, gone)
    return len(gone)


def _drop_steps(connection: Connection, before_ms: int) -> int:
    table = schema.mds_steps
    # The last one of a vehicle stays: it says where it is.
    old = (
        select(table.c.id)
        .where(table.c.at_ms < before_ms, is_followed())
        .order_by(table.c.at_ms, table.c.id)
        .limit(PIECE)
    )
    gone = list(connection.execute(old).scalars())
    _delete(connection, table.c.id, gone)
    return len(gone)


def _drop_events(connection: Connection, ages: Ages, sinks: tuple[str, ...]) -> int:
    table, cursors, lost = schema.outbox, schema.cursors, schema.undelivered
    # The newest stays, so that positions go on rising from it on every engine.
    upto = _newest(connection, table.c.position) - 1
    if sinks:
        query = select(cursors.c.sink, cursors.c.position)
        taken = {row.sink: row.position for row in connection.execute(query)}
        upto = min(upto, *(taken.get(sink, 0) for sink in sinks))
    gone = _outlived(
        connection,
        table.c.position,
        table.c.created_ms,
        upto=upto,
        before_ms=ages.events_ms,
        ahead_ms=ages.ahead_ms,
    )
    _delete(connection, lost.c.position, gone)
    _delete(connection, table.c.position, gone)
    return len(gone)


def _newest(connection: Connection, key: Column[int]) -> int:
    query = select(key).order_by(key.desc()).limit(1)
    return connection.execute(query).scalar_one_or_none() or 0


def _outlived(
    connection: Connection,
    key: Column[int],
    stamp: Column[int],
    *,
    upto: int,
    before_ms: int,
    ahead_ms: int,
) -> list[int]:
    """Return keys of the oldest rows, up to a piece, that came before UTC ms.

    Rows go in the order in which they came. So one of a clock that stepped back waits
    for its turn, and what is kept has no hole: a replay that begins at the oldest event
    misses none. One of a clock that ran ahead is as old as what follows it, or it would
    keep everything behind it for as long as the clock was wrong.

    Args:
        connection: inside a transaction.
        key: rises in the order of coming.
        stamp: when it came, by a clock that may have been wrong then, UTC ms.
        upto: the last key that may go.
        before_ms: UTC ms.
        ahead_ms: a later stamp tells nothing, UTC ms.
    """
    front = select(key, stamp).where(key <= upto).order_by(key).limit(PIECE)
    rows = connection.execute(front).all()
    keys = [row[0] for row in rows]
    count = 0
    for number, (_, came_ms) in enumerate(rows, 1):
        if came_ms < before_ms:
            count = number
        elif came_ms <= ahead_ms:
            return keys[:count]
    if keys and not count:
        came_ms = _came_behind(
            connection, key, stamp, after=keys[-1], ahead_ms=ahead_ms
        )
        if came_ms < before_ms:
            return keys
    return keys[:count]


def _came_behind(
    connection: Connection,
    key: Column[int],
    stamp: Column[int],
    *,
    after: int,
    ahead_ms: int,
) -> int:
    """Return what the first row behind a key tells of when it came, UTC ms."""
    last = connection.execute(select(stamp).order_by(key.desc()).limit(1)).scalar_one()
    if last > ahead_ms:
        # Our own clock may be the one that is wrong: then nothing tells anything.
        return last
    behind = select(stamp).where(key > after, stamp <= ahead_ms).order_by(key).limit(1)
    return connection.execute(behind).scalar_one()


def _delete(connection: Connection, key: Column[int], gone: list[int]) -> None:
    if gone:
        connection.execute(delete(key.table).where(key.in_(gone)))
