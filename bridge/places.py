"""Places of ledger entries: checked, kept apart, awaited and erased; no I/O.

An entry commits to its place, and the place comes in a frame of its own, before it as a
rule. What comes is believed if it fits the commitment, and goes into a table of its
own, so that it can be erased and the ledger still verifies (K25, K26).

Rule 1: the receipt of an entry waits for its place, since the car forgets the place
with it; it waits for three arrivals of the entry at most (FF-PLC-06).
Rule 2: a place that does not fit is not kept, and is an alarm (FF-PLC-05).
Rule 3: what was erased stays erased, whoever sends the old frame again. Only a place
that went because its entry had not come is awaited anew once that comes: it is needed
then, and the car still has what has no receipt.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum, unique
from typing import Final

from protocol.identity import VehicleId
from protocol.place import EventPlace, commitment_of

ARRIVALS: Final = 3
"""An entry that has come so often without its place gets its receipt all the same."""

AHEAD_LIMIT: Final = 512
"""How far before its entry a place is kept: twice what a ledger may hold beyond a gap,
so that a car cannot fill the store with places of entries that never come."""


@unique
class PlaceState(IntEnum):
    """How much of an entry's place is there; numbers are stored."""

    EARLY = 0
    """The place is there and waits for its entry."""
    AWAITED = 1
    """The entry is there and waits for its place."""
    HELD = 2
    """Both are there and fit."""
    MISSING = 3
    """The entry has come too often without it."""
    ERASED = 4
    """It was there, or might have come, and is to be known no more."""
    LAPSED = 5
    """It was there, was erased since its entry did not come, and waits for that."""


@dataclass(frozen=True, slots=True)
class PlaceRecord:
    """The place of one entry, as far as it is known."""

    state: PlaceState
    """How far."""
    told: EventPlace | None = None
    """The place and its salt."""
    commitment: bytes = b""
    """32 bytes, of the entry; empty before it came."""
    prev_hash: bytes = b""
    """32 bytes: the entry before it, which can be receipted without it."""
    rental_id: bytes = b""
    """16 bytes, of the entry: whose place it is."""
    arrivals: int = 0
    """How often the entry has come without its place."""
    came_ms: int = 0
    """Since when the place waits for its entry, UTC ms; 0 if it does not."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of a place or its entry."""

    record: PlaceRecord | None
    """To be stored; None to leave it as it is."""
    note: str
    """For people."""
    is_contradicted: bool = False
    """Whether a place did not fit, which is an alarm."""


def place_came(  # noqa: PLR0911 - one for each state
    known: PlaceRecord | None,
    told: EventPlace,
    vehicle_id: VehicleId,
    *,
    upto: int,
    now: int,
) -> Judged:
    """Judge a place that came.

    Args:
        known: what is known of the entry's place.
        told: what came, verified to be the car's.
        vehicle_id: the car.
        upto: the ledger is told up to here.
        now: UTC ms.
    """
    if known is None:
        if not upto < told.seq <= upto + AHEAD_LIMIT:
            return Judged(None, "place of no entry that is awaited")
        return Judged(PlaceRecord(PlaceState.EARLY, told, came_ms=now), "")
    match known.state:
        case PlaceState.EARLY:
            # It has waited since the first one, or a car that repeats it could keep it.
            return Judged(replace(known, told=told), "")
        case PlaceState.ERASED:
            return Judged(None, "place was erased")
        case PlaceState.LAPSED:
            return Judged(None, "place was erased, and its entry has not come")
        case PlaceState.HELD if known.told == told:
            return Judged(None, "duplicate")
        case PlaceState.HELD | PlaceState.AWAITED | PlaceState.MISSING:
            if commitment_of(vehicle_id, told) != known.commitment:
                return Judged(None, "place contradicts its entry", is_contradicted=True)
            return Judged(replace(known, state=PlaceState.HELD, told=told), "")


def entry_came(
    known: PlaceRecord | None,
    vehicle_id: VehicleId,
    *,
    commitment: bytes,
    prev_hash: bytes,
    rental_id: bytes,
) -> Judged:
    """Judge the arrival of a stored entry that commits to a place, the first or not."""
    awaited = PlaceRecord(
        PlaceState.AWAITED, None, commitment, prev_hash, rental_id, arrivals=1
    )
    if known is None or known.state is PlaceState.LAPSED:
        return Judged(awaited, "")
    if known.state is PlaceState.EARLY and known.told is not None:
        if commitment_of(vehicle_id, known.told) != commitment:
            return Judged(awaited, "place contradicts its entry", is_contradicted=True)
        return Judged(replace(awaited, state=PlaceState.HELD, told=known.told), "")
    if known.state is not PlaceState.AWAITED:
        return Judged(None, "")
    arrivals = known.arrivals + 1
    if arrivals < ARRIVALS:
        return Judged(replace(known, arrivals=arrivals), "without its place")
    missing = replace(known, state=PlaceState.MISSING, arrivals=arrivals)
    return Judged(missing, "without its place for good")


def receiptable(
    upto: int, head_hash: bytes, awaited: Mapping[int, PlaceRecord]
) -> tuple[int, bytes]:
    """Return how far a ledger may be receipted, and the hash of the entry there.

    Args:
        upto: the last entry with every one before it.
        head_hash: its hash.
        awaited: entries of this ledger whose place is awaited, by sequence.
    """
    first = min((seq for seq in awaited if seq <= upto), default=None)
    if first is None:
        return upto, head_hash
    return first - 1, awaited[first].prev_hash
