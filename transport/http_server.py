"""An HTTP server inside a program that is more than that: bridge, enrolment service.

Needs uvicorn, so what a car runs does not import it.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs the program, and says when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_serving = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_serving.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def served(
    config: uvicorn.Config, listener: socket.socket
) -> AsyncIterator[None]:
    """Serve inside the block; drain at its end.

    Args:
        config: what to serve and how; `timeout_graceful_shutdown` bounds the drain.
        listener: bound and listening; closed by us.
    """
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http")
    try:
        # Stopping it before it has started would leave its sockets open.
        await server.is_serving.wait()
        yield
    finally:
        server.should_exit = True
        await task
