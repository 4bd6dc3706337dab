"""Rows that prove a rental: its run of the ledger, the receipt, and what belongs to it.

The run begins with the first entry that names the rental and ends with the entry that
the receipt confirms, which may lie a few entries behind the rental's end: a receipt
names the newest entry of its moment, and only up to there the chain is confirmed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from sqlalchemy import Connection, select

from bridge import schema
from bridge.rows.commands import load_commands
from bridge.rows.places import find_places
from bridge.rows.rentals import find_rental
from protocol.codes import FrameClass
from protocol.content import parse_content
from protocol.entry import split_entry
from protocol.errors import DecodeError
from protocol.evidence import ENTRIES_LIMIT
from protocol.frame import parse_frame
from protocol.identity import VehicleId
from protocol.place import EVENT_PLACE
from protocol.receipt import Gap
from protocol.result import RESULT

CHUNK: Final = 256
"""Entries read at once while the rental's beginning is looked for."""

_FRAMES = schema.frames


@dataclass(frozen=True, slots=True)
class RentalProof:
    """The signed parts of one rental."""

    vehicle_id: VehicleId
    """Whose ledger it is."""
    entries: tuple[bytes, ...]
    """A gap-free run of frames."""
    receipt: bytes
    """The frame that confirms the last of them."""
    rotations: tuple[bytes, ...]
    """Every KEY_ROTATED of the vehicle, oldest first."""
    commands: tuple[bytes, ...]
    """Frames that results among the entries answer."""
    places: tuple[bytes, ...]
    """What PLACE frames said that entries are committed to, as far as not erased."""
    missing: tuple[Gap, ...] = ()
    """What was given up of the rental's entries (`bridge.gap_acceptance`), so that the
    run begins behind it."""


def find_proof(connection: Connection, rental_id: bytes) -> RentalProof | None:
    """Return what proves a rental, or None while the fleet has receipted none of it.

    Entries that were given up as missing break the run: it begins behind the last of
    them.
    A rental longer than `ENTRIES_LIMIT` entries is proved from its end backwards.
    """
    rental = find_rental(connection, rental_id)
    if rental is None or rental.receipt is None:
        return None
    name, ledger_id = str(rental.vehicle_id), rental.ledger_id
    last = rental.receipt.upto
    first = max(
        _first_of(connection, name, ledger_id, rental.seq, rental_id),
        last - ENTRIES_LIMIT + 1,
    )
    rows = connection.execute(
        select(_FRAMES.c.seq, _FRAMES.c.data)
        .where(
            _FRAMES.c.vehicle_id == name,
            _FRAMES.c.ledger_id == ledger_id,
            _FRAMES.c.seq.between(first, last),
        )
        .order_by(_FRAMES.c.seq)
    ).all()
    missing = tuple(
        Gap(before.seq + 1, after.seq - 1)
        for before, after in pairwise(rows)
        if after.seq > before.seq + 1
    )
    if missing:
        first = missing[-1].last + 1
    entries = tuple(row.data for row in rows if row.seq >= first)
    return RentalProof(
        vehicle_id=rental.vehicle_id,
        entries=entries,
        receipt=rental.receipt.data,
        rotations=rotations_of(connection, name),
        commands=_commands(connection, entries),
        places=tuple(
            EVENT_PLACE.build(told)
            for _seq, told in sorted(find_places(connection, rental_id).items())
            if told.ledger_id == ledger_id and first <= told.seq <= last
        ),
        missing=missing,
    )


def _first_of(
    connection: Connection, name: str, ledger_id: bytes, seq: int, rental_id: bytes
) -> int:
    """Return the sequence of the first entry that names a rental."""
    first = seq
    for below, frame in _backwards(connection, name, ledger_id, seq):
        if _names(frame, rental_id):
            first = below
        elif first - below >= CHUNK:
            break
    return first


def _backwards(
    connection: Connection, name: str, ledger_id: bytes, seq: int
) -> Iterator[tuple[int, bytes]]:
    query = (
        select(_FRAMES.c.seq, _FRAMES.c.data)
        .where(_FRAMES.c.vehicle_id == name, _FRAMES.c.ledger_id == ledger_id)
        .order_by(_FRAMES.c.seq.desc())
        .limit(CHUNK)
    )
    top = seq
    while True:
        rows = connection.execute(query.where(_FRAMES.c.seq <= top)).all()
        if not rows:
            return
        for row in rows:
            yield row.seq, row.data
        top = rows[-1].seq - 1


def _names(data: bytes, rental_id: bytes) -> bool:
    """Return whether an entry is about a rental; one of a newer kind is not read."""
    try:
        body = parse_content(parse_frame(data)).body
    except DecodeError:
        return False
    return getattr(body, "rental_id", None) == rental_id


def rotations_of(connection: Connection, name: str) -> tuple[bytes, ...]:
    """Return the entries by which a vehicle changed its key, oldest first."""
    told = schema.rotations.c
    rows = connection.execute(
        select(_FRAMES.c.data)
        .join(
            schema.rotations,
            (told.vehicle_id == _FRAMES.c.vehicle_id)
            & (told.ledger_id == _FRAMES.c.ledger_id)
            & (told.seq == _FRAMES.c.seq),
        )
        .where(_FRAMES.c.vehicle_id == name)
        .order_by(told.id)
    )
    return tuple(rows.scalars())


def _commands(connection: Connection, entries: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the commands that results among the entries answer, as far as known."""
    results = [
        RESULT.parse(split_entry(frame.payload)[1])
        for frame in map(parse_frame, entries)
        if frame.header.frame_class is FrameClass.RESULT
    ]
    wanted = [result.request_id for result in results]
    known = load_commands(connection, wanted)
    return tuple(known[one].frame for one in wanted if one in known)
