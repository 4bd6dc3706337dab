"""Rows of dead letters: bytes that are kept and not believed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select

from bridge import schema
from bridge.rows.statements import storable
from bridge.workspace import DeadLetter, LetterKind

LETTERS_LIMIT: Final = 10_000
"""Dead letters kept: 40 MB at most, so that a forger cannot fill the disk."""

REASON_LIMIT: Final = 512
TOPIC_LIMIT: Final = 256

_TABLE = schema.dead_letters


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A dead letter as it is kept."""

    letter_id: int
    """Rises; names it for `freefloat bridge judge`."""
    kind: LetterKind
    """Why, for programs."""
    topic: str
    """Where it came."""
    data: bytes
    """As received."""
    reason: str
    """Why, for people."""
    received_ms: int
    """UTC ms."""


def write_letters(
    connection: Connection, letters: Sequence[DeadLetter], *, now: int
) -> None:
    """Keep letters, and let go of the oldest beyond the limit."""
    if not letters:
        return
    rows = [
        {
            "kind": letter.kind.value,
            "topic": storable(letter.topic)[:TOPIC_LIMIT],
            "data": letter.data,
            "reason": storable(letter.reason)[:REASON_LIMIT],
            "received_ms": now,
        }
        for letter in letters
    ]
    # In one statement: a flood would otherwise cost a round trip for each.
    connection.execute(insert(_TABLE), rows)
    last = connection.execute(select(func.max(_TABLE.c.id))).scalar_one()
    connection.execute(delete(_TABLE).where(_TABLE.c.id <= last - LETTERS_LIMIT))


def find_letters(
    connection: Connection, *, before: int | None, limit: int
) -> list[StoredLetter]:
    """Return letters, the newest first; `before` is the last id of the page before."""
    query = select(_TABLE).order_by(_TABLE.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(_TABLE.c.id < before)
    return [_letter(row) for row in connection.execute(query)]


def find_letter(connection: Connection, letter_id: int) -> StoredLetter | None:
    """Return one letter, or None."""
    query = select(_TABLE).where(_TABLE.c.id == letter_id)
    row = connection.execute(query).one_or_none()
    return None if row is None else _letter(row)


def take_letter(connection: Connection, letter_id: int) -> None:
    """Let go of a letter: it is judged anew in the same transaction."""
    connection.execute(delete(_TABLE).where(_TABLE.c.id == letter_id))


def _letter(row: Row[Any]) -> StoredLetter:
    return StoredLetter(
        row.id, LetterKind(row.kind), row.topic, row.data, row.reason, row.received_ms
    )
