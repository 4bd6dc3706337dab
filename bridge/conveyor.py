"""Batches on their way through stages: one in each stage, none overtakes another.

While one batch is being committed the next one is verified and the one before gets its
receipts, so that disk, processor and broker work at the same time, and what one car
sent stays in order all the same.

Rule 1: a batch enters a stage when the one before has left it, and holds its old stage
until then; so at most as many batches are under way as there are stages.
Rule 2: after a failure no batch enters a further stage, whatever it has done so far.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Conveyor(Generic[T]):
    """Carries batches; used by one producer, and once."""

    def __init__(self, *stages: Callable[[T], Awaitable[None]]) -> None:
        """Name the stages, the first first."""
        self._stages = stages
        self._locks = [asyncio.Lock() for _ in stages]
        self._under_way: set[asyncio.Task[None]] = set()
        self._failure: asyncio.Future[Exception] = (
            asyncio.get_running_loop().create_future()
        )

    async def next(self, source: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Wait until the first stage is free, then for what `source` gives.

        Raises:
            Exception: what ended a batch, as soon as it did; or what `source` raises.
        """
        await self._unless_failed(self._locks[0].acquire())
        self._locks[0].release()
        return await self._unless_failed(source())

    def put(self, batch: T) -> None:
        """Begin a batch, after `next` has returned."""
        task = asyncio.ensure_future(self._carry(batch))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def finish(self) -> None:
        """Wait until every batch has left, also when we are cancelled meanwhile.

        Raises:
            Exception: what ended a batch.
        """
        while self._under_way:
            await _whole(asyncio.wait(self._under_way))
        if self._failure.done():
            raise self._failure.result()

    async def _carry(self, batch: T) -> None:
        with contextlib.ExitStack() as held:
            try:
                for stage, lock in zip(self._stages, self._locks, strict=True):
                    await lock.acquire()
                    held.close()
                    held.callback(lock.release)
                    if self._failure.done():
                        return
                    await stage(batch)
            except Exception as error:  # noqa: BLE001 - given to who waits
                if not self._failure.done():
                    self._failure.set_result(error)

    async def _unless_failed(self, work: Coroutine[Any, Any, R]) -> R:
        task = asyncio.ensure_future(work)
        try:
            either: set[asyncio.Future[Any]] = {task, self._failure}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if self._failure.done():
            task.cancel()
            await asyncio.wait({task})
            raise self._failure.result()
        return task.result()


async def _whole(work: Coroutine[Any, Any, Any]) -> None:
    """Await something to its end even if we are cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
