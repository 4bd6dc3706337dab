"""Where an event happened: which events have a place, and what the entry keeps of it.

Rental start, parking, rental end, a payment and a reported damage are what money or a
claim depends on, so there the car may tell where it is although a rental runs (K25).
The entry itself holds a salted commitment only (FF-PLC-01, FF-PLC-08).
"""

from dataclasses import replace

from gateway.core.reading import Position
from protocol.event import EventBody, Parked, RentalEnded, RentalStarted
from protocol.identity import VehicleId
from protocol.place import EventPlace, Place, commitment_of
from protocol.rental_event import DamageReported, PaymentRequested
from protocol.result import Result

Placed = RentalStarted | Parked | RentalEnded | PaymentRequested | DamageReported
"""Events that tell where they happened, if the car knows."""

_AGE_LIMIT_DS = 0xFFFF
"""An age is told in tenths of a second in 16 bits; an older fix is as old as that."""

_UNKNOWN_DM = 0xFFFF
"""An accuracy that does not fit its 16 bits is no accuracy."""


def has_place(body: EventBody | Result) -> bool:
    """Return whether such an entry tells where it happened."""
    return isinstance(body, Placed)


def place_of(
    position: Position, *, ledger_id: bytes, seq: int, salt: bytes
) -> EventPlace:
    """Return the place of an entry.

    Args:
        position: the newest fix.
        ledger_id: the entry's ledger.
        seq: its sequence.
        salt: 16 random bytes that nothing else was given.
    """
    place = Place(
        position.latitude_e7,
        position.longitude_e7,
        position.accuracy_dm if position.accuracy_dm < _UNKNOWN_DM else None,
        min(position.age_ms // 100, _AGE_LIMIT_DS),
    )
    return EventPlace(ledger_id, seq, salt, place)


def committed(
    body: EventBody | Result, told: EventPlace, vehicle_id: VehicleId
) -> EventBody | Result:
    """Return an entry's body with the commitment to its place; others as they are."""
    if not isinstance(body, Placed):
        return body
    return replace(body, place_commitment=commitment_of(vehicle_id, told))
