"""Rows of the ledger's file as what they mean; a row of other types is damage."""

import hashlib
from collections.abc import Iterator
from typing import Final

import apsw

from gateway.core.authentication import JournalRecord
from gateway.core.configuration import Active
from gateway.core.ledger import LedgerHead, SealedEntry
from gateway.ports import Origin
from gateway.storage.database import SqlValue
from gateway.storage.errors import StoreDamagedError
from protocol.codes import Code, FrameClass

NUMBER_LIMIT: Final = (1 << 63) - 1
"""SQLite's largest integer; the wire's are of 64 bits."""

SEQ_LIMIT: Final = 1 << 62
"""No ledger gets so far; beyond it a next entry could no longer be stored."""

STARTS_LIMIT: Final = 0xFFFF_FFFF
"""The wire's boot counter has 32 bits."""


def entry(row: tuple[SqlValue, ...]) -> SealedEntry:
    """Return the entry of a row (seq, class, frame, hash, request_id[, place])."""
    seq, frame_class, frame, entry_hash, request_id, *rest = row
    return SealedEntry(
        seq=number(seq),
        frame_class=_class_of(frame_class),
        frame=plain_bytes(frame),
        hash=plain_bytes(entry_hash),
        request_id=None if request_id is None else plain_bytes(request_id),
        place=next((plain_bytes(place) for place in rest if place is not None), None),
    )


def journal(connection: apsw.Connection) -> Iterator[JournalRecord]:
    """Yield the known commands, oldest first."""
    for msg_id, request_hash, result, code in connection.execute(
        "select msg_id, request_hash, result, code from journal order by place"
    ):
        yield JournalRecord(msg_id, request_hash, result, code_of(code))


def configurations(connection: apsw.Connection) -> Iterator[Active]:
    """Yield what is in force.

    Raises:
        StoreDamagedError: a body is not the one whose hash stands beside it.
    """
    for kind, version, sha256, body in connection.execute(
        "select kind, version, sha256, body from configuration order by kind"
    ):
        if hashlib.sha256(plain_bytes(body)).digest() != sha256:
            raise StoreDamagedError(
                f"configuration {kind}, version {version}, is not what was written"
            )
        yield Active(number(kind), number(version), plain_bytes(sha256))


def origin(connection: apsw.Connection) -> Origin | None:
    """Return what the ledger began in place of, None for a car's first."""
    for ledger_id, seq, head_hash, reason in connection.execute(
        "select previous_ledger_id, previous_seq, previous_hash, reason from origin"
    ):
        previous = LedgerHead(
            plain_bytes(ledger_id), number(seq), plain_bytes(head_hash)
        )
        return Origin(previous, number(reason))
    return None


def salvaged(connection: apsw.Connection) -> Iterator[SealedEntry]:
    """Yield entries of older ledgers that the fleet has not receipted, in order."""
    for row in connection.execute(
        "select seq, class, frame, hash, null from salvaged order by ledger_id, seq"
    ):
        yield entry(row)


def state_sum(state: bytes) -> bytes:
    """Return what tells a state's bytes from damaged ones: SQLite has no checksum."""
    return hashlib.sha256(b"ff-state-v1\0" + state).digest()


def code_of(found: object) -> Code:
    """Return a code that was found.

    Raises:
        StoreDamagedError: it is none.
    """
    try:
        return Code(number(found))
    except ValueError:
        raise StoreDamagedError(f"a code was expected, found {found}") from None


def _class_of(found: object) -> FrameClass:
    try:
        return FrameClass(number(found))
    except ValueError:
        raise StoreDamagedError(f"a frame class was expected, found {found}") from None


def number(found: object, *, limit: int = NUMBER_LIMIT) -> int:
    """Return a number that was found, 0 to `limit`.

    Raises:
        StoreDamagedError: it is none.
    """
    if not isinstance(found, int):
        raise StoreDamagedError(f"a number was expected, found {type(found).__name__}")
    if not 0 <= found <= limit:
        raise StoreDamagedError(f"a number of 0 to {limit} was expected, found {found}")
    return found


def plain_bytes(found: object) -> bytes:
    """Return bytes that were found.

    Raises:
        StoreDamagedError: they are none.
    """
    if not isinstance(found, bytes):
        raise StoreDamagedError(f"bytes were expected, found {type(found).__name__}")
    return found
