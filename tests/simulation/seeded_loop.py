"""An event loop in which a seed decides everything that a machine leaves open.

Waiting takes no time (`firmware_emulator.virtual_time`). What a program gives to
threads takes a random time of the virtual clock: it begins when its pool has a thread,
takes effect somewhat later, and its caller hears of it later still. So a power cut may
come before a commit, or between the commit and the line behind it, as it may in life.

What runs in which order within one instant is asyncio's own rule, first come first
served: programs may rely on it, so it is not shuffled. Sets of tasks and futures are
iterated in an order that does not depend on where they lie in memory.
"""

import asyncio
import concurrent.futures
import itertools
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from random import Random
from typing import Any, Final, TypeVar, TypeVarTuple

from firmware_emulator.virtual_time import VirtualTimeLoop

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

USUAL_WORK_S: Final = 0.002
"""Half of what a thread usually needs from begin to effect: a commit on good flash."""

SLOW_WORK_S: Final = 0.08
"""The same on flash that is busy with itself."""

SLOW_SHARE: Final = 0.05
"""How much of the work is slow."""

_MANY: Final = 32
"""Threads of the default pool (concurrent.futures)."""

_numbers = itertools.count()


class _CountedTask(asyncio.Task[T]):
    """A task whose hash is its number."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._number = next(_numbers)
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


class _CountedFuture(asyncio.Future[T]):
    """A future whose hash is its number."""

    def __init__(self, *, loop: asyncio.AbstractEventLoop) -> None:
        self._number = next(_numbers)
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class SeededLoop(VirtualTimeLoop):
    """The loop; use `run`."""

    def __init__(self, rng: Random) -> None:
        super().__init__()
        self._rng = rng
        self._free_at: dict[int, list[float]] = {}
        self._pools: list[object] = []
        """Kept, so that no other pool gets the id of one that is gone."""

    def create_future(self) -> asyncio.Future[Any]:
        return _CountedFuture(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        text = None if name is None else str(name)
        return _CountedTask(coro, loop=self, name=text, context=context)

    def run_in_executor(
        self,
        executor: concurrent.futures.Executor | None,
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        begin = self._take_thread(executor)

        def work() -> None:
            # A thread that has begun is not stopped by anybody.
            try:
                result = func(*args)
            except Exception as error:  # noqa: BLE001 - a thread would carry it over too
                self.call_later(self._duration(), _fail, future, error)
            else:
                self.call_later(self._duration(), _succeed, future, result)

        def start() -> None:
            if not future.cancelled():
                self.call_at(begin[1], work)

        self.call_at(begin[0], start)
        return future

    def _take_thread(
        self, executor: concurrent.futures.Executor | None
    ) -> tuple[float, float]:
        """Return when a thread begins with it and when it takes effect."""
        threads = self._free_at.get(id(executor))
        if threads is None:
            count = getattr(executor, "_max_workers", _MANY)
            threads = self._free_at[id(executor)] = [0.0] * count
            self._pools.append(executor)
        which = threads.index(min(threads))
        begins = max(threads[which], self.time())
        acts = threads[which] = begins + self._duration()
        return begins, acts

    def _duration(self) -> float:
        is_slow = self._rng.random() < SLOW_SHARE
        return self._rng.random() * (SLOW_WORK_S if is_slow else USUAL_WORK_S)


def _succeed(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def run(main: Coroutine[Any, Any, T], rng: Random) -> T:
    """Run a coroutine in virtual time, with its chances drawn from `rng`.

    Raises:
        DeadlockError: it waits for what cannot come.
    """
    with asyncio.Runner(loop_factory=lambda: SeededLoop(rng)) as runner:
        return runner.run(main)
