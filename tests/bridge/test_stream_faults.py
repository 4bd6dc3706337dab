"""Kafka and JetStream that fail in their own ways (rows 31 and 32, I-26, I-31)."""

import asyncio
import dataclasses
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.msg import Msg
from nats.js.api import StreamConfig

from bridge import relay as relay_module
from bridge.errors import SinkError
from bridge.rows.outbox import OutboxRow
from bridge.sinks.jetstream import JetStreamSink
from bridge.traces import trace_parent
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.identity import VehicleId
from tests.bridge.consumer_database import ConsumerDatabase
from tests.bridge.mock_kafka import (
    NOT_ENOUGH_REPLICAS,
    NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    OUT_OF_ORDER_SEQUENCE_NUMBER,
    REQUEST_TIMED_OUT,
    MockKafka,
)
from tests.bridge.running import until
from tests.bridge.stream import BODIES, entries_of
from tests.bridge.test_sinks import MemorySink, row
from tests.bridge.test_stream_sinks import (
    NatsServer,
    event_id_of,
    everything_taken,
    read_messages,
    read_topic,
    server,
    stream_settings,
    stream_sink,
    topic_sink,
)
from tests.bridge.world import World
from tests.simulation.bridge import MortalDatabase
from transport.backoff import Backoff

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

__all__ = ["server"]

WINDOW_S = 0.1
"""How long the stream knows a message again."""


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Backoff(initial_s=0.05, maximum_s=0.1)
    monkeypatch.setattr(relay_module, "BACKOFF", quick)


@pytest.fixture
def kafka() -> Iterator[MockKafka]:
    made = MockKafka()
    yield made
    made.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[ConsumerDatabase]:
    made = ConsumerDatabase(tmp_path / "consumer")
    yield made
    made.close()


@pytest.mark.parametrize(
    ("errors", "answer_ms"),
    [
        ((NOT_ENOUGH_REPLICAS,) * 3, 40),
        # The mock appends nothing when it says so; a real append is the next test's.
        ((NOT_ENOUGH_REPLICAS_AFTER_APPEND, REQUEST_TIMED_OUT), 400),
    ],
)
async def test_a_refusal_by_kafka_or_its_slowness_loses_no_event(
    fleet: FleetDirectory,
    tmp_path: Path,
    kafka: MockKafka,
    errors: tuple[int, ...],
    answer_ms: int,
) -> None:
    """Fault row 31 (NOT_ENOUGH_REPLICAS, 400 ms), I-26."""
    kafka.answer_after(answer_ms)
    sink = topic_sink(kafka.servers)
    async with World(fleet, tmp_path / "store", (sink,)) as world:
        kafka.refuse(*errors)
        await world.say(FrameClass.EVENT, *entries_of(world.car))
        rows = await everything_taken(world, "topic")

    kafka.answer_after(0)
    told = await asyncio.to_thread(read_topic, kafka.servers, len(rows))

    assert [event_id for _, event_id, _ in told] == [one.event_id for one in rows]


async def test_what_kafka_appended_and_did_not_answer_goes_again_and_has_one_effect(
    fleet: FleetDirectory,
    tmp_path: Path,
    kafka: MockKafka,
    database: ConsumerDatabase,
) -> None:
    """Fault row 31 (timeout after append), I-26: the same row; its reader drops it.

    Its answer comes when the producer has given the message up, which ends the session
    in which the brokers themselves would know a repetition.
    """
    sink = topic_sink(kafka.servers, timeout_s=0.5)
    async with World(fleet, tmp_path / "store", (sink,)) as world:
        entries = entries_of(world.car)
        await world.say(FrameClass.EVENT, *entries[:2])
        before = await everything_taken(world, "topic")
        kafka.answer_after(3_000)
        await world.say(FrameClass.EVENT, *entries[2:])
        [relay] = world.relays
        await until(lambda: relay.figures.failed > 0)
        held = await world.store.cursor("topic")
        kafka.answer_after(0)
        rows = await everything_taken(world, "topic")

    told = await asyncio.to_thread(read_messages, kafka.servers, len(rows))
    # The second time for a reader that died before it told how far it was.
    for message in (*told, *told):
        database.take(event_id_of(message), message.value() or b"")

    assert held == before[-1].position
    assert database.effects() == [(one.event_id, one.body) for one in rows]
    doubled = rows[len(before)]
    copies = [one.value() for one in told if event_id_of(one) == doubled.event_id]
    assert len(copies) > 1, "the fault did not come about"
    assert set(copies) == {doubled.body}


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


