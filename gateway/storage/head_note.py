"""A small note of the ledger's head, beside the ledger: what a lost ledger leaves.

A ledger that was lost cannot say that it was there, and one that was put back from an
old copy does not know that it went on. The note can: it is written after what it tells
of was durable, so a ledger that is behind its note has lost something, and must not be
continued (it would fork, I-27).

Three copies: two beside the ledger, written in turn, so that a torn write leaves the
other; and a marker in the identity directory, written once for each ledger, which
outlives the data directory and tells a loss from a first start (reliability.md row 5).
"""

import hashlib
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum, unique
from pathlib import Path
from typing import Final

from gateway.storage.files import Files
from gateway.storage.rows import SEQ_LIMIT

NOTE_PERIOD: Final = 32
"""Entries after which a note is written although no receipt came."""

NOTE_SUFFIXES: Final = ("-note1", "-note2")
"""What the copies beside the ledger are called after it."""

_MAGIC: Final = b"FFN1"
_FIELDS: Final = struct.Struct(">4s8sQ32sIB3x")
_SUM_SIZE: Final = 16
_SIZE: Final = _FIELDS.size + _SUM_SIZE


@unique
class Loss(IntEnum):
    """Why a ledger is not continued; the numbers are the wire's."""

    LOST = 1
    CORRUPT = 2
    RESTORED = 3


@dataclass(frozen=True, slots=True)
class Note:
    """What was durable when it was written."""

    ledger_id: bytes
    """8 bytes."""
    seq: int
    """The newest entry then, 0 for none."""
    hash: bytes
    """Its hash, 32 bytes."""
    boot_counter: int
    """How often the agent had started, u32."""
    condemned: Loss | None = None
    """Set before a ledger is moved aside, so that a power cut in between does not hide
    why there is none."""


def encode_note(note: Note) -> bytes:
    """Return a note's bytes."""
    fields = _FIELDS.pack(
        _MAGIC,
        note.ledger_id,
        note.seq,
        note.hash,
        note.boot_counter & 0xFFFF_FFFF,
        note.condemned or 0,
    )
    return fields + hashlib.sha256(fields).digest()[:_SUM_SIZE]


def decode_note(data: bytes) -> Note | None:
    """Return the note, None for bytes that are none, or not all of one."""
    fields, checksum = data[: _FIELDS.size], data[_FIELDS.size :]
    if (
        len(data) != _SIZE
        or hashlib.sha256(fields).digest()[:_SUM_SIZE] != checksum
        or not fields.startswith(_MAGIC)
    ):
        return None
    _, ledger_id, seq, head_hash, boot_counter, condemned = _FIELDS.unpack(fields)
    if seq > SEQ_LIMIT:
        return None
    return Note(ledger_id, seq, head_hash, boot_counter, _loss_of(condemned))


def _loss_of(number: int) -> Loss | None:
    """Return why a ledger was condemned; a reason of a newer gateway is damage here.

    The ledger must not be continued whatever the reason is.
    """
    if not number:
        return None
    try:
        return Loss(number)
    except ValueError:
        return Loss.CORRUPT


class HeadNotes:
    """The copies of one ledger's note.

    Args:
        ledger: the ledger's file.
        files: the disk.
        marker: the copy in the identity directory; None keeps none, and a loss of the
            whole data directory then looks like a first start.
    """

    def __init__(self, ledger: Path, files: Files, marker: Path | None) -> None:
        self._files = files
        self._marker = marker
        self._copies = [
            ledger.with_name(ledger.name + suffix) for suffix in NOTE_SUFFIXES
        ]
        self._turn = 0

    def read(self) -> Note | None:
        """Return the newest note that can be read, None if there is none."""
        first, second = (self._read(path) for path in self._copies)
        marker = None if self._marker is None else self._read(self._marker)
        # The next one goes where the older one stands.
        self._turn = 0 if _rank(first) <= _rank(second) else 1
        return max((marker, first, second), key=_rank)

    def _read(self, path: Path) -> Note | None:
        with suppress(OSError):
            data = self._files.read(path, _SIZE + 1)
            return None if data is None else decode_note(data)
        return None

    def write(self, note: Note) -> bool:
        """Write one copy; returns whether it is durable.

        What fails here fails the ledger as well, or is settled by the next one.
        """
        path = self._copies[self._turn]
        try:
            self._files.write(path, encode_note(note))
        except OSError:
            return False
        self._turn = (self._turn + 1) % len(self._copies)
        return True

    def mark(self, note: Note) -> bool:
        """Write the marker, unless it names this ledger already.

        Returns:
            False if it could not be written: the loss of the whole data directory would
            then be taken for a first start.
        """
        if self._marker is None:
            return True
        known = self._read(self._marker)
        if known is not None and known.ledger_id == note.ledger_id:
            return True
        try:
            self._files.write(self._marker, encode_note(note))
        except OSError:
            return False
        return True


def _rank(note: Note | None) -> tuple[int, int, int]:
    if note is None:
        return (-1, -1, -1)
    return (note.boot_counter, note.seq, note.condemned or 0)
