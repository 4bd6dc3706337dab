"""From the outbox to consumers: at least once, in order, one never delaying another.

I-25, I-26, I-31, row 30.
"""

import asyncio
import base64
import contextlib
import email.utils
import json
import math
import os
import stat
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from bridge import relay as relay_module
from bridge.breaker import Breaker, BreakerLimits, BreakerState
from bridge.consumers import SecretFile
from bridge.errors import SettingsError, SinkError
from bridge.rows.outbox import OutboxRow
from bridge.sinks.json_lines import JsonLinesSink
from bridge.sinks.webhook import WebhookSink
from certs.fleet import FleetDirectory
from protocol.codes import AccessMeans, FrameClass
from protocol.event import AgentStarted, EngineStarted, Parked, RentalStarted, Resumed
from protocol.identity import VehicleId
from tests.bridge.car import RENTAL
from tests.bridge.running import until
from tests.bridge.world import NOW_MS, World
from transport.backoff import Backoff

DATE_S = 1_795_231_559
"""A second on which a consumer wants to be asked again."""

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

BODIES = (
    AgentStarted(1, bytes(4)),
    RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400),
    EngineStarted(RENTAL, 1_000_000),
    Parked(RENTAL, AccessMeans.CARD, 1_005_000),
    Resumed(RENTAL, AccessMeans.CARD, 60_000),
)


class MemorySink:
    """Takes events, after failing as often as it is told to."""

    def __init__(self, name: str = "memory", parallel: int = 4) -> None:
        self.name = name
        self.parallel = parallel
        self.taken: list[OutboxRow] = []
        self.attempts = 0
        self.failures: dict[str, list[Exception]] = {}
        self.hangs = False
        self.is_down = False
        self.refused_vehicle: VehicleId | None = None
        self.grew = asyncio.Event()

    async def open(self) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    async def deliver(self, row: OutboxRow) -> None:
        self.attempts += 1
        self.grew.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.is_down:
            raise SinkError("down")
        if row.vehicle_id == self.refused_vehicle:
            raise SinkError("500")
        waiting = self.failures.get(row.type, [])
        if waiting:
            raise waiting.pop(0)
        self.taken.append(row)
        self.grew.set()

    async def wait_attempts(self, count: int) -> None:
        while self.attempts < count:
            self.grew.clear()
            await self.grew.wait()

    async def wait_taken(self, count: int) -> None:
        while len(self.taken) < count:
            self.grew.clear()
            await self.grew.wait()


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Backoff(initial_s=0.001, maximum_s=0.002)
    monkeypatch.setattr(relay_module, "BACKOFF", quick)


async def tell(world: World, *cars: int) -> None:
    for body in BODIES:
        for number in cars:
            car = world.cars[number]
            await world.say(FrameClass.EVENT, car.event(body), car=car)


