"""Reads of the store for cities, one after another, so that others need not wait."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from bridge.store import Store

T = TypeVar("T")


class Turns:
    """Reads for everybody whose pages are long.

    The store has two threads that read. Whoever asked for many pages at once would have
    both, and the callers of orders and the sinks would stand behind them (I-31); with
    one page at a time one thread stays free.
    """

    def __init__(self, store: Store) -> None:
        """Read from `store`."""
        self._store = store
        self._turn = asyncio.Lock()

    async def look(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` reads, when those who asked before have theirs.

        Raises:
            StoreError: it cannot be read.
        """
        async with self._turn:
            return await self._store.look(work)
