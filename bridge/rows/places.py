"""Rows of places: the only table that tells where a customer was.

Whatever else a batch writes may be evidence for years; a row here can be emptied at any
time (`erase_places`), and nothing else holds what stood in it but dead letters, which
go with it. It is sealed under a key
of its own (`bridge.place_seal`), which stands in a table beside it and goes with it.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import compress
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    BindParameter,
    Connection,
    LargeBinary,
    Row,
    bindparam,
    delete,
    exists,
    func,
    select,
    update,
)

from bridge import schema
from bridge.place_seal import new_key, open_place, seal_place
from bridge.places import PlaceRecord, PlaceState
from bridge.rows.locks import lock_vehicles
from bridge.rows.statements import chunks, insert_new, look_up_named, upsert
from bridge.workspace import EntryKey, LedgerKey
from protocol.codes import FrameType
from protocol.errors import DecodeError
from protocol.identity import VehicleId
from protocol.packed.frame import parse_frame
from protocol.place import EVENT_PLACE, EventPlace

_TABLE: Final = schema.places
_KEYS: Final = schema.place_keys
_IS_ITS_KEY: Final = (
    (_KEYS.c.vehicle_id == _TABLE.c.vehicle_id)
    & (_KEYS.c.ledger_id == _TABLE.c.ledger_id)
    & (_KEYS.c.seq == _TABLE.c.seq)
)
_LETTERS: Final = schema.dead_letters

_TYPE_AT: Final = 6
"""Where a frame says its type (docs/protocol/frame.md)."""
_TYPE: Final = int(FrameType.PLACE).to_bytes(2, "big")

_NAMED: Final[BindParameter[Any]] = bindparam("named", expanding=True)

WITH_KEYS: Final = select(_TABLE, _KEYS.c.key).outerjoin(_KEYS, _IS_ITS_KEY)
"""Rows as `told_of` wants them."""

_ROWS: Final = (
    "SELECT places.vehicle_id, places.ledger_id, places.seq, places.state, "
    "places.commitment, places.prev_hash, places.rental_id, places.arrivals, "
    "places.sealed, places.came_ms, place_keys.key FROM places LEFT JOIN place_keys "
    "ON place_keys.vehicle_id = places.vehicle_id "
    "AND place_keys.ledger_id = places.ledger_id AND place_keys.seq = places.seq "
)
_AWAITED: Final = (
    # `PlaceState.AWAITED`, in the words of the index `awaited_places`.
    f"{_ROWS}WHERE places.state = 1 AND (places.vehicle_id, places.ledger_id) IN"
)
_OF_ENTRIES: Final = (
    f"{_ROWS}WHERE (places.vehicle_id, places.ledger_id, places.seq) IN"
)
_KEYS_OF: Final = (
    "SELECT vehicle_id, ledger_id, seq, key FROM place_keys "
    "WHERE (vehicle_id, ledger_id, seq) IN"
)

_ENTRIES: Final = select(
    _TABLE.c.vehicle_id,
    _TABLE.c.ledger_id,
    _TABLE.c.seq,
    _TABLE.c.rental_id,
    _TABLE.c.state,
)
_EARLY: Final = (
    _ENTRIES.where(schema.IS_EARLY, _TABLE.c.came_ms < bindparam("before_ms"))
    .order_by(_TABLE.c.came_ms)
    .limit(bindparam("count"))
)
_OF_RENTALS: Final = _ENTRIES.where(_TABLE.c.rental_id.in_(_NAMED))
_ERASE: Final = (
    update(_TABLE)
    .where(
        _TABLE.c.vehicle_id == bindparam("of_vehicle"),
        _TABLE.c.ledger_id == bindparam("of_ledger"),
        _TABLE.c.seq == bindparam("of_seq"),
    )
    .values(state=bindparam("into"), sealed=None)
)
_DELETE_KEY: Final = delete(_KEYS).where(
    _KEYS.c.vehicle_id == bindparam("of_vehicle"),
    _KEYS.c.ledger_id == bindparam("of_ledger"),
    _KEYS.c.seq == bindparam("of_seq"),
)

_RENTALS: Final = schema.rentals
_OF_VEHICLE: Final = (_RENTALS.c.rental_id == bindparam("rental")) & (
    _RENTALS.c.vehicle_id == bindparam("vehicle")
)
_HAS_SOME: Final = (
    update(_RENTALS).where(_OF_VEHICLE, ~_RENTALS.c.has_places).values(has_places=True)
)
_HAS_NONE: Final = update(_RENTALS).where(_OF_VEHICLE).values(has_places=False)


class _PlaceRow(NamedTuple):
    """A row of `_ROWS`, which has the columns of `WITH_KEYS`."""

    vehicle_id: str
    ledger_id: bytes
    seq: int
    state: int
    commitment: bytes
    prev_hash: bytes
    rental_id: bytes
    arrivals: int
    sealed: bytes | None
    came_ms: int
    key: bytes | None


def load_places(
    connection: Connection, ledgers: Iterable[LedgerKey], keys: Iterable[EntryKey]
) -> dict[EntryKey, PlaceRecord]:
    """Return what is known of these places, and all that these ledgers await.

    Args:
        connection: inside a transaction.
        ledgers: those that await any.
        keys: entries.
    """
    found: dict[EntryKey, PlaceRecord] = {}
    for chunk in chunks((str(vehicle), ledger) for vehicle, ledger in ledgers):
        found |= _records(look_up_named(connection, _AWAITED, chunk))
    for part in chunks((str(vehicle), ledger, seq) for vehicle, ledger, seq in keys):
        found |= _records(look_up_named(connection, _OF_ENTRIES, part))
    return found


def _records(rows: Iterable[Iterable[Any]]) -> dict[EntryKey, PlaceRecord]:
    found = (_PlaceRow(*row) for row in rows)
    return {_key(row): _record(row) for row in found}


def write_places(
    connection: Connection, changed: Mapping[EntryKey, PlaceRecord]
) -> None:
    """Write what a batch changed."""
    keys = _keys_for(connection, [k for k, record in changed.items() if record.told])
    rows = [
        {
            "vehicle_id": str(vehicle_id),
            "ledger_id": ledger_id,
            "seq": seq,
            "state": int(record.state),
            "commitment": record.commitment,
            "prev_hash": record.prev_hash,
            "rental_id": record.rental_id,
            "arrivals": record.arrivals,
            "sealed": None
            if record.told is None
            else seal_place(
                keys[vehicle_id, ledger_id, seq], str(vehicle_id), record.told
            ),
            "came_ms": record.came_ms,
        }
        for (vehicle_id, ledger_id, seq), record in changed.items()
    ]
    if rows:
        connection.execute(upsert(connection, _TABLE), rows)
    # An entry that waits behind a gap, or is told late, writes no rental.
    rentals = _named(
        {
            (vehicle_id, record.rental_id)
            for (vehicle_id, _, _), record in changed.items()
            if record.rental_id
        }
    )
    if rentals:
        connection.execute(_HAS_SOME, rentals)


def _named(rentals: AbstractSet[tuple[VehicleId, bytes]]) -> list[dict[str, object]]:
    return [
        {"vehicle": str(vehicle_id), "rental": rental_id}
        for vehicle_id, rental_id in rentals
    ]


def _keys_for(connection: Connection, wanted: list[EntryKey]) -> dict[EntryKey, bytes]:
    """Return the key of each of these places; make those that are not there.

    One that is there stays, so that it still opens what a backup has of the place.
    """
    found: dict[EntryKey, bytes] = {}
    if not wanted:
        return found
    unique = [column.name for column in _KEYS.primary_key]
    made = [
        {"vehicle_id": str(vehicle), "ledger_id": ledger, "seq": seq, "key": new_key()}
        for vehicle, ledger, seq in wanted
    ]
    connection.execute(insert_new(connection, _KEYS, unique=unique), made)
    for chunk in chunks((str(vehicle), ledger, seq) for vehicle, ledger, seq in wanted):
        rows = look_up_named(connection, _KEYS_OF, chunk)
        found |= {
            (VehicleId.from_text(name), ledger_id, seq): key
            for name, ledger_id, seq, key in rows
        }
    return found


def erase_places(connection: Connection, rental_id: bytes) -> int:
    """Empty every place of a rental; return how many there were.

    The row stays, so that a frame that comes again is not taken for a new place.
    """
    of_rental = select(_TABLE.c.vehicle_id).where(_TABLE.c.rental_id == rental_id)
    names = set(connection.execute(of_rental).scalars())
    lock_vehicles(connection, [VehicleId.from_text(name) for name in names])
    rows = connection.execute(_ENTRIES.where(_TABLE.c.rental_id == rental_id)).all()
    return _empty(connection, rows)


def erase_rentals(
    connection: Connection, rentals: AbstractSet[tuple[VehicleId, bytes]]
) -> int:
    """Empty every place of these rentals of these vehicles; return how many there were.

    Args:
        connection: in a transaction that has locked these vehicles.
        rentals: vehicle and rental id. In one call where there are several, for dead
            letters have no index by entry and all of them are looked through.
    """
    entries = []
    # By the rental alone: PostgreSQL plans for longer than it would read all pairs.
    for chunk in chunks({rental_id for _, rental_id in rentals}):
        rows = connection.execute(_OF_RENTALS, {"named": chunk})
        entries += [
            row
            for row in rows
            if (VehicleId.from_text(row.vehicle_id), row.rental_id) in rentals
        ]
    if rentals:
        connection.execute(_HAS_NONE, _named(rentals))
    return _empty(connection, entries)


def erase_early(connection: Connection, *, before_ms: int, limit: int) -> int:
    """Empty places whose entry has not come; return how many were found.

    The row stays, and so the place does not come back before its entry.

    Args:
        connection: inside a transaction; it locks their vehicles.
        before_ms: those that came before UTC ms, the oldest first.
        limit: as many at most.
    """

    def due() -> Sequence[Row[*tuple[Any, ...]]]:
        values = {"before_ms": before_ms, "count": limit}
        return connection.execute(_EARLY, values).all()

    found = {_key(row) for row in due()}
    if not found:
        return 0
    lock_vehicles(connection, {vehicle_id for vehicle_id, _, _ in found})
    # Once more: the entry may have come to another bridge before the lock was ours.
    rows = [row for row in due() if _key(row) in found]
    _empty(connection, rows, into=PlaceState.LAPSED)
    return len(found)


def _empty(
    connection: Connection,
    rows: Sequence[Row[*tuple[Any, ...]]],
    *,
    into: PlaceState = PlaceState.ERASED,
) -> int:
    """Delete the keys of places, and what the keys opened; return how many there were.

    Args:
        connection: in a transaction that has locked their vehicles.
        rows: of `_ENTRIES`.
        into: what they are then.
    """
    named = [
        {"of_vehicle": row.vehicle_id, "of_ledger": row.ledger_id, "of_seq": row.seq}
        for row in rows
    ]
    if not named:
        return 0
    # Each by its own key: to name many in one statement is to read the table, for
    # SQLite, and to plan for longer than to read it, for PostgreSQL.
    connection.execute(_DELETE_KEY, named)
    is_left = [row.state != int(PlaceState.ERASED) for row in rows]
    left = list(compress(named, is_left))
    if left:
        connection.execute(_ERASE, [one | {"into": int(into)} for one in left])
    _drop_letters(connection, {_key(row) for row in rows})
    return len(left)


def _drop_letters(connection: Connection, entries: AbstractSet[EntryKey]) -> None:
    """Delete dead letters that tell where one of these entries happened.

    One that came before its car's record was there was kept as it came, and a place
    that is not believed may still be the true one.
    """
    if not entries:
        return
    first = func.substr(_LETTERS.c.data, _TYPE_AT + 1, len(_TYPE), type_=LargeBinary)
    query = select(_LETTERS.c.id, _LETTERS.c.data).where(first == _TYPE)
    found = [row.id for row in connection.execute(query) if _told(row.data) in entries]
    for chunk in chunks(found):
        connection.execute(delete(_LETTERS).where(_LETTERS.c.id.in_(chunk)))


def _told(data: bytes) -> EntryKey | None:
    try:
        frame = parse_frame(data)
        told = EVENT_PLACE.parse(frame.payload)
    except DecodeError:
        return None
    return frame.header.vehicle_id, told.ledger_id, told.seq


def settle_keys(connection: Connection) -> int:
    """Erase places of a restored store whose keys are gone; return how many there were.

    They were erased after the backup, or their keys were not put back. A frame that
    comes again must not bring them back, nor may a key without a place stay.
    """
    is_there = exists().where(_IS_ITS_KEY)
    unreadable = _TABLE.c.sealed.is_not(None) & ~is_there
    count = _empty(connection, connection.execute(_ENTRIES.where(unreadable)).all())
    connection.execute(delete(_KEYS).where(~exists(_TABLE.c.seq).where(_IS_ITS_KEY)))
    return count


def find_places(connection: Connection, rental_id: bytes) -> dict[int, EventPlace]:
    """Return the places of a rental that are there and fit, by sequence."""
    query = WITH_KEYS.where(
        _TABLE.c.rental_id == rental_id, _TABLE.c.state == int(PlaceState.HELD)
    )
    records = {row.seq: _record(row) for row in connection.execute(query)}
    return {seq: r.told for seq, r in records.items() if r.told is not None}


def _key(row: Row[Any] | _PlaceRow) -> EntryKey:
    return VehicleId.from_text(row.vehicle_id), row.ledger_id, row.seq


def told_of(row: Row[Any] | _PlaceRow) -> EventPlace | None:
    """Return the place of a row of `WITH_KEYS`, or None: not told, or erased."""
    if row.sealed is None or row.key is None:
        return None
    return open_place(row.key, row.vehicle_id, row.ledger_id, row.seq, row.sealed)


def _record(row: Row[Any] | _PlaceRow) -> PlaceRecord:
    return PlaceRecord(
        PlaceState(row.state),
        told_of(row),
        row.commitment,
        row.prev_hash,
        row.rental_id,
        row.arrivals,
        row.came_ms,
    )
