"""Rows of the ledger's file as what they mean; a row of other types is damage."""

import hashlib
from collections.abc import Iterator

import apsw

from gateway.core.authentication import JournalRecord
from gateway.core.configuration import Active
from gateway.core.ledger import LedgerHead, SealedEntry
from gateway.ports import Origin
from gateway.storage.database import SqlValue
from gateway.storage.errors import StoreDamagedError
from protocol.codes import Code, FrameClass


def entry(row: tuple[SqlValue, ...]) -> SealedEntry:
    """Return the entry of a row (seq, class, frame, hash, request_id[, place])."""
    seq, frame_class, frame, entry_hash, request_id, *rest = row
    return SealedEntry(
        seq=number(seq),
        frame_class=FrameClass(number(frame_class)),
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
        yield JournalRecord(msg_id, request_hash, result, Code(code))


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


def number(found: object) -> int:
    """Return a number that was found.

    Raises:
        StoreDamagedError: it is none.
    """
    if not isinstance(found, int):
        raise StoreDamagedError(f"a number was expected, found {type(found).__name__}")
    return found


def plain_bytes(found: object) -> bytes:
    """Return bytes that were found.

    Raises:
        StoreDamagedError: they are none.
    """
    if not isinstance(found, bytes):
        raise StoreDamagedError(f"bytes were expected, found {type(found).__name__}")
    return found
