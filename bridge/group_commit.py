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
        self._lock = asyncio.Lock()
        self._waiting: list[tuple[W, asyncio.Future[R]]] = []

    async def submit(self, wanted: W) -> R:
        """Write, with whatever else waits, and return the result.

        Raises:
            Exception: what the writing raised; it was not written.
        """
        written: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((wanted, written))
        async with self._lock:
            if not written.done():
                await self._write_all()
        return written.result()

    async def _write_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            results = await self._write([wanted for wanted, _ in waiting])
        except asyncio.CancelledError:
            # Who held the pen goes away; the next one writes for the others.
            self._waiting = [*waiting, *self._waiting]
            raise
        except Exception as error:  # noqa: BLE001 - given to everyone who waits for it
            for _, written in waiting:
                written.set_exception(error)
            return
        for (_, written), result in zip(waiting, results, strict=True):
            written.set_result(result)
