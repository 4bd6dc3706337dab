"""The real bridge of the simulation: its parts as `bridge.bootstrap` composes them.

What is not here is its HTTP: orders go to the dispatcher as the API gives them. It can
be killed at any instant: what was committed stays, nothing else happens any more, and
the next one begins with the database alone.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from random import Random
from typing import Any, Final, TypeVar

from sqlalchemy import Connection

from bridge.errors import SinkError, StoreError
from bridge.instant import Instant
from bridge.ports import Link
from bridge.rows.outbox import OutboxRow
from bridge.sqlite_database import SqliteDatabase
from certs.fleet import FleetDirectory
from firmware_emulator.chance import seeded
from tests.bridge.world import World
from tests.simulation.broker import BRIDGE, Broker
from tests.simulation.clock import WallClock
from tests.simulation.trace import Trace

T = TypeVar("T")

HOUSEKEEPING_S: Final = 5.0
"""A fifth as often as in `bridge.bootstrap`: idle looks cost more than all else."""

BOOT_S: Final = 5.0
"""Off for so long, it was its machine that died: its boot clock begins anew."""

REFUSING_SHARE: Final = 0.1
"""How often the consumer fails."""


class MortalDatabase(SqliteDatabase):
    """The production database of a process that can be killed."""

    is_dead = False

    def transact(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        if self.is_dead:
            raise StoreError("the bridge is dead")
        return super().transact(work, writes=writes)


class Consumer:
    """Implements `bridge.sinks.ports.Sink`: remembers what it took, and fails at times.

    It outlives the bridge. At times it takes an event and its answer gets lost.
    """

    name = "consumer"
    parallel = 4

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.taken: list[OutboxRow] = []
        self.is_kind = False

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def deliver(self, row: OutboxRow) -> None:
        await asyncio.sleep(self._rng.random() * 0.05)
        fails = not self.is_kind and self._rng.random() < REFUSING_SHARE
        if fails and self._rng.random() < 0.5:
            raise SinkError("not now")
        self.taken.append(row)
        if fails:
            raise SinkError("the answer got lost")


class BridgeProcess(World):
    """One life of the bridge."""

    def __init__(
        self,
        fleet: FleetDirectory,
        path: Path,
        consumer: Consumer,
        *,
        rng: Random,
        clock: WallClock,
        connect: Callable[[], AbstractAsyncContextManager[Link]],
    ) -> None:
        self._rng = rng
        self._clock = clock
        self.file = MortalDatabase(path)
        self._parts: list[asyncio.Task[None]] = []
        super().__init__(
            fleet,
            path,
            (consumer,),
            database=self.file,
            holder=f"bridge-{rng.randrange(10**6)}",
            connect=connect,
        )

    def now(self) -> int:
        return self._clock()

    def instant(self) -> Instant:
        return self._clock.instant()

    def random_bytes(self, size: int) -> bytes:
        return self._rng.randbytes(size)

    def boot(self) -> None:
        """Open the store and start every part."""
        self.store.open()
        for work in (
            self.intake.run(),
            self.dispatcher.run(),
            self.steward.run(),
            self._keep_house(),
            *(relay.run() for relay in self.relays),
        ):
            self._begin(work)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._parts.append(asyncio.create_task(work))

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            with contextlib.suppress(StoreError):
                await self.intake.flush()
                told = await self.store.tell_gaps(now=self.now())
                if await self.store.tell_silence(now=self.now()) or told:
                    self._wake()

    def failures(self) -> list[BaseException]:
        """Return what ended a part, which nothing may."""
        found = []
        for part in self._parts:
            if part.done() and not part.cancelled():
                error = part.exception()
                found.append(error or RuntimeError("a part of the bridge ended"))
        return found

    async def die(self) -> None:
        """Be killed: no transaction commits and no frame leaves from here on."""
        self.file.is_dead = True
        await self._cancel()
        self.file.close()

    async def end(self) -> None:
        """End in order (I-34)."""
        await self._cancel()
        with contextlib.suppress(StoreError):
            await self.intake.flush()
        await self.store.close()

    async def _cancel(self) -> None:
        for part in self._parts:
            part.cancel()
        await asyncio.gather(*self._parts, return_exceptions=True)
        await self.configurator.close()
        await self.dispatcher.close()


class SimulatedBridge:
    """The bridge over its deaths; the file and the consumer outlive it."""

    def __init__(
        self,
        fleet: FleetDirectory,
        path: Path,
        *,
        rng: Random,
        broker: Broker,
        clock: WallClock,
        trace: Trace,
    ) -> None:
        self._fleet = fleet
        self.path = path
        self._rng = rng
        self._broker = broker
        self.clock = clock
        self._trace = trace
        self.consumer = Consumer(seeded(rng.getrandbits(64), "consumer"))
        self.process: BridgeProcess | None = None
        self.on_built: Callable[[BridgeProcess], None] = lambda _: None
        """Told of each new process before it starts: where a fault is planted."""

    def start(self) -> None:
        process = self.process = BridgeProcess(
            self._fleet,
            self.path,
            self.consumer,
            rng=seeded(self._rng.getrandbits(64), "process"),
            clock=self.clock,
            connect=lambda: self._broker.connect(BRIDGE),
        )
        self.on_built(process)
        process.boot()

    async def crash(self, off_s: float) -> None:
        """Kill it, and start it anew after a while."""
        process, self.process = self.process, None
        if process is None:
            return
        self._trace.note("bridge", f"dies for {off_s:.1f} s", kind="bridge crashes")
        self._broker.cut(BRIDGE)
        await process.die()
        await asyncio.sleep(off_s)
        if off_s >= BOOT_S:
            self.clock.reboot()
        self.start()

    async def restart(self) -> None:
        """End it in order and start it anew, as a deployment does."""
        process, self.process = self.process, None
        if process is None:
            return
        self._trace.note("bridge", "is deployed anew", kind="bridge restarts")
        await process.end()
        self.start()

    async def end(self) -> None:
        if self.process is not None:
            await self.process.end()
            self.process = None
