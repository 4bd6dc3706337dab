"""Where blocking work runs: in one thread beside the loop, or in place.

fsync takes milliseconds on flash and a memory-hard PIN check tens of them; neither may
hold up the loop that opens doors. One thread, not a pool: a SQLite connection is used
by one call at a time, in order.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class ThreadWorker:
    """One thread of its own."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in the thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def close(self) -> None:
        """Join the thread."""
        self._pool.shutdown()


class InlineWorker:
    """In place, blocking the loop: for tests on a manual clock, where order is all."""

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` now."""
        return work()

    def close(self) -> None:
        """Do nothing: there is nothing to end."""
