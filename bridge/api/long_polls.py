"""Waiting for a caller who may go away meanwhile.

A client that gives up before `wait_s` is over comes again. What waited for its first
request would go on for up to half a minute and count as under way (`at_once`): with a
client of little patience a caller would take its whole share by itself.
"""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from starlette.requests import Request

T = TypeVar("T")


async def while_listening(request: Request, waiting: Awaitable[T]) -> T | None:
    """Await something for as long as the caller listens; None when it is gone.

    Whatever is waited for is cancelled then, so it must change nothing.

    Args:
        request: whose body was read to its end.
        waiting: for what.
    """
    work = asyncio.ensure_future(waiting)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        return work.result() if work.done() else None
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
