"""How long a bridge that is told to stop still works: a promise, whatever is away.

A database or a broker that is silent would hold it for as long as its driver is
patient, and a name server for longer. Whoever told it to stop kills it then, in the
middle of something that might have been finished. What is given up here is lost as
little as in a crash: it was neither acknowledged nor receipted (I-21, I-23).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final, TypeVar

from bridge.wire import LOG

WORK_S: Final = 6.0
"""Until when batches, deliveries and leases may end by themselves: a hundred times what
a batch takes."""

FLUSH_S: Final = 7.0
"""Until when what waits for a transaction may be stored."""

SINKS_S: Final = 9.0
"""Until when sinks may let what they have under way end; Kafka's takes 5 s for it."""

STORE_S: Final = 9.5
"""Until when the store may close, and the last spans may be told."""

LEAST_S: Final = 0.25
"""What each gets although its time is over: closing what is idle takes less."""

END_S: Final = 12.0
"""All of it, also where every one of several sinks is given up."""

T = TypeVar("T")


class Ending:
    """The time that is left to a bridge, from the first wait on; of one event loop."""

    def __init__(self) -> None:
        self._begun_s: float | None = None

    def _left_s(self, until_s: float) -> float:
        now_s = asyncio.get_running_loop().time()
        if self._begun_s is None:
            self._begun_s = now_s
        return max(LEAST_S, until_s - (now_s - self._begun_s))

    async def let(
        self, what: str, work: Callable[[], Awaitable[object]], *, until_s: float
    ) -> None:
        """Let `work` be done, and give it up when its time is over.

        Args:
            what: for the log.
            work: what it raises in time is raised.
            until_s: from the first wait on, in s.
        """
        task = asyncio.ensure_future(work())
        if await self.settle([task], until_s=until_s):
            LOG.warning("= given up at the end: %s", what)
        else:
            task.result()

    async def settle(
        self, tasks: Collection[asyncio.Future[T]], *, until_s: float
    ) -> Collection[asyncio.Future[T]]:
        """Wait for all; cancel, and return, those whose time is over."""
        if not tasks:
            return ()
        _, late = await asyncio.wait(tasks, timeout=self._left_s(until_s))
        for task in late:
            task.cancel()
        if late:
            # They may have something to let go of, and may not take long for it.
            await asyncio.wait(late, timeout=LEAST_S)
        return late
