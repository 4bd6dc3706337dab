"""Small writes that wait at the same time share one transaction.

Each transaction costs a flush of the disk, whatever is in it, and they go one after
another: a hundred calls of the API would wait for a hundred flushes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

W = TypeVar("W")
R = TypeVar("R")


class GroupCommit(Generic[W, R]):
    """One kind of small write."""

    def __init__(self, write: Callable[[Sequence[W]], Awaitable[Sequence[R]]]) -> None:
        """Name what writes several in one transaction, with a result for each."""
        self._write = write
        self._writing: asyncio.Task[None] | None = None
        self._waiting: list[tuple[W, asyncio.Future[R]]] = []

    async def submit(self, wanted: W) -> R:
        """Write, with whatever else waits, and return the result.

        Who is cancelled meanwhile may have been written.

        Raises:
            Exception: what the writing raised; it was not written.
        """
        written: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, written))
        if self._writing is None:
            # A task of its own: what else is submitted in this turn of the event loop
            # goes with it, and it belongs to nobody who may go away.
            self._writing = asyncio.create_task(self._write_waiting())
        return await written

    async def _write_waiting(self) -> None:
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                await self._write_all(waiting)
        finally:
            self._writing = None

    async def _write_all(self, waiting: list[tuple[W, asyncio.Future[R]]]) -> None:
        try:
            results = await self._write([wanted for wanted, _ in waiting])
        except asyncio.CancelledError:
            for _, written in waiting:
                written.cancel()
            raise
        except Exception as error:  # noqa: BLE001 - given to everyone who waits for it
            for _, written in waiting:
                if not written.done():
                    written.set_exception(error)
            return
        for (_, written), result in zip(waiting, results, strict=True):
            if not written.done():
                written.set_result(result)
