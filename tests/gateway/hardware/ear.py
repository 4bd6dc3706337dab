"""What an adapter reports, and waiting for it without sleeping."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from gateway.core.events import Event
from gateway.ports import Report

E = TypeVar("E", bound=Event)

PATIENCE_S = 8.0
"""Longest wait for something that must happen."""


class Ear:
    """Collects events; awaited for one that fits."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._grew = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def report(self, event: Event) -> None:
        self.events.append(event)
        task = asyncio.get_running_loop().create_task(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def hear(
        self, kind: type[E], *, nth: int = 1, where: Callable[[E], bool] | None = None
    ) -> E:
        """Return the nth event of a kind that fits, when it has come."""

        def found() -> list[E]:
            fits = where or (lambda _event: True)
            return [one for one in self.all(kind) if fits(one)]

        async with asyncio.timeout(PATIENCE_S), self._grew:
            await self._grew.wait_for(lambda: len(found()) >= nth)
        return found()[nth - 1]

    def all(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def _notify(self) -> None:
        async with self._grew:
            self._grew.notify_all()


@asynccontextmanager
async def running(
    run: Callable[[Report], Coroutine[Any, Any, None]],
) -> AsyncIterator[Ear]:
    """Run an adapter for the length of a block."""
    ear = Ear()
    task = asyncio.create_task(run(ear.report))
    try:
        yield ear
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
