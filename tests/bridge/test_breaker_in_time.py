"""Breakers of a whole bridge in virtual time, and commands that know nothing of them.

The consumer fails, hangs and recovers in any way; meanwhile cars tell events and an
operator orders. Waiting costs nothing, so a minute of a breaker is tried in full.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.breaker import BreakerLimits, BreakerState
from bridge.commands import CommandState
from bridge.errors import SinkError
from bridge.instant import Instant
from bridge.relay import BACKOFF, PROBING_S, Relay
from bridge.rows.outbox import OutboxRow
from certs.fleet import FleetDirectory
from firmware_emulator.chance import seeded
from protocol.codes import FrameClass
from protocol.command import ANY_VERSION, Unlock
from protocol.event import AgentStarted
from tests.bridge.car import RENTAL
from tests.bridge.conftest import make_fleet
from tests.bridge.world import BOOT_MS, MACHINE_MS, NOW_MS, World
from tests.depth import times
from tests.simulation import seeded_loop

LIMITS: Final = BreakerLimits()
"""As every sink of the product has them."""

HANG_S: Final = 10.0
"""How long a call to a consumer that hangs takes; `timeout_s` of a webhook."""

PROBE_S: Final = 0.1
"""How long a consumer that is well takes."""

COMMAND_S: Final = 0.5
"""Within which an order is with its car: a few commits, of which one in twenty takes
0.16 s in this loop."""

CARS: Final = 12
"""An event that fails again and again counts once: as many cars as a breaker needs to
open."""

LONG_S: Final = 40
"""After which it is open: two rounds of calls that hang, and events to make them."""

PHASES: Final = st.lists(
    st.tuples(st.sampled_from(("well", "fails", "hangs")), st.integers(5, 90)),
    min_size=1,
    max_size=3,
)
"""What the consumer does, and for how many seconds."""


class IllSink:
    """Implements `bridge.sinks.ports.Sink`."""

    name = "ill"
    parallel = 8

    def __init__(self) -> None:
        self.does = "well"
        self.relay: Relay | None = None
        self.taken: list[OutboxRow] = []
        self.probes: dict[int, int] = {}
        """Of each opening of the breaker, how many calls were made."""

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def deliver(self, row: OutboxRow) -> None:
        assert self.relay is not None
        breaker = self.relay.breaker
        assert breaker.state is not BreakerState.OPEN, "called while it is open"
        if breaker.state is BreakerState.HALF_OPEN:
            probes = self.probes.get(breaker.openings, 0) + 1
            self.probes[breaker.openings] = probes
            assert probes <= LIMITS.probes
        elif not breaker.openings:
            self.probes.clear()
        if self.does == "hangs":
            await asyncio.sleep(HANG_S)
            raise SinkError("no answer")
        await asyncio.sleep(PROBE_S)
        if self.does == "fails":
            raise SinkError("503")
        self.taken.append(row)


class TimedWorld(World):
    """Its clocks are the loop's."""

    def now(self) -> int:
        return NOW_MS + round(asyncio.get_running_loop().time() * 1_000)

    def instant(self) -> Instant:
        return Instant(self.now(), MACHINE_MS + self.now() - NOW_MS, self.holder)

    def boot_ms(self) -> int:
        return BOOT_MS + self.now() - NOW_MS


@asynccontextmanager
async def timed_world(fleet: FleetDirectory, sink: IllSink) -> AsyncIterator[World]:
    with TemporaryDirectory() as directory:
        async with TimedWorld(fleet, Path(directory) / "b.sqlite", (sink,)) as world:
            [sink.relay] = world.relays
            yield world


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> FleetDirectory:
    return make_fleet(tmp_path_factory.mktemp("fleets") / "large", CARS)


async def order(world: World) -> float:
    """Order, let the car do it, and return after how many seconds it had the order."""
    clock = asyncio.get_running_loop().time
    begun_s = clock()
    ordered = asyncio.create_task(world.order(Unlock(RENTAL, ANY_VERSION), wait_s=30))
    frame = await world.broker.next_sent(FrameClass.CMD)
    took_s = clock() - begun_s
    await world.say(FrameClass.RESULT, world.car.result(frame))
    assert (await ordered).state is CommandState.SUCCEEDED
    return took_s


async def live(fleet: FleetDirectory, phases: Sequence[tuple[str, int]]) -> None:
    sink, clock = IllSink(), asyncio.get_running_loop().time
    took_s, told = list[float](), 0
    async with timed_world(fleet, sink) as world:
        await world.greet()
        for does, seconds in phases:
            sink.does = does
            until_s = clock() + seconds
            while clock() < until_s:
                for car in world.cars:
                    await world.say(
                        FrameClass.EVENT, car.event(AgentStarted(1, bytes(4))), car=car
                    )
                    told += 1
                took_s.append(await order(world))
                await asyncio.sleep(3)
            if does != "well" and seconds >= LONG_S:
                assert world.relays[0].breaker.openings
        sink.does = "well"
        # An event that just failed waits before it asks the breaker, which may have
        # opened last by a call that began before the recovery.
        wait_s = LIMITS.longest_wait_s + BACKOFF.maximum_s + HANG_S
        await asyncio.sleep(wait_s + LIMITS.probes * (PROBE_S + PROBING_S))
        assert world.relays[0].breaker.state is BreakerState.CLOSED
        taken = [row for row in sink.taken if row.type == "freefloat.agent.started"]
        assert len(taken) == told
        for car in world.cars:
            own = [row.position for row in taken if row.vehicle_id == car.id]
            assert own == sorted(set(own))
    assert max(took_s) < COMMAND_S


@example([("fails", 60), ("hangs", 60)], 1)
@given(PHASES, st.integers(0, 1 << 32))
@settings(max_examples=times(3, deep=200), deadline=None)
def test_commands_never_wait_for_a_consumer_and_its_breaker_closes_after_it_is_well(
    fleet: FleetDirectory, phases: Sequence[tuple[str, int]], seed: int
) -> None:
    """I-32 (P), I-31: no call while open, few while half open, no event lost."""
    seeded_loop.run(live(fleet, phases), seeded(seed, "loop"))
