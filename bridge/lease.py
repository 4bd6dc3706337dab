"""Doing something in one bridge at a time, of all that share a database.

A sink's cursor has one reader, and a command that falls silent is sent again by one
bridge, not by four. Whoever holds the lease does the work; when it stops, dies or
freezes, another takes over after `TTL_MS` at the latest. The holder stops by its own
clock before that, and what it still writes is refused by the lease's epoch (I-34,
reliability.md row 29).
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final

from bridge.errors import LeaseLostError, StoreError
from bridge.store import Store
from bridge.wire import LOG

TTL_MS: Final = 10_000
"""How long work may stand still when a bridge dies: below a customer's patience with a
webhook, and far above a slow commit."""

RENEW_S: Final = 2.5
"""A quarter of it: three renewals may fail."""

RETRY_S: Final = 1.0
"""How often somebody who waits asks."""


class Lease:
    """A claim to one piece of work."""

    def __init__(self, store: Store, name: str, *, holder: str) -> None:
        """Name the work and who we are; both at most 64 characters."""
        self._store = store
        self._name = name
        self._holder = holder
        self.epoch: int | None = None
        """Of our tenure; None while somebody else does it."""

    async def hold(self, work: Callable[[int], Awaitable[None]]) -> None:
        """Do `work` whenever the lease is ours, until cancelled.

        Args:
            work: gets the epoch; is cancelled when the lease is lost, and called again
                when it is won back. An error of it ends this call too.
        """
        while True:
            epoch, taken_s = await self._take()
            self.epoch = epoch
            doing = asyncio.ensure_future(work(epoch))
            renewing = asyncio.create_task(self._renew(epoch, taken_s))
            try:
                await asyncio.wait(
                    {doing, renewing}, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                self.epoch = None
                for task in (doing, renewing):
                    task.cancel()
                ends = await asyncio.gather(doing, renewing, return_exceptions=True)
                with contextlib.suppress(StoreError):
                    await self._store.drop_lease(self._name, epoch)
            for end in ends:
                if isinstance(end, LeaseLostError):
                    LOG.warning(
                        "= %s: another bridge took over, or it begins again", self._name
                    )
                elif isinstance(end, Exception):
                    raise end

    async def _take(self) -> tuple[int, float]:
        """Return the epoch of our tenure, and when we asked for it."""
        clock = asyncio.get_running_loop().time
        while True:
            # Before we ask: how long the answer takes is part of the tenure.
            asked_s = clock()
            with contextlib.suppress(StoreError):
                epoch = await self._store.take_lease(
                    self._name, self._holder, ttl_ms=TTL_MS
                )
                if epoch is not None:
                    return epoch, asked_s
            await asyncio.sleep(RETRY_S)

    async def _renew(self, epoch: int, held_s: float) -> None:
        """Hold the lease; return never.

        Args:
            epoch: of our tenure.
            held_s: when we had it for certain, by the event loop's clock.

        Raises:
            LeaseLostError: it passed on, or may have: the last renewal is too old.
        """
        clock = asyncio.get_running_loop().time
        is_ours = True
        with contextlib.suppress(TimeoutError):
            while is_ours:
                # Also while we wait for an answer: a database that is silent to us may
                # have given the lease to another bridge meanwhile.
                async with asyncio.timeout_at(held_s + TTL_MS / 1000):
                    await asyncio.sleep(RENEW_S)
                    asked_s = clock()
                    with contextlib.suppress(StoreError):
                        is_ours = await self._store.renew_lease(
                            self._name, epoch, ttl_ms=TTL_MS
                        )
                        held_s = asked_s
        raise LeaseLostError(f"another bridge may do {self._name} now")
