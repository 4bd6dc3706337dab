"""What a city asks about rentals: places that are there, and reports.

Both are looked up by the rental's id alone, which has an index; a list of pairs of
vehicle and rental made SQLite read the whole table. Who else claims the id is left out
afterwards.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, select

from bridge import schema
from bridge.places import PlaceState
from bridge.rows.places import WITH_KEYS, told_of
from bridge.rows.statements import chunks
from protocol.codes import ConfigKind
from protocol.identity import VehicleId
from protocol.place import Place

_PLACES: Final = schema.places
_RENTALS: Final = schema.rentals

RentalKey = tuple[VehicleId, bytes]
"""Vehicle and rental: two cars may claim one rental id."""


class RentalPlaces:
    """The places of one rental that are kept, by sequence.

    Each is opened when it is asked for: opening takes longer than reading the row, and
    most events of a rental need none.
    """

    __slots__ = ("_opened", "_rows")

    def __init__(self) -> None:
        self._rows: dict[int, Row[Any]] = {}
        self._opened: dict[int, Place | None] = {}

    def keep(self, row: Row[Any]) -> None:
        """Take a row of `WITH_KEYS`; rows come in the order of their sequences."""
        self._rows[row.seq] = row

    def at(self, seq: int) -> Place | None:
        """Return the place of an entry, or None: there is none, or it does not fit."""
        if seq not in self._rows:
            return None
        if seq not in self._opened:
            told = told_of(self._rows[seq])
            self._opened[seq] = None if told is None else told.place
        return self._opened[seq]

    def first(self) -> tuple[int, Place] | None:
        """Return the first place that there is, behind its sequence, or None."""
        for seq in self._rows:
            place = self.at(seq)
            if place is not None:
                return seq, place
        return None


def places_of(
    connection: Connection, rentals: Iterable[RentalKey]
) -> dict[RentalKey, RentalPlaces]:
    """Return the places of rentals that are kept; of some there are none."""
    found: dict[RentalKey, RentalPlaces] = {}
    wanted = set(rentals)
    for chunk in chunks({rental for _, rental in wanted}):
        query = WITH_KEYS.where(
            _PLACES.c.state == int(PlaceState.HELD), _PLACES.c.rental_id.in_(chunk)
        ).order_by(_PLACES.c.seq)
        for row in connection.execute(query):
            rental = (VehicleId.from_text(row.vehicle_id), row.rental_id)
            if rental in wanted:
                found.setdefault(rental, RentalPlaces()).keep(row)
    return found


def distances_of(
    connection: Connection, rentals: Iterable[RentalKey]
) -> dict[RentalKey, int]:
    """Return how far rentals drove, in metres, where their reports say so."""
    found: dict[RentalKey, int] = {}
    wanted = set(rentals)
    for chunk in chunks({rental for _, rental in wanted}):
        query = select(_RENTALS).where(
            _RENTALS.c.report.is_not(None), _RENTALS.c.rental_id.in_(chunk)
        )
        for row in connection.execute(query):
            rental = (VehicleId.from_text(row.vehicle_id), row.rental_id)
            if rental not in wanted:
                continue
            distance_m = msgspec.json.decode(row.report).get("distance_m")
            if isinstance(distance_m, int):
                found[rental] = distance_m
    return found


def common_area(connection: Connection) -> bytes | None:
    """Return the business area that most cars are to have, or None."""
    table = schema.configurations
    is_area = table.c.kind == int(ConfigKind.BUSINESS_AREA)
    most = (
        select(table.c.sha256)
        .where(is_area)
        .group_by(table.c.sha256)
        .order_by(func.count().desc(), table.c.sha256)
        .limit(1)
    )
    digest = connection.execute(most).scalar_one_or_none()
    if digest is None:
        return None
    query = select(table.c.body).where(is_area, table.c.sha256 == digest).limit(1)
    body: bytes = connection.execute(query).scalar_one()
    return body
