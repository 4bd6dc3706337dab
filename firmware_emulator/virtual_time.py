"""An event loop in which waiting takes no time.

When nothing can run, the loop's clock jumps to the next timer: a day in the life of an
emulated car takes seconds, and the same seed gives the same day, because nothing
depends on how fast the machine is. Work that a program gives to threads (the store's
commits, the PIN's comparison) is done on the spot and takes no time either.

There are no sockets here. What talks to a broker runs on an ordinary loop.
"""

import asyncio
import concurrent.futures
import selectors
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

RESOLUTION_S: Final = 1e-6
"""Timers closer together than this run in one turn."""


class DeadlockError(RuntimeError):
    """Nothing can run and no timer is set: everybody waits for somebody else."""


class _NoFiles(selectors.BaseSelector):
    """A selector that watches nothing: waiting moves the loop's clock."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def select(
        self, timeout: float | None = None
    ) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise DeadlockError("nothing can run and no timer is set")
        self.now_s += max(timeout, 0.0)
        return []

    def register(self, *_: object) -> selectors.SelectorKey:
        raise RuntimeError("virtual time has no sockets")

    def unregister(self, *_: object) -> selectors.SelectorKey:
        raise RuntimeError("virtual time has no sockets")

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """The loop; use `run`."""

    def __init__(self) -> None:
        """Begin at 0."""
        super().__init__()
        self._files = _NoFiles()
        self._selector = self._files
        self._clock_resolution = RESOLUTION_S

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._files.now_s

    def run_in_executor(
        self,
        executor: concurrent.futures.Executor | None,  # noqa: ARG002 - no thread is used
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> "asyncio.Future[T]":
        """Call the function at once; its result or error is in the future."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - a thread would carry it over too
            future.set_exception(error)
        return future

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: there are no files."""

    def _write_to_self(self) -> None:
        """Do nothing: no other thread wakes this loop."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time and return its result.

    Raises:
        DeadlockError: it waits for what cannot come.
    """
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
