"""When a consumer is asked again: not all at once, and when it says so (row 30)."""

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from bridge import relay as relay_module
from bridge.breaker import BreakerState
from bridge.errors import SinkError
from bridge.rows.outbox import OutboxRow
from certs.fleet import FleetDirectory
from firmware_emulator.chance import seeded
from protocol.codes import FrameClass
from protocol.event import AgentStarted
from protocol.identity import VehicleId
from tests.bridge.running import until
from tests.bridge.test_sinks import MemorySink
from tests.bridge.world import World
from tests.simulation import seeded_loop
from transport.backoff import Backoff

TYPE = "freefloat.agent.started"


class TimedSink(MemorySink):
    """Notes when each car's event was tried."""

    def __init__(
        self, *failures: SinkError, random: Callable[[], float] | None = None
    ) -> None:
        super().__init__()
        self.random = random
        self.failures[TYPE] = [*failures]
        self.at_s = defaultdict[VehicleId, list[float]](list)

    async def deliver(self, row: OutboxRow) -> None:
        now_s = asyncio.get_running_loop().time()
        self.at_s[row.vehicle_id].append(now_s)
        await super().deliver(row)

    async def waits_s(self, world: World) -> list[float]:
        """Let each car tell something, and return its times between two attempts."""
        [relay] = world.relays
        relay._random = self.random or relay._random
        for car in world.cars:
            told = car.event(AgentStarted(1, bytes(4)))
            await world.say(FrameClass.EVENT, told, car=car)
        await until(lambda: len(self.taken) == len(world.cars))
        assert relay.breaker.state is BreakerState.CLOSED, "it would wait for that"
        assert [len(times) for times in self.at_s.values()] == [2] * len(world.cars)
        return [later - first for first, later in self.at_s.values()]


def waits_s(fleet: FleetDirectory, state: Path, sink: TimedSink) -> list[float]:
    """Return each car's time between two attempts, whatever the machine does beside it.

    Waiting takes no time in this loop, and its clock does not run by itself.
    """

    async def live() -> list[float]:
        async with World(fleet, state / "bridge.sqlite", (sink,)) as world:
            return await sink.waits_s(world)

    return seeded_loop.run(live(), seeded(1, "retries"))


def test_events_that_fail_together_are_not_tried_again_together(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 30 (retry with jitter): a part of each delay is drawn for it alone."""
    monkeypatch.setattr(relay_module, "BACKOFF", Backoff(initial_s=2, maximum_s=2))
    draws = iter([0.0, 0.5, 1.0])
    sink = TimedSink(*[SinkError("500")] * 3, random=lambda: next(draws))

    waited_s = waits_s(fleet, tmp_path, sink)

    assert waited_s == pytest.approx([2.0, 1.5, 1.0])


class DeafSink(MemorySink):
    """Fails at once; when it is cancelled too, as what waits in `wait_for` may."""

    async def deliver(self, row: OutboxRow) -> None:
        if self.is_down:
            self.attempts += 1
            raise LookupError("for ever")
        await super().deliver(row)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        self.is_down = True
        raise SinkError("no servers available for connection")


async def test_a_consumer_that_fails_as_the_bridge_stops_does_not_keep_it(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-34: a stop ends, though the cancellation is lost in somebody's library."""
    quick = Backoff(initial_s=0.001, maximum_s=0.002)
    monkeypatch.setattr(relay_module, "BACKOFF", quick)
    sink = DeafSink()
    async with (
        asyncio.timeout(10),
        World(fleet, tmp_path / "b.sqlite", (sink,)) as world,
    ):
        [car, *_] = world.cars
        await world.say(FrameClass.EVENT, car.event(AgentStarted(1, bytes(4))), car=car)
        await sink.grew.wait()

    assert sink.is_down, "it was asked, and cancelled in that"
    assert sink.attempts == 1


class Plea(NamedTuple):
    """What a consumer asks for, our limit, and what it gets, in s."""

    asked: float
    limit: float
    given: float


@pytest.mark.parametrize(
    "plea",
    # Ten years: one answer of a broken proxy stops nobody's events.
    [Plea(1, 300, 1), Plea(315_360_000, 0.5, 0.5), Plea(math.inf, 0.5, 0.5)],
)
def test_a_consumer_that_asks_for_time_gets_it_up_to_a_limit(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plea: Plea
) -> None:
    """Row 30 (429): Retry-After is heeded over our own shorter delay, and bounded."""
    quick = Backoff(initial_s=0.001, maximum_s=0.002)
    monkeypatch.setattr(relay_module, "BACKOFF", quick)
    monkeypatch.setattr(relay_module, "RETRY_AFTER_LIMIT_S", plea.limit)
    sink = TimedSink(*[SinkError("429", retry_after_s=plea.asked)] * 3)

    waited_s = waits_s(fleet, tmp_path, sink)

    assert waited_s == pytest.approx([plea.given] * 3)


def test_a_consumer_may_ask_for_five_minutes() -> None:
    """Row 30 (429): as docs/api.md says, and longer than our own longest delay."""
    assert relay_module.RETRY_AFTER_LIMIT_S == 300
    assert relay_module.BACKOFF.maximum_s < 300
    assert relay_module.BACKOFF.jitter >= 0.5
