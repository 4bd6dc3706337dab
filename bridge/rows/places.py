"""Rows of places: the only table that tells where a customer was.

Whatever else a batch writes may be evidence for years; a row here can be emptied at any
time (`erase_places`), and nothing else holds what stood in it.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Row, bindparam, select, tuple_, update

from bridge import schema
from bridge.places import PlaceRecord, PlaceState
from bridge.rows.locks import lock_vehicles
from bridge.rows.statements import chunks, upsert
from bridge.workspace import EntryKey, LedgerKey
from protocol.identity import VehicleId
from protocol.packed.place import PLACE
from protocol.place import EventPlace

_TABLE: Final = schema.places
_KEY: Final = tuple_(_TABLE.c.vehicle_id, _TABLE.c.ledger_id, _TABLE.c.seq)
_LEDGER: Final = tuple_(_TABLE.c.vehicle_id, _TABLE.c.ledger_id)

_NAMED: Final[BindParameter[Any]] = bindparam("named", expanding=True)
_AWAITED: Final = select(_TABLE).where(
    _TABLE.c.state == int(PlaceState.AWAITED), _LEDGER.in_(_NAMED)
)
_OF_ENTRIES: Final = select(_TABLE).where(_KEY.in_(_NAMED))


def load_places(
    connection: Connection, ledgers: Iterable[LedgerKey], keys: Iterable[EntryKey]
) -> dict[EntryKey, PlaceRecord]:
    """Return what is known of these places, and all that these ledgers await."""
    found: dict[EntryKey, PlaceRecord] = {}
    for chunk in chunks((str(vehicle), ledger) for vehicle, ledger in ledgers):
        rows = connection.execute(_AWAITED, {"named": chunk})
        found |= {_key(row): _record(row) for row in rows}
    for part in chunks((str(vehicle), ledger, seq) for vehicle, ledger, seq in keys):
        rows = connection.execute(_OF_ENTRIES, {"named": part})
        found |= {_key(row): _record(row) for row in rows}
    return found


def write_places(
    connection: Connection, changed: Mapping[EntryKey, PlaceRecord]
) -> None:
    """Write what a batch changed."""
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
            "salt": None if record.told is None else record.told.salt,
            "place": None if record.told is None else PLACE.build(record.told.place),
        }
        for (vehicle_id, ledger_id, seq), record in changed.items()
    ]
    if rows:
        connection.execute(upsert(connection, _TABLE), rows)


def erase_places(connection: Connection, rental_id: bytes) -> int:
    """Empty every place of a rental; return how many there were.

    The row stays, so that a frame that comes again is not taken for a new place.
    """
    of_rental = select(_TABLE.c.vehicle_id).where(_TABLE.c.rental_id == rental_id)
    names = set(connection.execute(of_rental).scalars())
    lock_vehicles(connection, [VehicleId.from_text(name) for name in names])
    erased = connection.execute(
        update(_TABLE)
        .where(
            _TABLE.c.rental_id == rental_id, _TABLE.c.state != int(PlaceState.ERASED)
        )
        .values(state=int(PlaceState.ERASED), salt=None, place=None)
    )
    return erased.rowcount


def find_places(connection: Connection, rental_id: bytes) -> dict[int, EventPlace]:
    """Return the places of a rental that are there and fit, by sequence."""
    query = select(_TABLE).where(
        _TABLE.c.rental_id == rental_id, _TABLE.c.state == int(PlaceState.HELD)
    )
    records = {row.seq: _record(row) for row in connection.execute(query)}
    return {seq: r.told for seq, r in records.items() if r.told is not None}


def _key(row: Row[tuple[object, ...]]) -> EntryKey:
    return VehicleId.from_text(row.vehicle_id), row.ledger_id, row.seq


def _record(row: Row[tuple[object, ...]]) -> PlaceRecord:
    told = None
    if row.place is not None:
        told = EventPlace(row.ledger_id, row.seq, row.salt, PLACE.parse(row.place))
    return PlaceRecord(
        PlaceState(row.state),
        told,
        row.commitment,
        row.prev_hash,
        row.rental_id,
        row.arrivals,
    )
