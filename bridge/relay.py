"""From the outbox to one sink: at least once, in order for each vehicle.

Every sink has a relay of its own with its own cursor, so a consumer that hangs delays
nobody else. Of the bridges that share a store one serves a sink (`bridge.lease`). The
vehicles go side by side, each in its own order. One whose event is not taken, or that
tells more than the consumer takes of it, holds back no other (I-31).

The cursor stands before the oldest event that is not taken; what a crash finds behind
it is delivered again, and consumers drop it by its id.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bridge.breaker import Breaker, BreakerState
from bridge.errors import LeaseLostError, SinkError, StoreError
from bridge.lease import Lease
from bridge.left_events import LeftEvents
from bridge.ports import WallClock
from bridge.rows.outbox import OutboxRow
from bridge.sinks.ports import Sink
from bridge.store import Store
from bridge.traces import delivered
from bridge.wire import LOG
from protocol.identity import VehicleId
from transport.backoff import Backoff
from transport.collector import Tracer

WINDOW: Final = 128
"""Events read at once, and taken before the cursor is written."""

AHEAD_LIMIT: Final = 4_096
"""Events read and not taken: how far other vehicles may go on beyond one that fails.
About 12 MB; beyond it the outbox keeps them and the sink waits."""

OWN_LIMIT: Final = 32
"""Of which one vehicle may have so many; the rest of its events is left in the outbox
(`bridge.left_events`). So it takes 128 such vehicles to make the others wait."""

LEFT_LIMIT: Final = 1_000_000
"""Events that are left, 8 MB of positions: six hours of one vehicle that tells as much
as the intake lets in. Beyond it the sink waits."""

IDLE_S: Final = 5.0
"""How often an idle relay looks by itself, should a wake-up have been lost."""

ROUND_S: Final = 0.05
"""How long after one look at the outbox the next one comes at the earliest: each costs
a transaction and turns of the event loop, and a busy bridge would look after every
batch. An event after a pause does not wait."""

NOTE_S: Final = 0.25
"""How long after one write of the cursor the next one comes at the earliest, unless
`WINDOW` events were taken since. A crash repeats no more than what was taken meanwhile;
a write behind each look cost as much as handing the events out."""

BACKOFF: Final = Backoff(initial_s=0.5, maximum_s=60.0)
"""Between attempts: a consumer that is down is asked once a minute."""

PERMANENT_LIMIT: Final = 6
"""How often a consumer may say that it does not want an event before the event is set
aside as undelivered, so that one poisoned event does not stop all behind it. Anything
else, silence and server errors included, is tried for ever."""


RETRY_AFTER_LIMIT_S: Final = 300.0
"""How long a consumer may ask us to wait (Retry-After, RFC 9110, 10.2.3)."""

PROBING_S: Final = 0.1
"""How often one looks whether a probe has ended while the breaker is half open."""


@dataclass(slots=True)
class SinkFigures:
    """Counts of one sink; they only rise."""

    taken: int = 0
    """Events that the consumer took."""
    failed: int = 0
    """Attempts that it did not take."""
    set_aside: int = 0
    """Events that it does not want."""


class Relay:
    """Drives one sink, until cancelled."""

    def __init__(
        self,
        sink: Sink,
        store: Store,
        *,
        now: WallClock,
        random: Callable[[], float],
        holder: str,
        tracer: Tracer | None = None,
    ) -> None:
        """Name who we are among the bridges that share the store."""
        self._tracer = tracer
        self._sink = sink
        self._work = f"sink {sink.name}"
        self._lease = Lease(store, self._work, holder=holder)
        self._store = store
        self._now = now
        self._random = random
        self._wake = asyncio.Event()
        self._side_by_side = asyncio.Semaphore(sink.parallel)
        self._queues: dict[VehicleId, deque[OutboxRow]] = {}
        self._deliveries: set[asyncio.Task[None]] = set()
        self._cursor: int | None = None
        """Where the stored cursor stands; None before it is read."""
        self._read = 0
        """Up to where the outbox was read."""
        self._has_news = True
        """Whether the outbox may hold what was not read."""
        self._note_s = 0.0
        """When the cursor may be written again, by the event loop's clock."""
        self._open: set[int] = set()
        """Positions that were read and are not taken."""
        self._left = LeftEvents()
        """What was read and is to be read again when its vehicle has room."""
        self._given_up: dict[int, str] = {}
        self._taken = 0
        """How many were taken since the cursor was written."""
        self.breaker = Breaker()
        """Whether the consumer is asked at all."""
        self.figures = SinkFigures()
        """What became of deliveries since the start."""
        self.last_error: str | None = None
        """Why the consumer takes nothing at present; None while it does."""

    @property
    def name(self) -> str:
        """The sink's name."""
        return self._sink.name

    @property
    def work(self) -> str:
        """The name of its lease."""
        return self._work

    @property
    def is_serving(self) -> bool:
        """Whether this bridge serves the sink now, and not another one."""
        return self._lease.epoch is not None

    def wake(self) -> None:
        """Look at the outbox now."""
        self._has_news = True
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
        """Deliver whenever no other bridge serves this sink, until cancelled."""
        await self._lease.hold(self._serve)

    async def _serve(self, epoch: int) -> None:
        """Deliver from the cursor on.

        Raises:
            LeaseLostError: another bridge serves the sink now.
        """
        self._queues.clear()
        self._open.clear()
        self._left.clear()
        self._given_up.clear()
        self._cursor, self._has_news = None, True
        tenure = (self._work, epoch)
        try:
            async with asyncio.TaskGroup() as group:
                lost = await self._deliver_all(group, tenure)
                for delivery in self._deliveries:
                    delivery.cancel()
        except asyncio.CancelledError:
            # Whoever serves it next need not deliver again what was taken since.
            with contextlib.suppress(StoreError, LeaseLostError):
                await self._note(tenure)
            raise
        raise lost

    async def _deliver_all(
        self, group: asyncio.TaskGroup, tenure: tuple[str, int]
    ) -> LeaseLostError:
        failures = 0
        clock = asyncio.get_running_loop().time
        next_s = self._note_s = clock()
        while True:
            if next_s > clock():
                await asyncio.sleep(next_s - clock())
            next_s = clock() + ROUND_S
            self._wake.clear()
            try:
                if self._cursor is None:
                    self._cursor = self._read = await self._store.cursor(self.name)
                if self._is_note_due(clock()):
                    await self._note(tenure)
                if self._has_news:
                    await self._hand_out(group)
                failures = 0
            except LeaseLostError as lost:
                return lost
            except StoreError as error:
                failures += 1
                LOG.warning("= sink %s: %s", self.name, error)
                await asyncio.sleep(BACKOFF.delay_s(failures, random=self._random))
                continue
            await self._rest(clock())

    async def _rest(self, now_s: float) -> None:
        """Wait until something is to be done, or may have been missed."""
        note_in_s = self._note_s - now_s
        is_settled = not self._open and self._settled == self._cursor
        # Who takes the last open event later than `_note_s` wakes us.
        is_idle = note_in_s <= 0 or is_settled
        try:
            async with asyncio.timeout(IDLE_S if is_idle else note_in_s):
                await self._wake.wait()
        except TimeoutError:
            self._has_news |= is_idle

    @property
    def _settled(self) -> int:
        """Up to where everything is taken or given up."""
        first = self._read + 1
        left = self._left.oldest
        return min(min(self._open, default=first), left or first) - 1

    def _is_note_due(self, now_s: float) -> bool:
        return now_s >= self._note_s or self._taken >= WINDOW or bool(self._given_up)

    async def _note(self, tenure: tuple[str, int]) -> None:
        """Write how far everything is taken, if that is news."""
        settled = self._settled
        self._taken = 0
        if self._cursor is None or (settled == self._cursor and not self._given_up):
            return
        given_up = dict(self._given_up)
        await self._store.set_cursor(
            self.name, settled, given_up, tenure=tenure, now=self._now()
        )
        for position in given_up:
            del self._given_up[position]
        self._cursor = settled
        self._note_s = asyncio.get_running_loop().time() + NOTE_S

    async def _hand_out(self, group: asyncio.TaskGroup) -> None:
        """Hand out what is new, as far as there is room."""
        while (room := self._room) > 0 and len(self._left) < LEFT_LIMIT:
            wanted = min(WINDOW, room)
            # What comes while we read is told of again.
            self._has_news = False
            try:
                rows = await self._store.outbox_after(self._read, wanted)
            except StoreError:
                self._has_news = True
                raise
            for row in rows:
                self._read = row.position
                self._hand_over(row, group)
            if len(rows) < wanted:
                return
            self._has_news = True

    @property
    def _room(self) -> int:
        """How many events may still be read."""
        return AHEAD_LIMIT - len(self._open)

    def _hand_over(self, row: OutboxRow, group: asyncio.TaskGroup) -> None:
        """Put an event behind those of its vehicle, or leave it."""
        queue = self._queues.get(row.vehicle_id)
        if queue is None:
            queue = self._queues[row.vehicle_id] = deque()
            delivery = group.create_task(self._deliver_in_order(row.vehicle_id, queue))
            self._deliveries.add(delivery)
            delivery.add_done_callback(self._deliveries.discard)
        elif row.vehicle_id in self._left or len(queue) >= OWN_LIMIT:
            self._left.add(row.vehicle_id, row.position)
            return
        self._open.add(row.position)
        queue.append(row)

    async def _fetch_left(self, vehicle_id: VehicleId, queue: deque[OutboxRow]) -> bool:
        """Read what was left of a vehicle, if there is room; False if nothing was."""
        failures = 0
        while vehicle_id in self._left:
            limit = max(min(OWN_LIMIT, self._room), 1)
            positions = self._left.first(vehicle_id, limit)
            try:
                rows = await self._store.outbox_at(positions)
            except StoreError as error:
                failures += 1
                LOG.warning("= sink %s: %s", self.name, error)
                await asyncio.sleep(BACKOFF.delay_s(failures, random=self._random))
                continue
            self._open.update(row.position for row in rows)
            queue.extend(rows)
            self._left.drop(vehicle_id, len(positions))
            if queue:
                return True
        return False

    async def _deliver_in_order(
        self, vehicle_id: VehicleId, queue: deque[OutboxRow]
    ) -> None:
        clock = asyncio.get_running_loop().time
        while queue or await self._fetch_left(vehicle_id, queue):
            row = queue.popleft()
            reason = await self._deliver_one(row)
            if reason is not None:
                self._given_up[row.position] = reason
            self._open.discard(row.position)
            self._taken += 1
            is_full_no_more = len(self._open) == AHEAD_LIMIT - 1
            is_all_taken = not self._open and clock() >= self._note_s
            if self._taken >= WINDOW or is_full_no_more or is_all_taken:
                self._wake.set()
        del self._queues[vehicle_id]

    async def _deliver_one(self, row: OutboxRow) -> str | None:
        begun_ms = self._now()
        failures = permanent = 0
        failed_at: int | None = None
        while True:
            try:
                await self._attempt(row, failed_at=failed_at)
            except SinkError as error:
                _require_wanted(error)
                failures += 1
                if failed_at is None:
                    failed_at = self.figures.taken
                permanent += error.is_permanent
                self.figures.failed += 1
                self.last_error = str(error)
                delay_s = BACKOFF.delay_s(failures, random=self._random)
                delay_s = max(delay_s, min(error.retry_after_s, RETRY_AFTER_LIMIT_S))
                if permanent >= PERMANENT_LIMIT:
                    LOG.error(
                        "= sink %s: %s %s is set aside: %s",
                        self.name,
                        row.type,
                        row.event_id,
                        error,
                    )
                    self.figures.set_aside += 1
                    self._trace(row, begun_ms, failures, taken=False)
                    return str(error)
                LOG.warning(
                    "= sink %s: %s; next try in %.1f s", self.name, error, delay_s
                )
                await asyncio.sleep(delay_s)
            else:
                self.last_error = None
                self.figures.taken += 1
                self._trace(row, begun_ms, failures + 1, taken=True)
                return None

    def _trace(
        self, row: OutboxRow, begun_ms: int, attempts: int, *, taken: bool
    ) -> None:
        if self._tracer is not None:
            span = delivered(
                row,
                self.name,
                begun_ms=begun_ms,
                now=self._now(),
                attempts=attempts,
                taken=taken,
            )
            self._tracer.record([span])

    async def _attempt(self, row: OutboxRow, *, failed_at: int | None) -> None:
        """Try once, when it is our turn and the breaker lets us.

        Args:
            row: the event.
            failed_at: how many events had been taken when it failed first, if it did.

        Raises:
            SinkError: not taken, or perhaps taken without an answer.
        """
        clock = asyncio.get_running_loop().time
        async with self._side_by_side:
            # No event tells when a wait of the breaker is over.
            while (ticket := self.breaker.admit(clock())) is None:  # noqa: ASYNC110
                await asyncio.sleep(max(self.breaker.wait_s(clock()), PROBING_S))
            try:
                await self._deliver(row)
            except SinkError as error:
                if error.is_permanent:
                    # The consumer is there and says what it thinks of this event.
                    self.breaker.succeeded(ticket)
                elif failed_at is not None and failed_at < self.figures.taken:
                    # Others were taken since it failed: that is about this event, and
                    # as a probe it would open the breaker for all of them again.
                    self.breaker.withdrawn(ticket)
                else:
                    is_repeat = failed_at is not None
                    self._note_failure(ticket, clock(), is_repeat=is_repeat)
                raise
            except BaseException:
                self.breaker.withdrawn(ticket)
                raise
            self.breaker.succeeded(ticket)

    async def _deliver(self, row: OutboxRow) -> None:
        """Hand an event to the sink; whatever goes wrong there is a `SinkError`.

        What a consumer answers is not ours to choose, and one answer that a sink or its
        library cannot digest would otherwise end the bridge for everybody (I-31).
        """
        try:
            await self._sink.deliver(row)
        except SinkError:
            raise
        except Exception as error:
            LOG.exception("= sink %s: a defect of this bridge", self.name)
            said = f"a defect of this bridge: {type(error).__name__}: {error}"
            raise SinkError(said) from error

    def _note_failure(self, ticket: int, now_s: float, *, is_repeat: bool) -> None:
        before = self.breaker.state
        self.breaker.failed(ticket, now_s, is_repeat=is_repeat)
        if self.breaker.state is BreakerState.OPEN and before is not self.breaker.state:
            LOG.warning(
                "= sink %s: breaker open for %.0f s; events wait in the store",
                self.name,
                self.breaker.wait_s(now_s),
            )


def _require_wanted(error: SinkError) -> None:
    """Go on only if nobody has cancelled us.

    `asyncio.wait_for` of Python 3.11, by which nats-py connects, forgets a cancellation
    that comes as what it waits for ends: we would try for ever, and the bridge that
    stops would wait for us.

    Raises:
        asyncio.CancelledError: somebody has, and got this failure instead.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error
