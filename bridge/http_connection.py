"""A connection of HTTP that holds its place only while something is asked on it.

uvicorn's own stays as long as its caller likes on which no request ever becomes whole,
and where there are many of them every request is refused, whosever. Here a connection
on which nothing is asked ends by itself, and earlier if another one needs its place.
What is no HTTP is answered by a problem document, as everything else is.
"""

import asyncio
import json
import sys
from http import HTTPStatus
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

HEAD_LIMIT: Final = 16_384
"""Bytes of a request's line and headers."""

HEAD_S: Final = 10.0
"""How long a connection may take until its first request's head is whole."""

IDLE_S: Final = 5
"""How long it may take until the next one's is, after an answer."""

_HEAD_TOO_LARGE: Final = int(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)


class HttpConnection(H11Protocol):
    """One connection, and what is answered where no request came of what it sent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **kwargs)
        # uvicorn would refuse every request, whosever, when there are so many.
        self._most, self.limit_concurrency = self.limit_concurrency, None
        self.since_s = 0.0
        """When it began, or was answered last, by the event loop's clock."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; another connection may have to go for it."""
        super().connection_made(transport)
        self.since_s = self.loop.time()
        self.timeout_keep_alive_task = self.loop.call_later(
            HEAD_S, self.timeout_keep_alive_handler
        )
        if self._most is not None and len(self.connections) > self._most:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        """Take bytes. Unlike uvicorn's, they put off no end: only a whole head does."""
        self.conn.receive_data(data)
        self.handle_events()

    def on_response_complete(self) -> None:
        """Note that nothing is asked any more."""
        self.since_s = self.loop.time()
        super().on_response_complete()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is asked on it."""
        asked: RequestResponseCycle | None = self.cycle
        return asked is None or asked.response_complete

    def _make_room(self) -> None:
        """End the connection on which nothing was asked for longest."""
        idle = [
            one
            for one in self.connections
            if isinstance(one, HttpConnection) and one.is_idle and one is not self
        ]
        if idle:
            oldest = min(idle, key=lambda one: one.since_s)
            # Gone at once: another one may come before the loop turns, or it may have
            # left an answer unread.
            self.connections.discard(oldest)
            oldest.transport.abort()
        else:
            self._refuse(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too-busy",
                "as many requests are under way as there is room for; wait as long as "
                "Retry-After says",
                (("retry-after", "1"),),
            )

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own
        """Answer what is no HTTP."""
        error = sys.exception()
        if getattr(error, "error_status_hint", 0) == _HEAD_TOO_LARGE:
            self._refuse(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                "head-too-large",
                f"request line and headers: have more than {HEAD_LIMIT} bytes",
            )
        else:
            self._refuse(
                HTTPStatus.BAD_REQUEST,
                "invalid-request",
                "request line, headers or length of the body: no HTTP/1.1",
            )

    def _refuse(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Answer with a problem document, and end the connection."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = json.dumps(
                {
                    "type": f"urn:freefloat:problem:{kind}",
                    "title": kind.replace("-", " "),
                    "status": int(status),
                    "detail": detail,
                }
            ).encode()
            every = [
                ("content-type", "application/problem+json"),
                ("content-length", str(len(body))),
                ("connection", "close"),
                *headers,
            ]
            answer = h11.Response(
                status_code=int(status), headers=every, reason=status.phrase.encode()
            )
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event))
        self.transport.close()
