"""Events into NATS JetStream and Kafka: real server, real client library (I-26).

The Kafka brokers are the mock cluster inside librdkafka: the real client speaks Kafka's
protocol to it over loopback.
"""

import asyncio
import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import nats
import pytest
from confluent_kafka import Consumer, Message, Producer
from nats.aio.msg import Msg
from nats.js.api import DiscardPolicy, StreamConfig

from bridge.broker.program import BrokerKind, find_broker
from bridge.consumers import make_sinks
from bridge.errors import SettingsError, SinkError
from bridge.rows.outbox import OutboxRow
from bridge.settings import JetStreamSettings, KafkaSettings, parse_settings
from bridge.sinks.jetstream import JetStreamSink
from bridge.sinks.kafka import KafkaSink
from bridge.traces import trace_parent
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.stream import entries_of
from tests.bridge.test_sinks import row
from tests.bridge.world import World

pytestmark = pytest.mark.broker

START_S = 20.0

DEPLOYED = Path(__file__).parents[2] / "deploy/compose/nats.conf"


@dataclass
class NatsServer:
    """A real nats-server with JetStream; it can be killed and started again."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it with the very file of deploy/, but for the port and the folder."""
        text = DEPLOYED.read_text(encoding="utf-8")
        for here, there in (
            ("port: 4222", f'listen: "127.0.0.1:{self.port}"'),
            ('"/data"', f'"{self.folder}"'),
        ):
            assert here in text
            text = text.replace(here, there)
        settings = self.folder.with_name(f"nats-{self.port}.conf")
        settings.write_text(text, encoding="utf-8")
        program = find_broker(BrokerKind.NATS).path
        command = [str(program), "--config", str(settings)]
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                # Whoever connects to a free port may be given this very one for its own
                # end, and then the server cannot have it for a moment.
                self.process = subprocess.Popen(
                    command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1) as asking,
            ):
                if asking.recv(4) == b"INFO":  # as each nats-server begins
                    return
            time.sleep(0.05)
        raise TimeoutError

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    async def make_stream(self, *, most: int = -1) -> None:
        client = await nats.connect(self.url)
        await client.jetstream().add_stream(
            StreamConfig(
                name="EVENTS",
                subjects=["freefloat.>"],
                max_msgs=most,
                discard=DiscardPolicy.NEW,
            )
        )
        await client.close()

    async def drop_stream(self) -> None:
        client = await nats.connect(self.url)
        await client.jetstream().delete_stream("EVENTS")
        await client.close()

    async def told(self, subject: str = "freefloat.>") -> list[tuple[str, str]]:
        """Return message id and subject of all that the stream holds, in its order."""
        return [
            ((message.headers or {})["Nats-Msg-Id"], message.subject)
            for message in await self.messages(subject)
        ]

    async def messages(self, subject: str = "freefloat.>") -> list[Msg]:
        """Return all that the stream holds, in its order."""
        client = await nats.connect(self.url)
        stream = client.jetstream()
        count = (await stream.stream_info("EVENTS")).state.messages
        reader = await stream.subscribe(subject, ordered_consumer=True)
        found = []
        for _ in range(count):
            message = await reader.next_msg(timeout=5)
            headers = message.headers or {}
            assert headers["traceparent"].startswith("00-"), "its trace goes with it"
            found.append(message)
        await client.close()
        return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    made = NatsServer(tmp_path / "jetstream", port)
    made.start()
    yield made
    made.kill()


async def everything_taken(world: World, sink: str) -> list[OutboxRow]:
    """Wait until a sink took all that the outbox holds, and return it."""
    async with asyncio.timeout(50):
        while True:
            rows = await world.store.outbox_after(0, 100)
            if await world.store.cursor(sink) == rows[-1].position:
                return rows
            await asyncio.sleep(0.05)


def stream_settings(server: NatsServer, stream: str = "EVENTS") -> JetStreamSettings:
    return JetStreamSettings(name="events", url=server.url, stream=stream, timeout_s=2)


def stream_sink(server: NatsServer, stream: str = "EVENTS") -> JetStreamSink:
    return JetStreamSink(stream_settings(server, stream), trace_parent)


