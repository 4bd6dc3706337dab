"""Events of a rental's inspection, payment and handover.

They are part of the catalogue in `protocol.event`.
"""

from dataclasses import dataclass
from typing import Final

from protocol.layout import (
    HASH,
    ID,
    U8,
    U32,
    Layout,
    code_of,
    ranged,
    reserved,
    text_up_to,
)
from protocol.place import NO_PLACE
from protocol.rental_codes import DamageKind, DamagePlace, PaymentOutcome

NOTE_LIMIT: Final = 200
"""Bytes of a driver's note in UTF-8."""

NO_PHOTO: Final = bytes(32)
"""The hash of a photo that was not taken."""

DESTINATION_LIMIT: Final = 96
"""Bytes of a destination in UTF-8: a street and a number, also in Cyrillic letters."""

STARS_LIMIT: Final = 5
"""The best rating; the worst is 1."""


@dataclass(frozen=True, slots=True)
class InspectionDone:
    """The driver has seen the known damage and may drive (C9)."""

    rental_id: bytes
    """16 bytes."""


@dataclass(frozen=True, slots=True)
class DamageReported:
    """Somebody reported a damage at the display (C10)."""

    rental_id: bytes
    """16 bytes."""
    place: DamagePlace
    """Where on the car."""
    kind: DamageKind
    """What it is."""
    photo_hash: bytes
    """32 bytes: SHA-256 of a photo that travels elsewhere, or `NO_PHOTO`."""
    note: str
    """The driver's words; up to 200 bytes."""
    place_commitment: bytes = NO_PLACE
    """32 bytes: `protocol.place.commitment_of`, or `NO_PLACE`."""


@dataclass(frozen=True, slots=True)
class CleanlinessRated:
    """The driver rated how clean the car is (C9)."""

    rental_id: bytes
    """16 bytes."""
    inside: int
    """1 to 5, 5 is best."""
    outside: int
    """1 to 5, 5 is best."""


@dataclass(frozen=True, slots=True)
class PaymentRequested:
    """The driver asks the fleet to pay at a pump; the engine is held (C20)."""

    rental_id: bytes
    """16 bytes."""
    payment_id: bytes
    """16 bytes, made by the car; payments are idempotent on it (H3)."""
    station_id: int
    """Which station, of the configuration that the car has."""
    pump: int
    """Its number."""
    place_commitment: bytes = NO_PLACE
    """32 bytes: `protocol.place.commitment_of`, or `NO_PLACE`."""


@dataclass(frozen=True, slots=True)
class PaymentDecided:
    """The fleet's decision about a payment reached the car (C21)."""

    rental_id: bytes
    """16 bytes."""
    payment_id: bytes
    """16 bytes."""
    decision: PaymentOutcome
    """Paid or refused."""


@dataclass(frozen=True, slots=True)
class HandoverOffered:
    """The driver, or the fleet for the driver, offers the car to another (C32)."""

    rental_id: bytes
    """16 bytes."""
    offer_id: bytes
    """16 bytes."""


@dataclass(frozen=True, slots=True)
class HandoverPlanned:
    """Where the driver will be when the car is handed over (C31, F14).

    The offer itself is the `HandoverOffered` before it. These are the driver's own
    words, said in order to be told to others; no position of the car is in them.
    """

    rental_id: bytes
    """16 bytes."""
    offer_id: bytes
    """16 bytes: the offer that it belongs to."""
    destination: str
    """As typed; 1 to 96 bytes from a car, up to 96 on the wire."""


@dataclass(frozen=True, slots=True)
class HandoverAccepted:
    """The driver accepted a second driver."""

    rental_id: bytes
    """16 bytes."""
    offer_id: bytes
    """16 bytes."""


@dataclass(frozen=True, slots=True)
class HandoverDone:
    """The second driver has the car; this rental ends at this instant (H11)."""

    rental_id: bytes
    """16 bytes."""
    new_rental_id: bytes
    """16 bytes: the rental that begins."""


_RENTAL: Final = "rental_id" / ID
_STARS: Final = ranged(U8, 1, STARS_LIMIT)
_PLACE: Final = "place_commitment" / HASH

INSPECTION_DONE: Final = Layout(InspectionDone, _RENTAL)
DAMAGE_REPORTED: Final = Layout(
    DamageReported,
    _RENTAL,
    "place" / code_of(U8, DamagePlace),
    "kind" / code_of(U8, DamageKind),
    reserved(2),
    "photo_hash" / HASH,
    "note" / text_up_to(NOTE_LIMIT),
    _PLACE,
)
CLEANLINESS_RATED: Final = Layout(
    CleanlinessRated, _RENTAL, "inside" / _STARS, "outside" / _STARS, reserved(2)
)
PAYMENT_REQUESTED: Final = Layout(
    PaymentRequested,
    _RENTAL,
    "payment_id" / ID,
    "station_id" / U32,
    "pump" / U8,
    reserved(3),
    _PLACE,
)
PAYMENT_DECIDED: Final = Layout(
    PaymentDecided,
    _RENTAL,
    "payment_id" / ID,
    "decision" / code_of(U8, PaymentOutcome),
    reserved(3),
)
HANDOVER_OFFERED: Final = Layout(HandoverOffered, _RENTAL, "offer_id" / ID)
HANDOVER_PLANNED: Final = Layout(
    HandoverPlanned,
    _RENTAL,
    "offer_id" / ID,
    "destination" / text_up_to(DESTINATION_LIMIT),
)
HANDOVER_ACCEPTED: Final = Layout(HandoverAccepted, _RENTAL, "offer_id" / ID)
HANDOVER_DONE: Final = Layout(HandoverDone, _RENTAL, "new_rental_id" / ID)
