"""An HTTP server inside a program that is more than that."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from transport.http_server import served

pytestmark = pytest.mark.broker

REQUEST = b"GET / HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\n\r\n"


class Answering:
    """An application whose one answer waits until it is let go."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.let_go = asyncio.Event()

    async def __call__(self, _scope: Any, _receive: Any, send: Any) -> None:
        self.asked.set()
        await self.let_go.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def serving(app: Answering, *, drain_s: int) -> AsyncIterator[int]:
    config = uvicorn.Config(
        app, log_config=None, lifespan="off", timeout_graceful_shutdown=drain_s
    )
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    async with served(config, listener):
        yield listener.getsockname()[1]


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(REQUEST)
        return await reader.read()
    finally:
        writer.close()


async def test_a_request_under_way_is_answered_when_the_server_stops() -> None:
    """I-34."""
    app = Answering()
    async with serving(app, drain_s=30) as port:
        asking = asyncio.create_task(ask(port))
        await app.asked.wait()
        asyncio.get_running_loop().call_later(0.3, app.let_go.set)
    waited = app.let_go.is_set()

    assert waited
    assert (await asking).startswith(b"HTTP/1.1 204")


async def test_one_that_is_never_answered_does_not_keep_the_server() -> None:
    """I-34."""
    app, clock = Answering(), asyncio.get_running_loop().time
    async with serving(app, drain_s=1) as port:
        asking = asyncio.create_task(ask(port))
        await app.asked.wait()
        begun_s = clock()

    assert clock() - begun_s < 10
    with contextlib.suppress(ConnectionError):
        assert b"204" not in await asking


async def test_the_server_leaves_signals_to_whoever_runs_it() -> None:
    # uvicorn would stop by itself at SIGTERM, before the bridge has drained.
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    async with serving(Answering(), drain_s=1):
        inside = [
            signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)
        ]

    assert inside == before
