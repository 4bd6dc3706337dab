"""The log of telemetry: what samples came when, for a while.

Theory of operation. Samples are most of what is stored, and nobody changes one. So the
frames of a batch lie in one row, in the order in which they came, and rows lie in that
order too: a frame costs the disk its own bytes. A ring of slots for each car, which
this replaces, wrote a page of 4 KB for every frame of a large fleet.

Who looks for one car reads past the others: that is done at the start (`told_since`)
and for a city (`samples_between`), not for each frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, select

from bridge import schema
from protocol.frame import OVERHEAD
from protocol.identity import VehicleId

KEPT_FRAMES: Final = 4_000_000
"""The newest frames that are kept, if age does not let them go before: about 1 GB, two
hours of 14,000 cars in a city and 400 s at 10,000 frames a second."""

TRIM_EACH: Final = 16
"""Rows between two looks at what is too much."""

TRIM_ROWS: Final = 64
"""Rows that one look lets go at most: some megabytes."""

_ID: Final = slice(12, 28)
"""Where a frame names its vehicle (docs/protocol.md, section 2)."""

_SIZE: Final = slice(10, 12)
"""Where it says how long its payload is."""

_TABLE: Final = schema.telemetry
_NEWEST: Final = select(_TABLE.c.upto).order_by(_TABLE.c.id.desc()).limit(1)
_OLDEST: Final = (
    select(_TABLE.c.id, _TABLE.c.upto).order_by(_TABLE.c.id).limit(TRIM_ROWS)
)


@dataclass(frozen=True, slots=True)
class StoredSamples:
    """A telemetry frame as it is kept."""

    vehicle_id: VehicleId
    """Whose."""
    row: int
    """The batch that it came in."""
    place: int
    """Where in that batch, from 0."""
    data: bytes
    """The frame."""
    received_ms: int
    """UTC ms when it was received."""


def frames_in(data: bytes) -> Iterator[bytes]:
    """Yield the frames of a row."""
    at = 0
    while at < len(data):
        head = data[at : at + _SIZE.stop]
        end = at + OVERHEAD + int.from_bytes(head[_SIZE], "big")
        yield data[at:end]
        at = end


def write_telemetry(
    connection: Connection, frames: Sequence[bytes], *, now: int
) -> None:
    """Append the frames of a batch, and let go of what is too much.

    Two bridges that append at one moment count the same frames: then a few more are
    kept than `KEPT_FRAMES`.

    Args:
        connection: inside a transaction.
        frames: verified, in the order in which they came.
        now: UTC ms.
    """
    if not frames:
        return
    upto = (connection.execute(_NEWEST).scalar_one_or_none() or 0) + len(frames)
    row = {"received_ms": now, "upto": upto, "data": b"".join(frames)}
    made = connection.execute(_TABLE.insert().returning(_TABLE.c.id), row).scalar_one()
    if made % TRIM_EACH == 0:
        _trim(connection, upto)


def _trim(connection: Connection, newest: int) -> None:
    old = [
        row.id
        for row in connection.execute(_OLDEST)
        if row.upto <= newest - KEPT_FRAMES
    ]
    if old:
        connection.execute(delete(_TABLE).where(_TABLE.c.id.in_(old)))


def drop_telemetry(connection: Connection, before_ms: int) -> int:
    """Let go of a few rows that came before UTC ms; return how many."""
    oldest = (
        select(_TABLE.c.id)
        .where(_TABLE.c.received_ms < before_ms)
        # Without it an engine may look for them from either end of the table.
        .order_by(_TABLE.c.received_ms)
        .limit(TRIM_ROWS)
    )
    old = list(connection.execute(oldest).scalars())
    if old:
        connection.execute(delete(_TABLE).where(_TABLE.c.id.in_(old)))
    return len(old)


def told_since(connection: Connection, since_ms: int) -> Iterator[StoredSamples]:
    """Yield every frame that came at UTC ms or later, in the order of their coming."""
    query = select(_TABLE).where(_TABLE.c.received_ms >= since_ms).order_by(_TABLE.c.id)
    for row in connection.execute(query):
        for place, data in enumerate(frames_in(row.data)):
            yield _stored(row.id, place, data, row.received_ms)


def samples_between(
    connection: Connection,
    since_ms: int,
    until_ms: int,
    *,
    after: tuple[int, int],
    limit: int,
) -> list[StoredSamples]:
    """Return the next frames that came in a span, behind a row and a place in it."""
    row_id, place = after
    rows = (
        select(_TABLE.c.id)
        .where(
            _TABLE.c.received_ms >= since_ms,
            _TABLE.c.received_ms < until_ms,
            _TABLE.c.id >= row_id,
        )
        .order_by(_TABLE.c.id)
        .limit(limit + 1)
    )
    found: list[StoredSamples] = []
    # One by one: a row of a busy bridge holds hundreds of frames.
    for one in connection.execute(rows).scalars().all():
        row = connection.execute(select(_TABLE).where(_TABLE.c.id == one)).one()
        for number, data in enumerate(frames_in(row.data)):
            if (one, number) > (row_id, place):
                found.append(_stored(one, number, data, row.received_ms))
        if len(found) >= limit:
            break
    return found[:limit]


def _stored(row: int, place: int, data: bytes, received_ms: int) -> StoredSamples:
    return StoredSamples(VehicleId(data[_ID]), row, place, data, received_ms)
