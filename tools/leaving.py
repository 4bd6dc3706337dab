"""Ending a loop without waiting for threads that nobody needs any more.

One that asks a silent name server for an address comes back after half a minute, and
nobody wants to know the address then; what is to be kept was closed in order before
(`bridge.ending`). Python waits for it once more at the end of the process, which
`tools.cli` bounds.
"""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class _Unjoined(ThreadPoolExecutor):
    """A loop's default pool, whose end waits for nobody."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - who would wait is asyncio.run
        super().shutdown(wait=False, cancel_futures=cancel_futures)


def run_unjoined(work: Coroutine[Any, Any, T]) -> T:
    """Do as `asyncio.run`, but wait for no thread of the default pool at the end."""

    async def whole() -> T:
        asyncio.get_running_loop().set_default_executor(
            _Unjoined(thread_name_prefix="asyncio")
        )
        return await work

    return asyncio.run(whole())
