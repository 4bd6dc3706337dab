"""Answers that hold one of a few places while they are sent.

Whoever takes nothing for a while loses it, and so does whoever goes: one slow listener
keeps nobody else out (I-31).
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Final

from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

STALL_S: Final = 60.0
"""How long a listener may take nothing: four signs of life of a stream of events."""


class HoldingResponse(StreamingResponse):
    """The answer to one listener; gives its place back however it ends."""

    def __init__(
        self,
        content: AsyncIterator[bytes] | Iterator[bytes],
        leave: Callable[[], None],
        *,
        media_type: str,
        headers: Mapping[str, str],
        within_s: float | None = None,
    ) -> None:
        """Answer with `content`, in `within_s` at most; `leave` is called at the end.

        What an iterator that is not asynchronous yields is made in a thread.
        """
        super().__init__(content, media_type=media_type, headers=headers)
        self._leave = leave
        self._within_s = within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the listener goes, or takes nothing for `STALL_S`."""

        async def send_soon(message: Message) -> None:
            async with asyncio.timeout(STALL_S):
                await send(message)

        # A listener that is gone or stuck is no defect; it comes back.
        try:
            with contextlib.suppress(TimeoutError, ClientDisconnect):
                async with asyncio.timeout(self._within_s):
                    await super().__call__(scope, receive, send_soon)
        finally:
            self._leave()