async def test_a_producer_that_kafka_ends_for_good_leaves_no_event_waiting(
    kafka: MockKafka,
) -> None:
    """Fault row 31, I-26, I-31: all that was under way with it goes again by a new one.

    Kafka ends one whose sequence of messages it finds broken, as after a loss of data.
    """
    rows = [
        dataclasses.replace(row(number), vehicle_id=VehicleId(bytes([number]) * 16))
        for number in range(60)
    ]
    sink, failures = topic_sink(kafka.servers, timeout_s=60), 0
    await sink.open()

    async def deliver(one: OutboxRow) -> None:
        nonlocal failures
        while True:
            try:
                await sink.deliver(one)
            except SinkError:
                failures += 1
                await asyncio.sleep(0.1)
            else:
                return

    await asyncio.gather(*map(deliver, rows[:20]))
    kafka.answer_after(300)
    kafka.refuse(OUT_OF_ORDER_SEQUENCE_NUMBER)
    async with asyncio.timeout(20):
        await asyncio.gather(*map(deliver, rows[20:]))
    kafka.answer_after(0)
    async with asyncio.timeout(10):
        await sink.close()

    told = await asyncio.to_thread(read_messages, kafka.servers, len(rows))
    assert {event_id_of(one) for one in told} == {one.event_id for one in rows}
    assert failures, "the fault did not come about"


@pytest.mark.parametrize("answer", [b"taken", b"", b"[]", b"{}", b"7", b"\xff"])
async def test_who_answers_in_the_place_of_the_stream_has_taken_nothing(
    server: NatsServer, answer: bytes
) -> None:
    """I-31, I-26: a service that listens where a stream should ends no bridge."""
    client = await nats.connect(server.url)

    async def reply(message: Msg) -> None:
        await message.respond(answer)

    await client.subscribe("freefloat.>", cb=reply)
    await client.flush()
    sink = stream_sink(server)
    await sink.open()

    with pytest.raises(SinkError, match="EVENTS"):
        await sink.deliver(row(1))
    await sink.close()
    await client.close()


async def test_beyond_the_duplicate_window_a_repetition_has_no_second_effect(
    fleet: FleetDirectory,
    tmp_path: Path,
    server: NatsServer,
    database: ConsumerDatabase,
) -> None:
    """Fault row 32 (window), I-26: all is published twice and told apart by its id.

    The bridge dies when the stream has everything and the cursor has nothing.
    """
    client = await nats.connect(server.url)
    await client.jetstream().add_stream(
        StreamConfig(name="EVENTS", subjects=["freefloat.>"], duplicate_window=WINDOW_S)
    )
    await client.close()
    store, taken = MortalDatabase(tmp_path / "store"), []

    class LastSink(JetStreamSink):
        async def deliver(self, row: OutboxRow) -> None:
            store.is_dead = True
            await super().deliver(row)
            taken.append(row)

    dying = LastSink(stream_settings(server), trace_parent)
    async with World(fleet, tmp_path / "store", (dying,), database=store) as world:
        await world.say(FrameClass.EVENT, *entries_of(world.car))
        await until(lambda: len(taken) == len(BODIES))
    await asyncio.sleep(2 * WINDOW_S)
    async with World(fleet, tmp_path / "store", (stream_sink(server),)) as world:
        rows = await everything_taken(world, "events")

    told = await server.messages()
    for message in told:
        database.take((message.headers or {})["Nats-Msg-Id"], message.data)

    assert database.effects() == [(one.event_id, one.body) for one in rows]
    copies = Counter((one.headers or {})["Nats-Msg-Id"] for one in told)
    assert copies == {one.event_id: 2 for one in rows}, "the fault did not come about"
