"""Serving HTTP on a socket of our own: bound early, served later, then drained."""

import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from bridge.errors import SettingsError
from bridge.http_connection import HEAD_LIMIT, IDLE_S, HttpConnection
from transport.http_server import served

DRAIN_S: Final = 5
"""How long requests under way may take when the bridge stops; a long poll is cut."""

TAKES_NOTHING_MS: Final = 60_000
"""How long a caller may take nothing of what was sent. Closing such a connection waits
for what it has not taken, for ever; only the kernel ends it. It would hold one of the
requests at once, and a few hundred of them would keep everybody out."""


@contextlib.asynccontextmanager
async def serve(
    app: ASGIApp, listener: socket.socket, *, most: int, drain_s: int = DRAIN_S
) -> AsyncIterator[None]:
    """Serve inside the block, `most` connections at once; drain at its end."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=drain_s,
        timeout_keep_alive=IDLE_S,
        limit_concurrency=most,
        h11_max_incomplete_event_size=HEAD_LIMIT,
        http=HttpConnection,
        ws="none",
    )
    async with served(config, listener):
        yield


@contextlib.contextmanager
def listen(host: str, port: int, *, name: str, what: str) -> Iterator[socket.socket]:
    """Listen inside the block.

    Args:
        host: address of this machine.
        port: 0 lets the system choose.
        name: of the section of the settings.
        what: listens, for people.

    Raises:
        SettingsError: it cannot; says which setting is at fault.
    """
    try:
        family, kind, proto, _name, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, proto)
    except OSError as error:
        raise SettingsError(
            f"{name}.host {host} is no address of this machine: {error.strerror}",
            advice=f"set {name}.host to 127.0.0.1",
        ) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TAKES_NOTHING_MS
            )
            listener.bind(address)
            listener.listen(128)
        except OSError as error:
            advice = f"set {name}.host to 127.0.0.1"
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                advice = (
                    f"set {name}.port to another port, or end the program that uses it"
                )
            raise SettingsError(
                f"{what} cannot listen at {host}:{port}: {error.strerror}",
                advice=advice,
            ) from error
        listener.setblocking(False)
        yield listener


def url_of(listener: socket.socket) -> str:
    """Return where a listener is reached, without a slash at the end."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
