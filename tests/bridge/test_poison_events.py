"""Events and cars that a consumer chokes on harm no other car and no bridge.

I-31, I-32, K23, row 30.
"""

import asyncio
import time
from pathlib import Path

import pytest

from bridge import relay as relay_module
from bridge.breaker import Breaker, BreakerLimits, BreakerState
from bridge.rows.outbox import OutboxRow
from certs.fleet import FleetDirectory
from tests.bridge.running import until
from tests.bridge.test_sinks import BODIES, MemorySink, impatience, tell
from tests.bridge.world import World
from transport.backoff import Backoff

__all__ = ["impatience"]


async def test_a_car_whose_events_always_fail_holds_back_no_other(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # I-31: one event that a consumer answers with 500, for days, stops its own car.
    sink = MemorySink()
    async with World(fleet, tmp_path / "bridge.sqlite", (sink,)) as world:
        sink.refused_vehicle = world.cars[0].id
        await tell(world, 0)
        await sink.wait_attempts(3)
        async with asyncio.timeout(30):
            for _ in range(2 * relay_module.WINDOW // len(BODIES)):
                await tell(world, 1)
            await sink.wait_taken(2 * relay_module.WINDOW // len(BODIES) * len(BODIES))
        assert await world.store.cursor("memory") == 0

        sink.refused_vehicle = None
        async with asyncio.timeout(30):
            await world.wait_cursor("memory", len(sink.taken) + len(BODIES))

    own = [r.position for r in sink.taken if r.vehicle_id == world.cars[0].id]
    assert own == sorted(own)
    assert len(own) == len(BODIES)


@pytest.mark.parametrize("way", ["it never takes them", "it takes them slowly"])
async def test_a_car_that_tells_more_than_is_taken_of_it_delays_no_other(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """I-31, I-25, K23: what one car has too much of waits in the store, in order."""
    monkeypatch.setattr(relay_module, "AHEAD_LIMIT", 40)
    monkeypatch.setattr(relay_module, "OWN_LIMIT", 8)

    class SlowSink(MemorySink):
        async def deliver(self, row: OutboxRow) -> None:
            if row.vehicle_id == much.id:
                await asyncio.sleep(0.03)
            await super().deliver(row)

    sink = SlowSink()
    async with World(fleet, tmp_path / "bridge.sqlite", (sink,)) as world:
        much, honest, other = world.cars
        if way == "it never takes them":
            sink.refused_vehicle = much.id
        for _ in range(40):
            await tell(world, 0)

        def beside() -> int:
            return sum(one.vehicle_id != much.id for one in sink.taken)

        begun_s = time.monotonic()
        await tell(world, 1, 2)
        await until(lambda: beside() == 2 * len(BODIES))
        took_s = time.monotonic() - begun_s
        own = [r for r in sink.taken if r.vehicle_id == much.id]
        assert len(own) < 40 * len(BODIES), "it is not held up at all"
        sink.refused_vehicle = None
        rows = await world.store.outbox_after(0, 1_000)
        async with asyncio.timeout(20):
            await world.wait_cursor("memory", rows[-1].position)

    for car in (much, honest, other):
        told = [r.position for r in rows if r.vehicle_id == car.id]
        assert [r.position for r in sink.taken if r.vehicle_id == car.id] == told
    assert took_s < 1.5, "what the other one has too much of takes 3 s"


async def test_what_waits_for_a_failing_consumer_is_bounded(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a sink has no room for waits in the store, in its order.
    monkeypatch.setattr(relay_module, "AHEAD_LIMIT", len(BODIES) - 1)
    sink = MemorySink()
    async with World(fleet, tmp_path / "bridge.sqlite", (sink,)) as world:
        sink.refused_vehicle = world.cars[0].id
        await tell(world, 0)
        await tell(world, 1)
        await sink.wait_attempts(sink.attempts + 20)
        assert sink.taken == []

        sink.refused_vehicle = None
        async with asyncio.timeout(10):
            await sink.wait_taken(2 * len(BODIES))
            await world.wait_cursor("memory", 2 * len(BODIES))

    for car in world.cars[:2]:
        own = [r.position for r in sink.taken if r.vehicle_id == car.id]
        assert own == sorted(own)


async def test_an_answer_that_a_sink_cannot_digest_ends_neither_it_nor_the_bridge(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # I-31: whatever a consumer says that nobody has thought of, it is a failure of it.
    ill, beside = MemorySink("ill"), MemorySink("beside")
    defects: list[Exception] = [OverflowError("signed integer"), ValueError("no JSON")]
    ill.failures["freefloat.rental.started"] = list(defects)
    async with World(fleet, tmp_path / "b.sqlite", (ill, beside)) as world:
        await tell(world, 0)
        async with asyncio.timeout(10):
            await beside.wait_taken(5)
            await ill.wait_taken(5)
        relay = world.relays[0]

    assert relay.figures.failed == len(defects)
    assert [r.event_id for r in ill.taken] == [r.event_id for r in beside.taken]


async def test_an_event_that_always_fails_keeps_no_breaker_open_after_an_outage(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-31, I-32: it fails at every probe, and that says nothing of the consumer."""
    quick = Backoff(initial_s=0.01, maximum_s=0.02)
    monkeypatch.setattr(relay_module, "BACKOFF", quick)

    class SlowSink(MemorySink):
        """A no comes at once, a yes takes a moment."""

        async def deliver(self, row: OutboxRow) -> None:
            if not self.is_down and row.vehicle_id != self.refused_vehicle:
                await asyncio.sleep(0.02)
            await super().deliver(row)

    sink = SlowSink(parallel=32)
    async with World(fleet, tmp_path / "bridge.sqlite", (sink,)) as world:
        [relay] = world.relays
        relay.breaker = Breaker(BreakerLimits(least=2, wait_s=0.5, longest_wait_s=0.5))
        sink.refused_vehicle = world.cars[0].id
        sink.is_down = True
        for _ in range(4):
            await tell(world, 0, 1, 2)
        await until(lambda: relay.breaker.state is BreakerState.OPEN)

        sink.is_down = False
        begun_s = time.monotonic()
        # Two at each half-opening would take 10 s.
        await until(lambda: len(sink.taken) == 2 * 4 * len(BODIES))
        assert relay.breaker.state is BreakerState.CLOSED
        assert time.monotonic() - begun_s < 5
