"""A consumer by HTTP that misbehaves in every way, beside one that is well (row 30)."""

import asyncio
import contextlib
import gzip
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from bridge import relay as relay_module
from bridge.breaker import Breaker, BreakerLimits, BreakerState
from bridge.errors import SinkError
from bridge.foreign_tls import foreign_client_context
from bridge.sinks import webhook
from bridge.sinks.webhook import WebhookSink
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.running import until
from tests.bridge.stream import entries_of
from tests.bridge.test_sinks import SECRET, MemorySink, machine_ms, row
from tests.bridge.world import World
from tests.broker.pki import HOUR, Pki, clock
from transport.backoff import Backoff

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

TIMEOUT_S: Final = 1.0
HUGE: Final = 64 * 1024 * 1024

UNPACKED: Final = 64 * 1024 * 1024
BOMB: Final = gzip.compress(bytes(UNPACKED))
"""A thousandth of what it unpacks to."""


class IllConsumer:
    """Answers as it is told; keeps the longest answer that anybody read."""

    def __init__(self) -> None:
        self.ill: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None
        self.asked = 0
        self.written = 0
        self.taken: list[str] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        self.asked += 1
        if self.ill is not None:
            return await self.ill(request)
        self.taken.append(request.headers["webhook-id"])
        return web.Response()

    async def error(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=500)

    async def busy(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(status=429)

    async def hang(self, _request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    async def drip(self, request: web.Request) -> web.StreamResponse:
        """Send a head that never ends, a byte now and then."""
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not request.transport.is_closing():
            request.transport.write(b"x")
            await asyncio.sleep(0.05)
        return web.Response()

    async def huge(self, request: web.Request) -> web.StreamResponse:
        """Refuse, and send much with it."""
        answer = web.StreamResponse(status=503)
        await answer.prepare(request)
        size = 0
        with contextlib.suppress(ConnectionError):
            while size < HUGE:
                await answer.write(bytes(65_536))
                size += 65_536
                self.written = max(self.written, size)
        return answer


async def serve(
    consumer: IllConsumer, context: ssl.SSLContext | None = None
) -> web.AppRunner:
    app = web.Application()
    app.router.add_post("/", consumer.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    scheme = "http" if context is None else "https"
    consumer.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/"
    return runner


@pytest.fixture
async def consumer() -> AsyncIterator[IllConsumer]:
    made = IllConsumer()
    runner = await serve(made)
    yield made
    await runner.cleanup()


def sink_to(consumer: IllConsumer) -> WebhookSink:
    return WebhookSink(
        "hook", consumer.url, lambda: (SECRET,), timeout_s=TIMEOUT_S, now=machine_ms
    )


@pytest.mark.parametrize("way", ["error", "busy", "hang", "drip", "huge"])
async def test_an_ill_consumer_is_left_alone_and_gets_everything_in_order_afterwards(
    fleet: FleetDirectory,
    tmp_path: Path,
    consumer: IllConsumer,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """Fault row 30, I-26, I-31 (F), I-32: it opens the breaker and harms no other."""
    quick = Backoff(initial_s=0.05, maximum_s=0.1)
    monkeypatch.setattr(relay_module, "BACKOFF", quick)
    beside = MemorySink("beside")
    async with World(fleet, tmp_path / "store", (sink_to(consumer), beside)) as world:
        relay, other = world.relays
        relay.breaker = Breaker(BreakerLimits(least=3, wait_s=0.5, longest_wait_s=1.0))
        consumer.ill = getattr(consumer, way)
        for car in world.cars:
            await world.say(FrameClass.EVENT, *entries_of(car), car=car)
        rows = await world.store.outbox_after(0, 100)
        await world.wait_cursor("beside", rows[-1].position)
        await until(lambda: relay.breaker.state is BreakerState.OPEN)
        # Three cars, each with its first event; nobody's second before it.
        held = await world.store.cursor("hook")
        failed, taken = relay.figures.failed, list(consumer.taken)
        consumer.ill = None
        await world.wait_cursor("hook", rows[-1].position)

    assert (held, taken) == (0, [])
    assert failed >= 3
    assert other.figures.failed == 0
    assert other.breaker.state is BreakerState.CLOSED
    assert relay.breaker.state is BreakerState.CLOSED
    for car in world.cars:
        own = [one.event_id for one in rows if one.vehicle_id == car.id]
        assert [name for name in consumer.taken if name in own] == own
    assert consumer.written < HUGE / 4, "nobody reads an answer to its end"


@pytest.mark.parametrize(
    ("encoding", "length", "body"),
    [
        ("br", 5, b"hello"),
        ("gzip", 5, b"hello"),
        ("gzip", len(BOMB), BOMB),
        # Less than was promised, and then nothing, or the end of the connection.
        ("identity", 100, b""),
        ("identity", 100, b"cut"),
    ],
    ids=["brotli", "no gzip", "gzip bomb", "silence", "cut"],
)
async def test_any_2xx_means_taken_whatever_its_body_is(
    encoding: str, length: int, body: bytes
) -> None:
    """Fault row 30, I-26: nothing of a body matters, and none is unpacked."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\n"
            f"Content-Length: {length}\r\n\r\n".encode()
        )
        writer.write(body)
        if body:
            writer.close()
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        ended.set()

    ended = asyncio.Event()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        sink = WebhookSink(
            *("hook", f"http://{host}:{port}/", lambda: (SECRET,)),
            timeout_s=TIMEOUT_S,
            now=machine_ms,
        )
        await sink.open()
        tracemalloc.start()
        await sink.deliver(row(1))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        await sink.close()
        await ended.wait()

    assert most < UNPACKED / 16


async def test_events_wait_for_a_consumer_to_renew_its_certificate(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 30 (TLS expired), I-26, I-31 (F): breaker, then all of it, in order."""
    monkeypatch.setattr(relay_module, "BACKOFF", Backoff(initial_s=0.05, maximum_s=0.1))
    pki = Pki(tmp_path / "pki", now=clock())
    old = pki.issue("consumer", server=True, starts=-2 * HOUR, ends=-HOUR)
    new = pki.issue("renewed", server=True, starts=-HOUR, ends=HOUR)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(old.certificate, old.key)
    trusting = foreign_client_context(anchors=str(pki.anchors))
    monkeypatch.setattr(webhook, "foreign_client_context", lambda: trusting)
    consumer, beside = IllConsumer(), MemorySink("beside")
    runner = await serve(consumer, context)
    sinks = (sink_to(consumer), beside)
    async with World(fleet, tmp_path / "store", sinks) as world:
        relay, other = world.relays
        relay.breaker = Breaker(BreakerLimits(least=3, wait_s=0.5, longest_wait_s=1.0))
        for car in world.cars:
            await world.say(FrameClass.EVENT, *entries_of(car), car=car)
        rows = await world.store.outbox_after(0, 100)
        await world.wait_cursor("beside", rows[-1].position)
        await until(lambda: relay.breaker.state is BreakerState.OPEN)
        held, asked = await world.store.cursor("hook"), consumer.asked
        told = relay.last_error or ""
        context.load_cert_chain(new.certificate, new.key)
        await world.wait_cursor("hook", rows[-1].position)
    await runner.cleanup()

    assert (held, asked) == (0, 0), "nothing is said to who cannot prove who it is"
    assert "certificate has expired" in told
    assert (other.figures.failed, other.breaker.state) == (0, BreakerState.CLOSED)
    for car in world.cars:
        own = [one.event_id for one in rows if one.vehicle_id == car.id]
        assert [name for name in consumer.taken if name in own] == own


async def test_what_a_consumer_says_no_to_is_a_dead_letter_of_its_own_sink(
    fleet: FleetDirectory,
    tmp_path: Path,
    consumer: IllConsumer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fault row 30 (after policy), I-31 (F): set aside with its reason."""
    monkeypatch.setattr(
        relay_module, "BACKOFF", Backoff(initial_s=0.001, maximum_s=0.002)
    )

    async def dislike(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["type"] == "freefloat.rental.parked":
            return web.Response(status=422)
        consumer.taken.append(body["type"])
        return web.Response()

    consumer.ill = dislike
    async with World(fleet, tmp_path / "store", (sink_to(consumer),)) as world:
        await world.say(FrameClass.EVENT, *entries_of(world.car))
        rows = await world.store.outbox_after(0, 100)
        await world.wait_cursor("hook", rows[-1].position)
        [letter] = await world.store.given_up("hook", after=0, limit=10)

    refused = next(one for one in rows if one.type == "freefloat.rental.parked")
    assert letter.position == refused.position
    assert "422" in letter.reason
    assert consumer.asked == len(rows) - 1 + relay_module.PERMANENT_LIMIT
    assert consumer.taken == [one.type for one in rows if one is not refused]


@pytest.mark.parametrize(
    ("starts", "ends", "problem"),
    [
        (-HOUR, HOUR, ""),
        (-2 * HOUR, -HOUR, "certificate has expired"),
        (HOUR, 2 * HOUR, "not yet valid"),
    ],
)
async def test_a_consumer_whose_certificate_has_ended_gets_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    starts: timedelta,
    ends: timedelta,
    problem: str,
) -> None:
    """Fault row 30 (TLS expired), K5: not taken, told why, and tried again later."""
    pki = Pki(tmp_path / "pki", now=clock())
    identity = pki.issue("consumer", server=True, starts=starts, ends=ends)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    trusting = foreign_client_context(anchors=str(pki.anchors))
    monkeypatch.setattr(webhook, "foreign_client_context", lambda: trusting)
    consumer = IllConsumer()
    runner = await serve(consumer, context)
    sink = sink_to(consumer)
    await sink.open()
    try:
        if not problem:
            await sink.deliver(row(1))
        else:
            with pytest.raises(SinkError, match=problem) as refused:
                await sink.deliver(row(1))
            assert not refused.value.is_permanent
    finally:
        await sink.close()
        await runner.cleanup()

    assert consumer.taken == ([] if problem else ["id-1"])
