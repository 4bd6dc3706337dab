"""Events as a stream over HTTP: server-sent events, from any point that is kept.

A stream has no cursor in the store: whoever listens remembers the last ``id``. A
consumer that must miss nothing while it is away for long is better served by a sink.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import FastAPI, Header, Query, Request
from fastapi.responses import StreamingResponse

from bridge.api.holding import HoldingResponse
from bridge.api.permits import principal_in
from bridge.api.problems import ProblemError
from bridge.errors import StoreError
from bridge.figures import Figures
from bridge.rows.outbox import OutboxRow
from bridge.store import Store

STREAMS_LIMIT: Final = 64
"""Streams of all callers at one time: each holds a connection and reads the store by
itself. Eight callers fit in whose share (`rates.streams`) is the default."""

PAGE: Final = 128
"""Events read at once; a listener who is slow holds no more than these."""

KEEP_ALIVE_S: Final = 15.0
"""Between two signs of life: proxies cut what is silent for 60 s."""

LIFE_S: Final = 3_600.0
"""A stream ends after an hour; the listener comes back with its last id. So a key that
was taken away hears no more than an hour longer."""

RETRY_MS: Final = 3_000
"""After what time a listener that lost the stream comes back."""

POSITION_LIMIT: Final = 2**63 - 1

_LAST: Final = ("last-event-id", "header")


class EventStreams:
    """Everybody who listens now.

    Args:
        store: has the events.
        share: how many streams one caller may have.
        figures: counts who wanted more.
    """

    def __init__(self, store: Store, share: int, *, figures: Figures) -> None:
        self._store = store
        self._share = share
        self._figures = figures
        self._waiting: dict[asyncio.Event, str] = {}
        """What wakes each listener, and whose it is."""
        self._is_stopping = False

    @property
    def count(self) -> int:
        """How many listen."""
        return len(self._waiting)

    def wake(self) -> None:
        """Say that there may be new events."""
        for stirred in self._waiting:
            stirred.set()

    def stop(self) -> None:
        """End every stream after what it sends now."""
        self._is_stopping = True
        self.wake()

    def join(self, name: str) -> asyncio.Event:
        """Take one of the places, and return what is set when there may be new events.

        It is taken before anything is awaited: many who come at once would otherwise
        all find room. `leave` gives it back.

        Args:
            name: the caller's. One who opens many shuts out nobody else (I-31).

        Raises:
            ProblemError: there is none, or the caller has its share.
        """
        if list(self._waiting.values()).count(name) >= self._share:
            self._figures.limited("streams")
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-streams",
                f"{self._share} streams of this caller are open; end one of them first",
                headers={"Retry-After": "60"},
            )
        if self.count >= STREAMS_LIMIT:
            self._figures.limited("all_streams")
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "no-stream-left",
                f"{STREAMS_LIMIT} streams are open, of all callers; come back later, "
                "or have the bridge's operator set up a sink for you",
                headers={"Retry-After": "60"},
            )
        stirred = asyncio.Event()
        self._waiting[stirred] = name
        return stirred

    def leave(self, stirred: asyncio.Event) -> None:
        """Give a place back."""
        self._waiting.pop(stirred, None)

    async def follow(self, after: int, stirred: asyncio.Event) -> AsyncIterator[bytes]:
        """Yield events behind a position, and signs of life, until stopped."""
        clock = asyncio.get_running_loop().time
        until_s = clock() + LIFE_S
        try:
            yield f"retry: {RETRY_MS}\n\n".encode()
            while not self._is_stopping and clock() < until_s:
                stirred.clear()
                rows = await self._store.outbox_after(after, PAGE)
                if rows:
                    after = rows[-1].position
                    yield b"".join(map(_of_row, rows))
                    continue
                try:
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        await stirred.wait()
                except TimeoutError:
                    yield b": still here\n\n"
        except StoreError:
            # The listener comes back with its last id.
            return


def add_streams(app: FastAPI, store: Store, streams: EventStreams) -> None:
    """Add the route to the application."""

    @app.get(
        "/v1/events",
        response_class=StreamingResponse,
        response_model=None,
        responses={200: {"content": {"text/event-stream": {}}}},
    )
    async def stream_events(
        request: Request,
        after: Annotated[int | None, Query(ge=0, le=POSITION_LIMIT)] = None,
        last_event_id: Annotated[
            str | None,
            Header(
                pattern=r"^[0-9]{1,18}$",
                description="As an EventSource sends it; counts before `after`.",
            ),
        ] = None,
    ) -> HoldingResponse:
        """Stream events behind a position; without one, what happens from now on."""
        stirred = streams.join(principal_in(request.scope).name)
        try:
            asked = after if last_event_id is None else int(last_event_id)
            where = ("after", "query") if last_event_id is None else _LAST
            position = await _position(store, asked, where)
        except BaseException:
            streams.leave(stirred)
            raise
        return HoldingResponse(
            streams.follow(position, stirred),
            partial(streams.leave, stirred),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )


async def _position(store: Store, asked: int | None, where: tuple[str, str]) -> int:
    oldest, newest = await store.outbox_span()
    position = newest if asked is None else asked
    if position > newest:
        problem = f"the newest event has position {newest}"
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "bad-value",
            f"{where[0]}: {problem}",
            errors=[{"field": where[0], "in": where[1], "problem": problem}],
        )
    if 0 < position < oldest - 1:
        raise ProblemError(
            HTTPStatus.GONE,
            "events-gone",
            f"events before position {oldest} are not kept any more, so some "
            f"would be missed; begin at 0 for all that are kept",
        )
    return position


def _of_row(row: OutboxRow) -> bytes:
    # A CloudEvent in JSON has no line break of its own.
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (
        row.position,
        row.type.encode(),
        row.body,
    )
