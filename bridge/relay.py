"""From the outbox to one sink: at least once, in order for each vehicle.

Every sink has a relay of its own with its own cursor, so a consumer that hangs delays
nobody else. Within a window of events the vehicles go side by side, each in its own
order; the cursor moves past the window when all of it is taken. What a crash leaves
behind the cursor is delivered again, and consumers drop it by its id.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from bridge.errors import SinkError, StoreError
from bridge.ports import WallClock
from bridge.rows.outbox import OutboxRow
from bridge.sinks.ports import Sink
from bridge.store import Store
from bridge.wire import LOG
from transport.backoff import Backoff

WINDOW: Final = 128
"""Events under way to one sink."""

IDLE_S: Final = 5.0
"""How often an idle relay looks by itself, should a wake-up have been lost."""

BACKOFF: Final = Backoff(initial_s=0.5, maximum_s=60.0)
"""Between attempts: a consumer that is down is asked once a minute."""

PERMANENT_LIMIT: Final = 6
"""How often a consumer may say that it does not want an event before the event is set
aside as undelivered, so that one poisoned event does not stop all behind it. Anything
else, silence and server errors included, is tried for ever."""


class Relay:
    """Drives one sink, until cancelled."""

    def __init__(
        self, sink: Sink, store: Store, *, now: WallClock, random: Callable[[], float]
    ) -> None:
        self._sink = sink
        self._store = store
        self._now = now
        self._random = random
        self._wake = asyncio.Event()
        self.last_error: str | None = None
        """Why the consumer takes nothing at present; None while it does."""

    @property
    def name(self) -> str:
        """The sink's name."""
        return self._sink.name

    def wake(self) -> None:
        """Look at the outbox now."""
        self._wake.set()

    async def open(self) -> None:
        """Make the sink ready.

        Raises:
            SettingsError: it can never work as it is set.
        """
        await self._sink.open()

    async def close(self) -> None:
        """Let go of what the sink took; after `run` has ended."""
        await self._sink.close()

    async def run(self) -> None:
        """Deliver until cancelled."""
        failures = 0
        while True:
            try:
                await self._drain()
                failures = 0
            except StoreError as error:
                failures += 1
                LOG.warning("= sink %s: %s", self.name, error)
                await asyncio.sleep(BACKOFF.delay_s(failures, random=self._random))
                continue
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _drain(self) -> None:
        position = await self._store.cursor(self.name)
        while True:
            self._wake.clear()
            rows = await self._store.outbox_after(position, WINDOW)
            if not rows:
                return
            given_up = await self._deliver(rows)
            position = rows[-1].position
            await self._store.set_cursor(self.name, position, given_up, now=self._now())

    async def _deliver(self, rows: Sequence[OutboxRow]) -> dict[int, str]:
        """Deliver a window; return what the consumer does not want, with its reason."""
        by_vehicle: dict[object, list[OutboxRow]] = {}
        for row in rows:
            by_vehicle.setdefault(row.vehicle_id, []).append(row)
        given_up: dict[int, str] = {}
        side_by_side = asyncio.Semaphore(self._sink.parallel)

        async def deliver_in_order(events: Sequence[OutboxRow]) -> None:
            for row in events:
                reason = await self._deliver_one(row, side_by_side)
                if reason is not None:
                    given_up[row.position] = reason

        async with asyncio.TaskGroup() as group:
            for events in by_vehicle.values():
                group.create_task(deliver_in_order(events))
        return given_up

    async def _deliver_one(
        self, row: OutboxRow, side_by_side: asyncio.Semaphore
    ) -> str | None:
        failures = permanent = 0
        while True:
            try:
                async with side_by_side:
                    await self._sink.deliver(row)
            except SinkError as error:
                failures += 1
                permanent += error.is_permanent
                self.last_error = str(error)
                delay_s = BACKOFF.delay_s(failures, random=self._random)
                if permanent >= PERMANENT_LIMIT:
                    LOG.error(
                        "= sink %s: %s %s is set aside: %s",
                        self.name,
                        row.type,
                        row.event_id,
                        error,
                    )
                    return str(error)
                LOG.warning(
                    "= sink %s: %s; next try in %.1f s", self.name, error, delay_s
                )
                await asyncio.sleep(delay_s)
            else:
                self.last_error = None
                return None
