"""The threads that wait for the database, and what becomes of who waits for them.

One thread writes, so that two writes of one bridge never collide; two read beside it.

A database may neither do what it is asked nor say so (reliability.md row 26): a server
that is frozen, a lock that somebody holds. Then a write waits for as long as the
database lets it, 20 s with PostgreSQL, and is the probe that finds out when it is over;
who calls the API meanwhile is told at once (`is_late`), who waits for what he only
wanted to read is let go, and who orders is told that it is undone, or undecided
(`bridge.patience`). So nothing queues up behind what hangs but the bridge's own loops,
each with one write at a time. This is the breaker of the store: another one, of
outcomes, would only delay its return, since a database that is down refuses at once.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection

from bridge.database import Database
from bridge.errors import StoreError, UndecidedError
from bridge.patience import Attempt

CHECK_S: Final = 3.0
"""How long a commit may take before the store counts as one that does not commit, in s.
Whoever asks whether we are ready gets an answer, and before his own patience ends."""

LOOK_S: Final = 0.25
"""How often who reads for longer than that looks whether the store is late."""

READERS: Final = 2
"""Threads for reads: one for the API, one for the sinks."""

LATE: Final = "the store does not answer in time"
"""Said by who does not wait any longer."""

T = TypeVar("T")


class StoreThreads:
    """Transactions of one database, each in a thread; belongs to one event loop."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._asked_s: dict[object, float] = {}
        """When each write that is not done was asked for, the first one first."""
        self._writing: set[object] = set()
        """The write that the thread is busy with."""
        self._left: set[object] = set()
        """Writes whose end nobody waits for any more."""
        self._reading: set[object] = set()
        """Reads that a thread is busy with."""
        self._let_go: set[object] = set()
        """Those of them whose answer nobody waits for any more."""

    def shutdown(self) -> None:
        """Finish what was begun; blocks."""
        self._writer.shutdown(wait=True)
        self._readers.shutdown(wait=True)

    @property
    def is_late(self) -> bool:
        """Whether a write has waited for more than `CHECK_S`, and still does."""
        self._forget_ended()
        first_s = next(iter(self._asked_s.values()), None)
        if first_s is None:
            return False
        return asyncio.get_running_loop().time() - first_s > CHECK_S

    def _forget_ended(self) -> None:
        for asked in self._left - self._writing:
            self._left.discard(asked)
            del self._asked_s[asked]

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in one transaction, behind the writes before it.

        Raises:
            StoreError: it was undone whole.
        """
        return await self.alone(lambda: self._database.transact(work, writes=True))

    async def write_soon(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in one transaction, as `write`, or not at all if it takes long.

        Raises:
            UndecidedError: it hangs at its commit, or was lost there.
            StoreError: it was undone whole, or is going to be.
        """
        loop, asked, attempt = asyncio.get_running_loop(), object(), Attempt(LATE)
        bounded = attempt.bounded(work)
        self._asked_s[asked] = loop.time()

        def writing() -> T:
            # A database that hangs takes 20 s to say so to each who asks.
            attempt.require_waiting()
            return self._database.transact(bounded, writes=True)

        written = loop.run_in_executor(self._writer, writing)
        # What hangs shows that the store is late, also when nobody waits for it.
        written.add_done_callback(partial(self._written, asked))
        done, _ = await asyncio.wait({written}, timeout=CHECK_S)
        if done:
            return written.result()
        if attempt.leave():
            raise UndecidedError(LATE)
        raise StoreError(LATE)

    def _written(self, asked: object, written: asyncio.Future[T]) -> None:
        del self._asked_s[asked]
        if not written.cancelled():
            # Somebody is told, or was told before that it is late.
            written.exception()

    async def alone(self, work: Callable[[], T]) -> T:
        """Do `work` in the thread that writes.

        Raises:
            StoreError: as `work` says.
        """
        loop, asked = asyncio.get_running_loop(), object()

        def writing() -> T:
            self._writing.add(asked)
            try:
                return work()
            finally:
                self._writing.discard(asked)

        self._asked_s[asked] = loop.time()
        try:
            return await loop.run_in_executor(self._writer, writing)
        finally:
            if asked in self._writing:
                # It holds up the next ones also when its caller has left.
                self._forget_ended()
                self._left.add(asked)
            else:
                del self._asked_s[asked]

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do `work`, which writes nothing, in one transaction.

        Raises:
            StoreError: it failed, or the store is late and so was this.
        """
        self._let_go &= self._reading
        # A thread that hangs, and another one that is busy while nothing commits: this
        # read would wait for nothing but the end of its own patience.
        is_stuck = self._let_go and len(self._reading) == READERS and self.is_late
        if is_stuck or len(self._let_go) == READERS:
            raise StoreError(LATE)
        asked = object()

        def reading() -> T:
            self._reading.add(asked)
            try:
                return self._database.transact(work, writes=False)
            finally:
                self._reading.discard(asked)

        answer = asyncio.get_running_loop().run_in_executor(self._readers, reading)
        try:
            wait_s = CHECK_S
            while not (await asyncio.wait({answer}, timeout=wait_s))[0]:
                # A long answer of a store that commits is waited for.
                if self.is_late:
                    raise StoreError(LATE)
                wait_s = LOOK_S
            return answer.result()
        finally:
            # Who has not begun does not begin; the thread that has goes on alone.
            if answer.cancel():
                self._let_go.add(asked)
