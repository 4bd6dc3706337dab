"""What a city asks about rentals: places that are there, and reports."""

from collections.abc import Iterable
from typing import Final

import msgspec
from sqlalchemy import Connection, func, select, tuple_

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


def places_of(
    connection: Connection, rentals: Iterable[RentalKey]
) -> dict[RentalKey, dict[int, Place]]:
    """Return the places of rentals that are there and fit, by sequence."""
    found: dict[RentalKey, dict[int, Place]] = {}
    key = tuple_(_PLACES.c.vehicle_id, _PLACES.c.rental_id)
    for chunk in chunks((str(vehicle), rental) for vehicle, rental in rentals):
        query = WITH_KEYS.where(
            _PLACES.c.state == int(PlaceState.HELD), key.in_(chunk)
        ).order_by(_PLACES.c.seq)
        for row in connection.execute(query):
            told = told_of(row)
            if told is not None:
                rental = (VehicleId.from_text(row.vehicle_id), row.rental_id)
                found.setdefault(rental, {})[row.seq] = told.place
    return found


def distances_of(
    connection: Connection, rentals: Iterable[RentalKey]
) -> dict[RentalKey, int]:
    """Return how far rentals drove, in metres, where their reports say so."""
    found: dict[RentalKey, int] = {}
    key = tuple_(_RENTALS.c.vehicle_id, _RENTALS.c.rental_id)
    for chunk in chunks((str(vehicle), rental) for vehicle, rental in rentals):
        query = select(_RENTALS).where(_RENTALS.c.report.is_not(None), key.in_(chunk))
        for row in connection.execute(query):
            distance_m = msgspec.json.decode(row.report).get("distance_m")
            if isinstance(distance_m, int):
                rental = (VehicleId.from_text(row.vehicle_id), row.rental_id)
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