async def test_a_stream_gets_a_ledger_once_and_in_its_order(
    fleet: FleetDirectory, tmp_path: Path, server: NatsServer
) -> None:
    # I-25, I-26
    await server.make_stream()
    sink = stream_sink(server)
    async with World(fleet, tmp_path / "store", (sink,)) as world:
        await world.say(FrameClass.EVENT, *entries_of(world.car))
        rows = await everything_taken(world, "events")

    told = await server.told()

    assert [event_id for event_id, _ in told] == [one.event_id for one in rows]
    assert told[-1][1] == f"freefloat.{world.car.id}.freefloat-rental-ended"


async def test_what_is_published_again_is_in_the_stream_once(
    server: NatsServer,
) -> None:
    # Row 32: the message's id is the event's, whoever sends it and how often.
    await server.make_stream()
    for _ in range(2):
        sink = stream_sink(server)
        await sink.open()
        await sink.deliver(row(1))
        await sink.deliver(row(1))
        await sink.close()

    assert [event_id for event_id, _ in await server.told()] == ["id-1"]


async def test_a_server_that_is_killed_loses_no_event(
    fleet: FleetDirectory, tmp_path: Path, server: NatsServer
) -> None:
    # Row 32
    # row 32.
    await server.make_stream()
    sink = stream_sink(server)
    async with World(fleet, tmp_path / "store", (sink,)) as world:
        entries = entries_of(world.car)
        await world.say(FrameClass.EVENT, *entries[:2])
        before = await everything_taken(world, "events")
        server.kill()
        await world.say(FrameClass.EVENT, *entries[2:])
        await asyncio.sleep(0.5)
        assert await world.store.cursor("events") == before[-1].position
        server.start()
        rows = await everything_taken(world, "events")

    told = await server.told()

    assert [event_id for event_id, _ in told] == [one.event_id for one in rows]


async def test_a_stream_that_is_full_takes_nothing_and_nothing_is_given_up(
    server: NatsServer,
) -> None:
    # Row 32: discard new.
    await server.make_stream(most=1)
    sink = stream_sink(server)
    await sink.open()
    await sink.deliver(row(1))

    with pytest.raises(SinkError, match="maximum messages") as refused:
        await sink.deliver(row(2))
    await sink.close()

    assert not refused.value.is_permanent


async def test_a_stream_that_nobody_made_is_named_with_what_to_do(
    server: NatsServer,
) -> None:
    """Who runs NATS makes it; the library says "no response from stream" alone."""
    sink = stream_sink(server, stream="EVENTS")
    await sink.open()

    with pytest.raises(SinkError, match=r"takes freefloat\.>: make EVENTS"):
        await sink.deliver(row(1))
    await sink.close()


async def test_another_stream_with_the_same_subjects_gets_nothing(
    server: NatsServer,
) -> None:
    await server.make_stream()
    sink = stream_sink(server, stream="OTHERS")
    await sink.open()

    with pytest.raises(SinkError, match="expected stream"):
        await sink.deliver(row(1))
    await sink.close()

    assert await server.told() == []


def test_every_deployed_line_of_nats_has_a_reason_above_it() -> None:
    """Issue 5, point 7; every test of this file runs it."""
    lines = [line.strip() for line in DEPLOYED.read_text().splitlines()]
    bare = [
        line
        for above, line in pairwise(lines)
        if line and line not in {"}", "jetstream {"} and not line.startswith("#")
        if not above.startswith("#")
    ]

    assert bare == []


async def test_a_server_that_is_not_there_is_an_error_in_time(tmp_path: Path) -> None:
    sink = stream_sink(NatsServer(tmp_path, 1))
    await sink.open()

    with pytest.raises(SinkError, match=r"127\.0\.0\.1:1"):
        await sink.deliver(row(1))
    await sink.close()


@pytest.fixture
def cluster() -> Iterator[str]:
    """Addresses of a mock cluster of three brokers inside librdkafka."""
    owner = Producer({"test.mock.num.brokers": 3, "bootstrap.servers": "ignored"})
    brokers = owner.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    owner.flush(1)


