"""Kafka and JetStream that fail in their own ways (rows 31 and 32, I-26, I-31)."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamConfig

from bridge import relay as relay_module
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.mock_kafka import (
    NOT_ENOUGH_REPLICAS,
    NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    REQUEST_TIMED_OUT,
    MockKafka,
)
from tests.bridge.stream import entries_of
from tests.bridge.test_sinks import MemorySink, row
from tests.bridge.test_stream_sinks import (
    NatsServer,
    everything_taken,
    read_topic,
    server,
    stream_sink,
    topic_sink,
)
from tests.bridge.world import World
from tests.depth import times
from transport.backoff import Backoff

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

__all__ = ["server"]


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Backoff(initial_s=0.05, maximum_s=0.1)
    monkeypatch.setattr(relay_module, "BACKOFF", quick)


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    made = MockKafka()
    yield made
    made.close()


@pytest.mark.parametrize(
    "errors",
    [
        (NOT_ENOUGH_REPLICAS,) * 3,
        (NOT_ENOUGH_REPLICAS_AFTER_APPEND, REQUEST_TIMED_OUT),
    ],
)
async def test_a_refusal_by_kafka_or_its_silence_after_an_append_loses_no_event(
    fleet: FleetDirectory, tmp_path: Path, kafka: MockKafka, errors: tuple[int, ...]
) -> None:
    """Fault row 31, I-26: the same row again; its reader drops it by `ce_id`."""
    kafka.answer_after(times(40, deep=400))
    sink = topic_sink(kafka.servers)
    async with World(fleet, tmp_path / "store", (sink,)) as world:
        kafka.refuse(*errors)
        await world.say(FrameClass.EVENT, *entries_of(world.car))
        rows = await everything_taken(world, "topic")

    told = await asyncio.to_thread(read_topic, kafka.servers, len(rows))

    once = list(dict.fromkeys(event_id for _, event_id, _ in told))
    assert once == [one.event_id for one in rows]


async def test_kafka_that_is_down_holds_its_own_cursor_and_nobody_else(
    fleet: FleetDirectory, tmp_path: Path, kafka: MockKafka
) -> None:
    """Fault row 31 (brokers down), I-26, I-31 (F): the same row goes later."""
    sink, beside = topic_sink(kafka.servers, timeout_s=1), MemorySink("beside")
    async with World(fleet, tmp_path / "store", (sink, beside)) as world:
        kafka.down()
        await world.say(FrameClass.EVENT, *entries_of(world.car))
        rows = await everything_taken(world, "beside")
        [relay, _] = world.relays
        while not relay.figures.failed:  # noqa: ASYNC110 - the relay has no event
            await asyncio.sleep(0.05)
        held = await world.store.cursor("topic")
        kafka.up()
        await everything_taken(world, "topic")

    told = await asyncio.to_thread(read_topic, kafka.servers, len(rows))
    assert held == 0
    once = list(dict.fromkeys(event_id for _, event_id, _ in told))
    assert once == [one.event_id for one in rows]


async def test_a_frozen_jetstream_holds_its_own_cursor_and_nobody_else(
    fleet: FleetDirectory, tmp_path: Path, server: NatsServer
) -> None:
    """Fault row 32 (SIGSTOP), I-26, I-31 (F): noticed, and each event is there once."""
    await server.make_stream()
    sink, beside = stream_sink(server), MemorySink("beside")
    assert server.process is not None
    async with World(fleet, tmp_path / "store", (sink, beside)) as world:
        entries = entries_of(world.car)
        await world.say(FrameClass.EVENT, *entries[:2])
        before = await everything_taken(world, "events")
        server.process.send_signal(signal.SIGSTOP)
        try:
            await world.say(FrameClass.EVENT, *entries[2:])
            await everything_taken(world, "beside")
            [relay, _] = world.relays
            while not relay.figures.failed:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)
            held = await world.store.cursor("events")
        finally:
            server.process.send_signal(signal.SIGCONT)
        rows = await everything_taken(world, "events")

    assert held == before[-1].position
    assert [name for name, _ in await server.told()] == [one.event_id for one in rows]


async def test_beyond_the_duplicate_window_the_event_s_id_tells_a_repetition(
    server: NatsServer,
) -> None:
    """Fault row 32 (window): taken twice; its reader knows it by its id."""
    client = await nats.connect(server.url)
    await client.jetstream().add_stream(
        StreamConfig(name="EVENTS", subjects=["freefloat.>"], duplicate_window=0.1)
    )
    await client.close()
    sink = stream_sink(server)
    await sink.open()
    await sink.deliver(row(1))
    await asyncio.sleep(0.5)
    await sink.deliver(row(1))
    await sink.deliver(row(2))
    await sink.close()

    told = [name for name, _ in await server.told()]

    assert told == ["id-1", "id-1", "id-2"]
