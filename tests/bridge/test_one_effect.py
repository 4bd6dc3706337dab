"""One effect downstream, whatever dies or fails between the outbox and an inbox (I-26).

A webhook's consumer, Kafka and JetStream fail side by side, each in its own ways, and
the bridge is killed in between: the real sinks, a real HTTP server, the brokers inside
librdkafka and a real nats-server. Consumers do as docs/api.md tells them (9): the
effect and the event's id are one transaction, and an id that is known has none.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from bridge import relay as relay_module
from bridge.breaker import Breaker, BreakerLimits
from bridge.rows.outbox import OutboxRow
from bridge.sinks.webhook import WebhookSink
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.event import AgentStarted
from tests.bridge.mock_kafka import (
    NOT_ENOUGH_REPLICAS,
    NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    REQUEST_TIMED_OUT,
    MockKafka,
)
from tests.bridge.test_sinks import SECRET, machine_ms
from tests.bridge.test_stream_sinks import (
    NatsServer,
    everything_taken,
    read_topic,
    server,
    stream_sink,
    topic_sink,
)
from tests.bridge.world import World
from tests.depth import DEEP
from tests.simulation.bridge import MortalDatabase
from transport.backoff import Backoff

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

__all__ = ["server"]

CARS: Final = 2

QUICK: Final = BreakerLimits(wait_s=0.05, longest_wait_s=0.1)

DEEDS: Final = (
    "cars tell",
    "cars tell",
    "the bridge is killed",
    "the bridge is killed",
    "the webhook refuses",
    "the webhook's answer gets lost",
    "kafka refuses",
    "kafka appends and says no",
    "the stream is killed",
    "the stream comes back",
)

WORST: Final = (
    "cars tell",
    "the webhook's answer gets lost",
    "kafka appends and says no",
    "the stream is killed",
    "cars tell",
    "the bridge is killed",
    "the webhook refuses",
    "kafka refuses",
    "the stream comes back",
    "cars tell",
    "the bridge is killed",
)


class Inbox:
    """A consumer of webhooks with its database."""

    def __init__(self) -> None:
        self.plans: list[tuple[bool, int]] = []
        """For each next request whether it has its effect, and what is answered."""
        self.effects: dict[str, None] = {}
        self.deliveries = 0
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        has_effect, status = self.plans.pop(0) if self.plans else (True, 200)
        if has_effect:
            self.deliveries += 1
            self.effects.setdefault(request.headers["webhook-id"])
        return web.Response(status=status)

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/hook", self.handle)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            self.url = f"http://{host}:{port}/hook"
            yield
        finally:
            await runner.cleanup()


class Site:
    """Three consumers and a bridge that is killed and begins anew on its store."""

    def __init__(self, fleet: FleetDirectory, folder: Path, server: NatsServer) -> None:
        self._fleet = fleet
        self._path = folder / "store"
        self.inbox, self.kafka, self.server = Inbox(), MockKafka(), server
        self._database: MortalDatabase | None = None
        self._stack = contextlib.AsyncExitStack()
        self.world: World | None = None
        self._told = 0
        self._cars = World(fleet, folder / "unused").cars[:CARS]

    async def begin(self) -> None:
        hook = WebhookSink(
            "hook", self.inbox.url, lambda: (SECRET,), timeout_s=2, now=machine_ms
        )
        sinks = (hook, topic_sink(self.kafka.servers), stream_sink(self.server))
        self._database = MortalDatabase(self._path)
        made = World(self._fleet, self._path, sinks, database=self._database)
        for relay in made.relays:
            relay.breaker = Breaker(QUICK)
        self.world = await self._stack.enter_async_context(made)

    async def kill(self) -> None:
        """Nothing more is written from here on: not how far a consumer got either."""
        assert self._database is not None
        self._database.is_dead = True
        await self._stack.aclose()
        self.world = None

    async def tell(self) -> None:
        assert self.world is not None
        for car in self._cars:
            for _ in range(3):
                data = car.event(AgentStarted(1, bytes(4)))
                await self.world.say(FrameClass.EVENT, data, car=car)

    async def do(self, deed: str) -> None:
        match deed:
            case "cars tell":
                await self.tell()
            case "the bridge is killed":
                await self.kill()
                await self.begin()
            case "the webhook refuses":
                self.inbox.plans += [(False, 500)] * 2
            case "the webhook's answer gets lost":
                self.inbox.plans += [(True, 500), (True, 504)]
            case "kafka refuses":
                self.kafka.refuse(NOT_ENOUGH_REPLICAS, NOT_ENOUGH_REPLICAS)
            case "kafka appends and says no":
                self.kafka.refuse(NOT_ENOUGH_REPLICAS_AFTER_APPEND, REQUEST_TIMED_OUT)
            case "the stream is killed":
                await asyncio.to_thread(self.server.kill)
            case _:
                await self.revive()

    async def revive(self) -> None:
        if self.server.process is None:
            await asyncio.to_thread(self.server.start)

    async def settle(self) -> list[OutboxRow]:
        """Let all be well, and wait until every consumer has everything."""
        self.inbox.plans.clear()
        await self.revive()
        await self.tell()
        assert self.world is not None
        names = [relay.name for relay in self.world.relays]
        return [await everything_taken(self.world, name) for name in names][-1]


def of_each_car(ids: Sequence[str], rows: Sequence[OutboxRow]) -> list[list[str]]:
    """Return the ids by car, each once, as they came."""
    whose = {row.event_id: str(row.vehicle_id) for row in rows}
    cars = sorted(set(whose.values()))
    once = list(dict.fromkeys(ids))
    return [[name for name in once if whose[name] == car] for car in cars]


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Backoff(initial_s=0.01, maximum_s=0.05)
    monkeypatch.setattr(relay_module, "BACKOFF", quick)


@example(WORST)
@given(st.lists(st.sampled_from(DEEDS), max_size=8))
@settings(
    max_examples=60,
    deadline=None,
    # Real servers: to look for a shorter way to a failure takes minutes.
    phases=(Phase.explicit, Phase.generate) if DEEP else (Phase.explicit,),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
async def test_each_event_has_one_effect_at_each_consumer_whatever_fails(
    fleet: FleetDirectory, server: NatsServer, deeds: Sequence[str]
) -> None:
    """I-26 (S), I-25, rows 30 to 32."""
    with tempfile.TemporaryDirectory() as directory:
        site = Site(fleet, Path(directory), server)
        await site.revive()
        await server.make_stream()
        try:
            async with site.inbox.serve():
                await site.begin()
                for deed in deeds:
                    await site.do(deed)
                rows = await site.settle()
                topic = await asyncio.to_thread(
                    read_topic, site.kafka.servers, len(rows)
                )
                stream = await server.told()
                await site.kill()
        finally:
            site.kafka.close()
            await server.drop_stream()

    ids = [row.event_id for row in rows]
    assert len(set(ids)) == len(ids)
    expected = of_each_car(ids, rows)
    assert of_each_car([*site.inbox.effects], rows) == expected
    assert of_each_car([name for _, name, _ in topic], rows) == expected
    # Within its window the stream itself drops what comes again.
    assert sorted(name for name, _ in stream) == sorted(ids)
    assert of_each_car([name for name, _ in stream], rows) == expected
