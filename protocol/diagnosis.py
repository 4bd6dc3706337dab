"""What a car says of itself when it is asked: hop times, its parts, why it did that.

An entry of the ledger like any other, so it is signed, kept until its receipt and part
of the audit. It is text for people and tools, line by line as ``name=value`` or a
sentence, because what there is to say differs from car to car and grows; what programs
act on has fields of its own elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import unique
from typing import Final

from protocol.codes import CodeSpace
from protocol.layout import (
    ID,
    U8,
    Layout,
    code_of,
    ranged,
    reserved,
    sequence_of,
    text_bytes,
    text_up_to,
)

LINES_LIMIT: Final = 32
"""Lines of one part."""

LINE_LIMIT: Final = 200
"""Bytes of a line in UTF-8."""

PART_LIMIT: Final = 640
"""Bytes that the lines of one part take at most, so that its frame fits."""

PARTS_LIMIT: Final = 8
"""Parts of one answer; what would be more is left out."""

_COUNT_SIZE: Final = 2


@unique
class DiagnosisKind(CodeSpace):
    """What was asked."""

    PING = 1
    SNAPSHOT = 2
    EXPLANATION = 3


@unique
class ExplainSubject(CodeSpace):
    """What EXPLAIN is about."""

    TAP = 1
    COMMAND = 2
    LOCK = 3
    LIGHT = 4


@dataclass(frozen=True, slots=True)
class Diagnosed:
    """A part of what a car says to PING, SNAPSHOT or EXPLAIN."""

    request_id: bytes
    """16 bytes: the command that asked."""
    kind: DiagnosisKind
    """What was asked."""
    part: int
    """From 1."""
    parts: int
    """How many there are."""
    lines: tuple[str, ...]
    """Up to 32 of up to 200 bytes, 640 in all."""


DIAGNOSED: Final = Layout(
    Diagnosed,
    "request_id" / ID,
    "kind" / code_of(U8, DiagnosisKind),
    "part" / ranged(U8, 1, PARTS_LIMIT),
    "parts" / ranged(U8, 1, PARTS_LIMIT),
    reserved(1),
    "lines" / sequence_of(text_up_to(LINE_LIMIT), LINES_LIMIT),
)


def in_parts(
    request_id: bytes, kind: DiagnosisKind, lines: Sequence[str]
) -> tuple[Diagnosed, ...]:
    """Return an answer in as many parts as it needs, at most `PARTS_LIMIT`.

    A line that is too long is cut; what does not fit into the last part is left out.
    """
    parts: list[list[str]] = [[]]
    room = PART_LIMIT
    for line in map(_cut, lines):
        size = len(text_bytes(line)) + _COUNT_SIZE
        if size > room or len(parts[-1]) == LINES_LIMIT:
            if len(parts) == PARTS_LIMIT:
                break
            parts.append([])
            room = PART_LIMIT
        parts[-1].append(line)
        room -= size
    return tuple(
        Diagnosed(request_id, kind, number, len(parts), tuple(part))
        for number, part in enumerate(parts, start=1)
    )


def _cut(line: str) -> str:
    shown = "".join(c if c.isprintable() else " " for c in line)
    return shown.encode()[:LINE_LIMIT].decode(errors="ignore")