def topic_sink(servers: str, timeout_s: float = 10) -> KafkaSink:
    return KafkaSink(
        KafkaSettings(
            name="topic", servers=servers, topic="events", timeout_s=timeout_s
        ),
        {},
        trace_parent,
    )


def _text(value: str | bytes | None) -> str:
    return value if isinstance(value, str) else (value or b"").decode()


def read_messages(servers: str, count: int) -> list[Message]:
    """Return a topic's messages from its beginning, of `count` events at least."""
    reader = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "reader",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    reader.subscribe(["events"])
    found: list[Message] = []
    deadline = time.monotonic() + 30
    while len(set(map(event_id_of, found))) < count and time.monotonic() < deadline:
        message = reader.poll(0.5)
        if message is not None and message.error() is None:
            headers = dict(message.headers() or [])
            assert _text(headers["traceparent"]).startswith("00-")
            found.append(message)
    reader.close()
    return found


def event_id_of(message: Message) -> str:
    return _text(dict(message.headers() or [])["ce_id"])


def read_topic(servers: str, count: int) -> list[tuple[str, str, int]]:
    """Return key, event id and partition of what `read_messages` found."""
    return [
        (_text(one.key()), event_id_of(one), one.partition() or 0)
        for one in read_messages(servers, count)
    ]


async def test_a_topic_gets_a_ledger_in_one_partition_and_in_its_order(
    fleet: FleetDirectory, tmp_path: Path, cluster: str
) -> None:
    # I-25, I-26, row 31
    async with World(fleet, tmp_path / "store", (topic_sink(cluster),)) as world:
        await world.say(FrameClass.EVENT, *entries_of(world.car))
        rows = await everything_taken(world, "topic")

    told = await asyncio.to_thread(read_topic, cluster, len(rows))

    assert [event_id for _, event_id, _ in told] == [one.event_id for one in rows]
    assert {key for key, _, _ in told} == {str(world.car.id)}
    assert len({partition for _, _, partition in told}) == 1


async def test_brokers_that_are_not_there_are_an_error_in_time() -> None:
    sink = topic_sink("127.0.0.1:1", timeout_s=0.5)
    await sink.open()

    with pytest.raises(SinkError, match=r"topic events at 127\.0\.0\.1:1") as refused:
        await sink.deliver(row(1))
    await sink.close()

    assert not refused.value.is_permanent


@pytest.mark.parametrize("option", ["acks", "enable.idempotence", "client.id"])
def test_what_delivered_means_is_not_up_to_an_options_file(option: str) -> None:
    with pytest.raises(SettingsError, match=f"options_file sets {option}"):
        KafkaSink(KafkaSettings(name="t", servers="x:1", topic="e"), {option: "0"})


async def test_an_option_that_librdkafka_does_not_know_is_refused_at_the_start() -> (
    None
):
    settings = KafkaSettings(name="t", servers="127.0.0.1:1", topic="e")
    sink = KafkaSink(settings, {"no.such.option": "1"})

    with pytest.raises(SettingsError, match=r"no\.such\.option"):
        await sink.open()


def test_sinks_are_made_from_a_settings_file(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    (tmp_path / "kafka.toml").write_text('"security.protocol" = "plaintext"\n')
    (tmp_path / "kafka.toml").chmod(0o600)
    text = f"""
        [fleet]
        directory = "{fleet.path}"
        [api]
        without_key = true
        [[sinks.jetstream]]
        name = "stream"
        url = "nats://127.0.0.1:4222"
        stream = "EVENTS"
        [[sinks.kafka]]
        name = "topic"
        servers = "127.0.0.1:9092"
        topic = "events"
        options_file = "kafka.toml"
    """
    settings = parse_settings(text.encode(), directory=tmp_path)

    sinks = make_sinks(settings, now=lambda: 0)

    assert [sink.name for sink in sinks] == ["stream", "topic"]
    assert msgspec.structs.asdict(settings.sinks.kafka[0])["options_file"] == str(
        tmp_path / "kafka.toml"
    )
