"""Places: where something happened, kept apart from the ledger that tells that it did.

A position that belongs to an event stands in no ledger entry. The entry holds a salted
commitment to it, and the position travels in a frame of its own, so that a fleet can
erase a customer's positions and the chain still verifies (protocol-design.md 6, K25,
K26). The salt goes with the position: without it nobody can try places against the
commitment that is left.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import construct as cs

from protocol.entry import LEDGER_ID_SIZE
from protocol.identity import VehicleId
from protocol.layout import ID, U16, U64, Layout, measured, ranged

NO_PLACE: Final = bytes(32)
"""The commitment of an event without a place."""

E7: Final = 10_000_000
"""Units of one degree."""

_S32: Final = cs.Int32sb

LATITUDE_E7: Final = ranged(_S32, -90 * E7, 90 * E7)
LONGITUDE_E7: Final = ranged(_S32, -180 * E7, 180 * E7)


@dataclass(frozen=True, slots=True)
class Place:
    """A fix, as exact as it was taken."""

    latitude_e7: int
    """Degrees times 10^7, WGS 84."""
    longitude_e7: int
    """Degrees times 10^7, WGS 84."""
    accuracy_dm: int | None
    """Horizontal accuracy in tenths of a metre."""
    fix_age_ds: int
    """How long before the event the fix was taken, in tenths of a second."""


@dataclass(frozen=True, slots=True)
class EventPlace:
    """The payload of a PLACE frame: the place of one ledger entry."""

    ledger_id: bytes
    """8 bytes: the entry's ledger."""
    seq: int
    """The entry's sequence."""
    salt: bytes
    """16 random bytes, of this entry alone."""
    place: Place
    """Where it happened."""


PLACE: Final = Layout(
    Place,
    "latitude_e7" / LATITUDE_E7,
    "longitude_e7" / LONGITUDE_E7,
    "accuracy_dm" / measured(U16, 0xFFFF),
    "fix_age_ds" / U16,
)
"""12 bytes."""

EVENT_PLACE: Final = Layout(
    EventPlace,
    "ledger_id" / cs.Bytes(LEDGER_ID_SIZE),
    "seq" / U64,
    "salt" / ID,
    "place" / PLACE.nested(),
)
"""44 bytes."""


def commitment_of(vehicle_id: VehicleId, told: EventPlace) -> bytes:
    """Return the 32 bytes by which an entry commits to its place.

    It binds vehicle, ledger, sequence, salt and every field of the place; all are of
    fixed size, so no two of them run into one another.

    Raises:
        EncodeError: a value does not fit its field.
    """
    return hashlib.sha256(
        b"ff-place-v1\0" + vehicle_id.raw + EVENT_PLACE.build(told)
    ).digest()
