"""Answers that hold a whole hour, because MDS forbids pages there.

A busy hour of 14,000 cars has 100,000 events, which are 80 MB. So that a city that asks
for it harms nobody else (I-31):

1. Its documents are read and encoded page by page in a thread of the store's, in turn
   with what other cities read; the event loop waits for nothing.
2. It is made whole before its first byte is sent. Nothing that goes wrong has to be
   told in the middle of a body, and both of its lists hold the same.
3. Until it is taken it is kept compressed, and there are only a few at one time, of one
   caller fewer; who asks for more is told when to come back.
"""

import contextlib
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final, Protocol

import msgspec
from sqlalchemy import Connection

from bridge.api.holding import HoldingResponse
from bridge.api.problems import ProblemError
from bridge.api.turns import Turns
from bridge.figures import Figures
from bridge.mds.documents import document_of
from bridge.mds.records import Page

ANSWERS_LIMIT: Final = 8
"""Answers that are made or sent at one time."""

CALLER_LIMIT: Final = 2
"""Those of one caller: the events and the trips of an hour."""

RETRY_S: Final = 30
"""After what time a caller who has too many comes back: one takes some ten seconds."""

SEND_S: Final = 1_800.0
"""How long the sending may take: 100,000 events at 45 kB/s."""

_LEVEL: Final = 1
"""Of compression: five times less memory; higher levels cost more than they save."""


class ReadPage(Protocol):
    """Reads a page of the hour."""

    def __call__(self, connection: Connection, *, after: str | None) -> Page:
        """Return the page behind `after`, or the first."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Documents of one page, as JSON without brackets."""

    packed: bytes
    """By zlib."""
    size: int
    """Bytes of what is packed."""


class Hours:
    """The answers of one bridge that hold an hour."""

    def __init__(self, reads: Turns, media_type: str, *, figures: Figures) -> None:
        self._figures = figures
        self._reads = reads
        self._media_type = media_type
        self._held: Counter[str] = Counter()

    async def answer(
        self,
        caller: str,
        name: str,
        read: ReadPage,
        require_known: Callable[[Connection], None],
    ) -> HoldingResponse:
        """Return all documents of an hour, once they are made.

        Args:
            caller: who asks.
            name: of the list.
            read: reads a page.
            require_known: called where there is no document; raises if that is because
                nothing is known.

        Raises:
            ProblemError: so many are under way already, or nothing is known.
            StoreError: they cannot be read.
        """
        with contextlib.ExitStack() as place:
            self._join(caller)
            place.callback(self._leave, caller)
            parts = await self._make(read)
            if not parts:
                await self._reads.look(require_known)
            around = _around(name)
            commas = max(len(parts) - 1, 0)
            listed = sum(part.size for part in parts) + commas
            response = HoldingResponse(
                _body(around, parts),
                partial(self._leave, caller),
                media_type=self._media_type,
                headers={"Content-Length": str(sum(map(len, around)) + 2 * listed)},
                within_s=SEND_S,
            )
            # From here on the answer has the place, and gives it back.
            place.pop_all()
        return response

    def _join(self, caller: str) -> None:
        # Before anything is awaited: many at once would otherwise all find room.
        headers = {"Retry-After": str(RETRY_S)}
        if self._held[caller] >= CALLER_LIMIT:
            self._figures.limited("hours")
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-hours",
                f"{CALLER_LIMIT} answers of an hour to this caller are under way; take "
                "them first, or come back later",
                headers=headers,
            )
        if self._held.total() >= ANSWERS_LIMIT:
            self._figures.limited("all_hours")
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "no-hour-left",
                f"{ANSWERS_LIMIT} answers of an hour are under way, to all callers; "
                "come back later",
                headers=headers,
            )
        self._held[caller] += 1

    def _leave(self, caller: str) -> None:
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]

    async def _make(self, read: ReadPage) -> list[_Part]:
        parts: list[_Part] = []
        following: str | None = None
        while True:
            work = partial(_read_part, read=read, after=following)
            part, following = await self._reads.look(work)
            if part is not None:
                parts.append(part)
            if following is None:
                return parts


def _read_part(
    connection: Connection, *, read: ReadPage, after: str | None
) -> tuple[_Part | None, str | None]:
    page = read(connection, after=after)
    if not page.documents:
        return None, page.next
    text = msgspec.json.encode(page.documents)[1:-1]
    return _Part(zlib.compress(text, _LEVEL), len(text)), page.next


def _around(name: str) -> tuple[bytes, bytes, bytes]:
    """Return what stands before, between and behind the two lists."""
    empty = msgspec.json.encode(document_of(name, []))
    first, between, last = empty.split(b"[]")
    return first + b"[", b"]" + between + b"[", b"]" + last


def _body(
    around: tuple[bytes, bytes, bytes], parts: Sequence[_Part]
) -> Iterator[bytes]:
    first, between, last = around
    yield first
    yield from _listed(parts)
    yield between
    yield from _listed(parts)
    yield last


def _listed(parts: Sequence[_Part]) -> Iterator[bytes]:
    for number, part in enumerate(parts):
        text = zlib.decompress(part.packed)
        yield b"," + text if number else text