async def test_events_arrive_once_and_in_order_for_each_car(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # FF-LED-20.
    sink = MemorySink()
    async with World(fleet, tmp_path / "bridge.sqlite", (sink,)) as world:
        await tell(world, 0, 1, 2)
        await sink.wait_taken(15)

        for car in world.cars:
            types = [r.type for r in sink.taken if r.vehicle_id == car.id]
            assert types == [
                "freefloat.agent.started",
                "freefloat.rental.started",
                "freefloat.engine.started",
                "freefloat.rental.parked",
                "freefloat.rental.resumed",
            ]
    assert sink.attempts == 15


async def test_a_failed_event_holds_back_its_own_car_and_is_tried_again(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    sink = MemorySink()
    sink.failures["freefloat.rental.started"] = [SinkError("503")] * 8
    async with World(fleet, tmp_path / "bridge.sqlite", (sink,)) as world:
        await tell(world, 0)
        await sink.wait_taken(5)

    assert [row.type for row in sink.taken][1] == "freefloat.rental.started"
    assert sink.attempts == 13


async def test_an_event_that_a_consumer_never_wants_is_set_aside_and_kept(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    sink = MemorySink()
    no = SinkError("the consumer answered 400", is_permanent=True)
    sink.failures["freefloat.rental.started"] = [no] * 100
    async with World(fleet, tmp_path / "bridge.sqlite", (sink,)) as world:
        await tell(world, 0)
        await sink.wait_taken(4)

    assert "freefloat.rental.started" not in {row.type for row in sink.taken}


async def test_a_consumer_that_hangs_delays_neither_another_nor_the_intake(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    hanging, quick = MemorySink("hanging"), MemorySink("quick")
    hanging.hangs = True
    path = tmp_path / "bridge.sqlite"
    async with World(fleet, path, (hanging, quick)) as world:
        await tell(world, 0)
        await quick.wait_taken(5)

    assert hanging.taken == []


async def test_a_restart_goes_on_behind_what_was_taken(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    path, sink = tmp_path / "bridge.sqlite", MemorySink()
    async with World(fleet, path, (sink,)) as world:
        await tell(world, 0)
        await sink.wait_taken(5)
        await world.wait_cursor("memory", 5)

    again = MemorySink()
    async with World(fleet, path, (again,)) as world:
        await world.say(
            FrameClass.EVENT, world.cars[1].event(BODIES[0]), car=world.cars[1]
        )
        await again.wait_taken(1)

    assert [row.type for row in again.taken] == ["freefloat.agent.started"]


async def test_a_busy_sink_writes_its_cursor_seldom_and_once_more_when_it_is_stopped(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # I-26: what was taken before a stop is not delivered again after it.
    monkeypatch.setattr(relay_module, "NOTE_S", 60.0)
    path, sink = tmp_path / "bridge.sqlite", MemorySink()
    async with World(fleet, path, (sink,)) as world:
        await tell(world, 0)
        await sink.wait_taken(5)
        await world.wait_cursor("memory", 1)
        noted = await world.store.cursor("memory")
        for number in range(10):
            await tell(world, 1)
            await sink.wait_taken(10 + 5 * number)
        assert await world.store.cursor("memory") == noted

    again = MemorySink()
    async with World(fleet, path, (again,)) as world:
        assert await world.store.cursor("memory") == len(sink.taken) == 55
        await world.say(
            FrameClass.EVENT, world.cars[2].event(BODIES[0]), car=world.cars[2]
        )
        await again.wait_taken(1)

    assert [row.vehicle_id for row in again.taken] == [world.cars[2].id]


async def test_the_cursor_of_a_sink_follows_by_itself_when_events_cease(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_module, "NOTE_S", 0.5)
    async with World(fleet, tmp_path / "b.sqlite", (sink := MemorySink(),)) as world:
        await tell(world, 0)
        await world.wait_cursor("memory", 1)
        await tell(world, 1, 2)
        begun_s = time.monotonic()
        await sink.wait_taken(15)
        await world.wait_cursor("memory", 15)
        # Not by the look of an idle relay.
        assert time.monotonic() - begun_s < relay_module.IDLE_S - 1


async def test_a_crash_before_the_cursor_delivers_again_under_the_same_id(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # FF-LED-24.
    path, sink = tmp_path / "bridge.sqlite", MemorySink()
    async with World(fleet, path) as world:
        await tell(world, 0)
    async with World(fleet, path, (sink,)) as world:
        await sink.wait_taken(5)
    again = MemorySink("memory-2")
    async with World(fleet, path, (again,)):
        await again.wait_taken(5)

    assert [r.event_id for r in again.taken] == [r.event_id for r in sink.taken]
    assert [r.body for r in again.taken] == [r.body for r in sink.taken]


def row(number: int, body: bytes = b'{"id": "x"}') -> OutboxRow:
    return OutboxRow(
        number, f"id-{number}", VehicleId(bytes(16)), "freefloat.test", body, NOW_MS
    )


async def test_json_lines_are_appended_one_event_a_line(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for number in (1, 2):
        sink = JsonLinesSink("lines", path)
        await sink.open()
        await sink.deliver(row(number, json.dumps({"n": number}).encode()))
        await sink.close()

    assert [json.loads(x)["n"] for x in path.read_text().splitlines()] == [1, 2]
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0


async def test_a_line_that_a_crash_cut_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2')
    sink = JsonLinesSink("lines", path)
    await sink.open()
    await sink.deliver(row(2, b'{"n": 2}'))
    await sink.close()

    assert path.read_bytes().splitlines()[-1] == b'{"n": 2}'


async def test_a_file_is_closed_behind_what_is_being_written_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-34: its number would be another file's by then, such as the store's."""
    is_writing, found = threading.Event(), []
    write_through = os.fsync

    def slow(descriptor: int) -> None:
        is_writing.set()
        time.sleep(0.2)
        found.append(os.fstat(descriptor).st_ino)
        write_through(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    path = tmp_path / "events.jsonl"
    sink = JsonLinesSink("lines", path)
    await sink.open()
    under_way = asyncio.create_task(sink.deliver(row(1)))
    await asyncio.to_thread(is_writing.wait)
    under_way.cancel()
    await sink.close()

    assert found == [path.stat().st_ino]
    with pytest.raises(SinkError, match="not open"):
        await sink.deliver(row(2))


async def test_a_directory_is_no_sink(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="lines"):
        await JsonLinesSink("lines", tmp_path).open()


@pytest.mark.parametrize(
    "line",
    [
        *(
            "whsec_",
            "garbage",
            SECRET.removeprefix("whsec_"),
            f"{SECRET}!",
            "whsec_AAAA",
        ),
        "whsec_" + "A" * 88,
    ],
)
def test_what_is_no_secret_is_a_setting_to_correct(line: str) -> None:
    """The library of Standard Webhooks would sign by most of these words."""
    with pytest.raises(SettingsError, match="24 to 64 bytes"):
        WebhookSink(
            "w",
            "http://127.0.0.1:1",
            lambda: (SECRET, line),
            timeout_s=1,
            now=lambda: 0,
        )


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Consumer:
    """A real HTTP server whose answers a test scripts."""

    def __init__(self) -> None:
        self.answers: list[Handler | int] = []
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((dict(request.headers), await request.read()))
        answer = self.answers.pop(0) if self.answers else 200
        if isinstance(answer, int):
            headers = {"Location": "/elsewhere"} if answer in {301, 302, 307} else {}
            return web.Response(status=answer, headers=headers)
        return await answer(request)


@pytest.fixture
async def consumer() -> AsyncIterator[Consumer]:
    made = Consumer()
    app = web.Application()
    app.router.add_post("/hook", made.handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    made.url = f"http://{host}:{port}/hook"
    yield made
    await runner.cleanup()


def machine_ms() -> int:
    # standardwebhooks verifies against the machine's clock.
    return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000


def webhook(consumer: Consumer, *, timeout_s: float = 5) -> WebhookSink:
    return WebhookSink(
        "hook", consumer.url, lambda: (SECRET,), timeout_s=timeout_s, now=machine_ms
    )


@pytest.mark.broker
async def test_a_webhook_is_signed_by_standard_webhooks(consumer: Consumer) -> None:
    sink = webhook(consumer)
    await sink.open()
    await sink.deliver(row(1))
    await sink.close()

    headers, body = consumer.requests[0]
    assert Webhook(SECRET).verify(body, headers) == {"id": "x"}
    assert headers["webhook-id"] == "id-1"
    assert headers["Content-Type"].startswith("application/cloudevents+json")


@pytest.mark.broker
@pytest.mark.parametrize(
    ("status", "is_permanent"),
    [(500, False), (503, False), (429, False), (404, False), (400, True), (302, False)],
)
async def test_everything_but_success_is_not_taken(
    consumer: Consumer, status: int, is_permanent: bool
) -> None:
    consumer.answers = [status]
    sink = webhook(consumer)
    await sink.open()

    with pytest.raises(SinkError) as caught:
        await sink.deliver(row(1))
    await sink.close()

    assert caught.value.is_permanent is is_permanent
    assert len(consumer.requests) == 1


@pytest.mark.broker
async def test_a_webhook_that_hangs_or_is_not_there_is_an_error_in_time(
    consumer: Consumer,
) -> None:
    async def hang(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(2)
        return web.Response()

    consumer.answers = [hang]
    sink = webhook(consumer, timeout_s=0.1)
    await sink.open()

    with pytest.raises(SinkError, match=r"no answer .* within 0\.1 s"):
        await sink.deliver(row(1))
    await sink.close()
    dead = WebhookSink(
        "w", "http://127.0.0.1:1/", lambda: (SECRET,), timeout_s=1, now=lambda: NOW_MS
    )
    await dead.open()
    with pytest.raises(SinkError):
        await dead.deliver(row(1))
    await dead.close()


@pytest.mark.broker
async def test_a_flaky_consumer_gets_every_event_in_order(
    fleet: FleetDirectory, tmp_path: Path, consumer: Consumer
) -> None:
    # Row 30
    async def slow(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        return web.Response()

    consumer.answers = [500, 200, slow, 503, 429, 200, 500, 500]
    sink = webhook(consumer, timeout_s=0.1)
    async with World(fleet, tmp_path / "bridge.sqlite", (sink,)) as world:
        await tell(world, 0)
        await world.wait_cursor("hook", 5)

    taken = list(dict.fromkeys(h["webhook-id"] for h, _ in consumer.requests))
    async with World(fleet, tmp_path / "bridge.sqlite") as world:
        rows = await world.store.outbox_after(0, 10)
    assert taken == [r.event_id for r in rows]


@pytest.mark.broker
async def test_a_secret_is_replaced_while_events_go_out(
    consumer: Consumer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newer = "whsec_" + base64.b64encode(bytes(range(32))).decode()
    path = tmp_path / "secret"
    path.write_text(SECRET)
    path.chmod(0o600)
    sink = WebhookSink(
        "hook", consumer.url, SecretFile(path).lines, timeout_s=5, now=machine_ms
    )
    await sink.open()
    for text in (SECRET, f"{newer}\n{SECRET}\n", f"{newer}\n", "garbage\n"):
        path.write_text(text)
        os.utime(path, ns=(0, time.monotonic_ns()))
        await sink.deliver(row(1))
    await sink.close()

    held = {name: Webhook(text) for name, text in (("old", SECRET), ("new", newer))}
    taken = []
    for headers, body in consumer.requests:
        good = set()
        for name, webhook_of in held.items():
            with contextlib.suppress(WebhookVerificationError):
                webhook_of.verify(body, headers)
                good.add(name)
        taken.append(good)
    # A damaged file changes nothing: the secret known so far signs.
    assert taken == [{"old"}, {"old", "new"}, {"new"}, {"new"}]
    [said] = [text for text in caplog.messages if "known so far" in text]
    assert said.count("sink") == 1


@pytest.mark.broker
@pytest.mark.parametrize(
    ("said", "meant_s"),
    [
        ("7", 7),
        ("", 0),
        ("soon", 0),
        ("-5", 0),
        # Ten years, and longer than a number can be: the relay bounds them.
        ("315360000", 315_360_000),
        ("9" * 4_000, math.inf),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        (email.utils.formatdate(DATE_S, usegmt=True), 90),
        # No date, though it reads like one: its year is larger than an integer of C.
        ("Mon, 01 Jan 99999999999 00:00:00 GMT", 0),
    ],
    ids=["7", "none", "words", "negative", "years", "endless", "past", "date", "never"],
)
async def test_a_consumer_says_when_it_wants_to_be_asked_again(
    consumer: Consumer, said: str, meant_s: float
) -> None:
    async def busy(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": said})

    consumer.answers = [busy]
    sink = WebhookSink(
        "hook",
        consumer.url,
        lambda: (SECRET,),
        timeout_s=5,
        now=lambda: (DATE_S - 90) * 1000,
    )
    await sink.open()

    with pytest.raises(SinkError) as refused:
        await sink.deliver(row(1))
    await sink.close()

    assert refused.value.retry_after_s == meant_s


async def test_a_consumer_that_is_down_is_left_alone_and_found_again(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-31, I-32: the breaker opens over many cars, loses nothing, and closes."""
    monkeypatch.setattr(
        relay_module, "BACKOFF", Backoff(initial_s=0.01, maximum_s=0.02)
    )
    sink = MemorySink(parallel=32)
    async with World(fleet, tmp_path / "bridge.sqlite", (sink,)) as world:
        [relay] = world.relays
        relay.breaker = Breaker(BreakerLimits(least=2, wait_s=0.2))
        sink.is_down = True
        for car in world.cars:
            await world.say(FrameClass.EVENT, car.event(BODIES[0]), car=car)
        await until(lambda: relay.breaker.state is BreakerState.OPEN)
        attempts = sink.attempts
        await asyncio.sleep(0.1)
        assert sink.attempts == attempts

        sink.is_down = False
        rows = await world.store.outbox_after(0, 100)
        await world.wait_cursor("memory", rows[-1].position)

    assert sorted(one.position for one in sink.taken) == [r.position for r in rows]
