"""One caller who takes all that it can get leaves the others theirs (I-31, row 33)."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from bridge import bootstrap, http_connection
from bridge.api import at_once, auditing, streams
from bridge.api.keys import Role
from bridge.settings import RateSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.car import RENTAL
from tests.bridge.running import Json, Running, until
from tests.bridge.stream import entries_of
from tests.bridge.test_roles import KEY, bridge_with_roles

pytestmark = pytest.mark.broker

UNLOCK: Json = {"kind": "unlock", "rental_id": RENTAL.hex()}


class Caller:
    """One caller of the API, with as many connections as it likes."""

    def __init__(self, running: Running, client: aiohttp.ClientSession) -> None:
        self._running = running
        self._client = client
        self.streams: list[aiohttp.ClientResponse] = []

    async def get(self, path: str) -> tuple[int, Json]:
        url = self._running.bridge.api_url + path
        async with self._client.get(url) as answer:
            return answer.status, await answer.json(content_type=None)

    async def order(self) -> tuple[int, Json]:
        path = f"/v1/vehicles/{self._running.car.id}/commands"
        url = self._running.bridge.api_url + path
        async with self._client.post(url, json=UNLOCK) as answer:
            return answer.status, await answer.json(content_type=None)

    async def listen(self) -> aiohttp.ClientResponse:
        url = f"{self._running.bridge.api_url}/v1/events"
        self.streams.append(await self._client.get(url))
        return self.streams[-1]


@contextlib.asynccontextmanager
async def caller(running: Running, role: Role) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession(
        headers={"X-Api-Key": KEY[role]}, connector=aiohttp.TCPConnector(limit=0)
    ) as client:
        made = Caller(running, client)
        yield made
        for stream in made.streams:
            stream.close()


async def answered(who: Caller, path: str, wanted: int) -> Json:
    """Return the first answer with this status: no event tells who has come or gone."""
    async with asyncio.timeout(20):
        while True:
            status, document = await who.get(path)
            if status == wanted:
                return document
            await asyncio.sleep(0.02)


def kind(problem: Json) -> str:
    return str(problem["type"]).rpartition(":")[2]


async def test_a_caller_who_opens_every_stream_it_can_shuts_out_nobody(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-31, issue 5: one bad consumer harms nobody else."""
    share = RateSettings().streams
    monkeypatch.setattr(streams, "STREAMS_LIMIT", share + 1)
    async with (
        bridge_with_roles(fleet, tmp_path) as running,
        caller(running, Role.OPERATOR) as greedy,
        caller(running, Role.SERVICE) as modest,
        caller(running, Role.VIEWER) as late,
    ):
        opened = [await greedy.listen() for _ in range(share)]
        refused = await greedy.listen()
        assert refused.status == 429
        problem = await refused.json(content_type=None)
        beside = await modest.listen()
        await running.say(FrameClass.EVENT, entries_of(running.car)[0])
        async with asyncio.timeout(20):
            while b"agent.started" not in (line := await beside.content.readline()):
                assert line, "the stream ended"
        none_left = await late.get("/v1/events")

        # Whoever goes away makes room, for itself and for all.
        for answer in opened[:2]:
            answer.close()
        await until(lambda: running.bridge.streams.count == share - 1)
        again = await greedy.listen()
        last = await late.listen()

    assert {answer.status for answer in [*opened, beside, again, last]} == {200}
    assert kind(problem) == "too-many-streams"
    assert "end one of them first" in problem["detail"]
    assert int(refused.headers["Retry-After"]) > 0
    assert (none_left[0], kind(none_left[1])) == (503, "no-stream-left")


async def test_a_caller_whose_long_polls_are_many_leaves_room_for_the_others(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-31, row 33: a share for each, and `/ready` is answered whatever happens."""
    monkeypatch.setattr(at_once, "ALL_AT_ONCE", 5)
    rates = RateSettings(at_once=4)
    async with (
        bridge_with_roles(fleet, tmp_path, rates=rates) as running,
        caller(running, Role.OPERATOR) as greedy,
        caller(running, Role.SERVICE) as modest,
        caller(running, Role.VIEWER) as late,
    ):
        await running.say(FrameClass.HELLO, running.car.hello())
        _, command = await modest.order()
        path = f"/v1/commands/{command['id']}"

        def poll(who: Caller) -> asyncio.Task[Json]:
            # Again where a question of below came first and took the place.
            return asyncio.create_task(answered(who, f"{path}?wait_s=30", 200))

        waiting = [poll(greedy) for _ in range(4)]
        refused = await answered(greedy, path, 429)
        ordered = await modest.order()
        fifth = poll(modest)
        busy = await answered(late, path, 503)
        probes = [await late.get("/ready"), await greedy.get("/health")]

        # Who goes away waits no longer, whatever was asked for.
        for task in (*waiting, fifth):
            task.cancel()
        await answered(greedy, path, 200)

    assert kind(refused) == "too-many-at-once"
    assert "4 requests of this caller" in refused["detail"]
    assert ordered[0] == 202
    assert kind(busy) == "too-busy"
    assert [status for status, _ in probes] == [200, 200]


async def test_connections_on_which_nothing_is_asked_make_room_for_one_that_asks(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-31, K19: they need no key, so anybody could hold all of them."""
    monkeypatch.setattr(bootstrap, "API_CONNECTIONS", 8)
    monkeypatch.setattr(http_connection, "HEAD_S", 600.0)
    async with (
        bridge_with_roles(fleet, tmp_path) as running,
        caller(running, Role.VIEWER) as good,
        caller(running, Role.SERVICE) as polling,
        contextlib.AsyncExitStack() as stack,
    ):
        await running.say(FrameClass.HELLO, running.car.hello())
        _, command = await polling.order()
        path = f"/v1/commands/{command['id']}?wait_s=30"
        long_poll = asyncio.create_task(polling.get(path))
        held = [await stack.enter_async_context(connected(running)) for _ in range(20)]
        for _, writer in held[::2]:
            writer.write(b"GET /v1/vehicles HTTP/1.1\r\n")
        answers = [await good.get("/v1/vehicles") for _ in range(3)]
        # Those that had to go are gone, the oldest first; a reset is an end too.
        ends = [asyncio.create_task(reader.read()) for reader, _ in held]
        await asyncio.wait(ends[:10], timeout=20)
        is_ended = [end.done() for end in ends]
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
        is_waiting = not long_poll.done()
        long_poll.cancel()

    assert [status for status, _ in answers] == [200] * 3
    assert is_waiting, "what is under way stays"
    assert all(is_ended[:10])
    # Of eight one is the long poll and one the caller's who asks.
    assert not any(is_ended[-6:])


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET /health HTTP/1.1\r\nX: ",
        # Refused before its body came, which then never ends.
        b"POST /v1/approvals HTTP/1.1\r\nHost: b\r\nContent-Length: 9999\r\n\r\n",
    ],
)
async def test_a_connection_that_drips_is_ended(
    fleet: FleetDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    beginning: bytes,
) -> None:
    """K19, I-31: bytes alone put off no end."""
    monkeypatch.setattr(http_connection, "HEAD_S", 0.3)
    monkeypatch.setattr("bridge.listener.IDLE_S", 0.3)
    async with (
        bridge_with_roles(fleet, tmp_path) as running,
        connected(running) as (reader, writer),
        asyncio.timeout(20),
    ):
        writer.write(beginning)
        reading = asyncio.create_task(reader.read())
        while not reading.done():
            writer.write(b"x")
            await asyncio.sleep(0.05)
        # An answer to what it said, or none; a reset if a byte was under way.
        await asyncio.gather(reading, return_exceptions=True)


@pytest.mark.parametrize(
    "begun",
    [
        b"Content-Length: 99\r\n\r\n{",
        b'Transfer-Encoding: chunked\r\n\r\n5\r\n{"kin\r\n',
    ],
    ids=["length", "chunks"],
)
async def test_a_body_that_never_ends_holds_its_place_for_a_while_only(
    fleet: FleetDirectory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    begun: bytes,
) -> None:
    """K19, I-31: a program that hangs in the middle leaves its caller the share."""
    monkeypatch.setattr(auditing, "BODY_S", 0.3)
    async with bridge_with_roles(
        fleet, tmp_path, rates=RateSettings(at_once=1)
    ) as running:
        path = f"/v1/vehicles/{running.car.id}/commands"
        async with connected(running) as (reader, writer), asyncio.timeout(20):
            head = f"POST {path} HTTP/1.1\r\nHost: b\r\nX-Api-Key: {KEY[Role.SERVICE]}"
            writer.write(head.encode() + b"\r\n" + begun)
            answer = await reader.read()
        async with caller(running, Role.SERVICE) as same:
            status, _ = await same.get("/v1/vehicles")
        rows, _ = await running.bridge.store.audit_after(0, 10)

    head_sent, _, body = answer.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert head_sent.startswith(b"HTTP/1.1 408 "), head_sent
    assert (kind(problem), problem["errors"][0]["field"]) == ("body-too-slow", "body")
    assert (status, rows) == (200, [])


@pytest.mark.parametrize(
    ("sent", "status", "type_"),
    [
        (b"what is this\r\n\r\n", 400, "invalid-request"),
        (b"GET / HTTP/9.9.9\r\n\r\n", 400, "invalid-request"),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
            400,
            "invalid-request",
        ),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid-request"),
        (b"GET / HTTP/1.1\r\nHost: b\r\nno colon\r\n\r\n", 400, "invalid-request"),
        (
            b"POST / HTTP/1.1\r\nHost: b\r\nContent-Length: 1x\r\n\r\n",
            400,
            "invalid-request",
        ),
        (
            b"POST / HTTP/1.1\r\nHost: b\r\n%s\r\n"
            % b"Content-Length: 1\r\nContent-Length: 2\r\n",
            400,
            "invalid-request",
        ),
        (
            b"POST /v1/approvals HTTP/1.1\r\nHost: b\r\nX-Api-Key: %s\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nnot a length\r\n"
            % KEY[Role.OPERATOR].encode(),
            400,
            "invalid-request",
        ),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, 431, "head-too-large"),
    ],
    ids=[
        *("words", "version", "TLS", "no host", "no colon", "length", "two lengths"),
        *("chunk", "large head"),
    ],
)
async def test_what_is_no_http_is_told_so_by_a_problem_document(
    fleet: FleetDirectory, tmp_path: Path, sent: bytes, status: int, type_: str
) -> None:
    """K19, issue 5: whatever comes, and no answer repeats it."""
    async with bridge_with_roles(fleet, tmp_path) as running:
        async with connected(running) as (reader, writer), asyncio.timeout(20):
            writer.write(sent)
            answer = await reader.read()
        good, _ = await running.get("/health")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), head
    assert b"content-type: application/problem+json" in head.lower()
    document = json.loads(body)
    assert (document["status"], kind(document)) == (status, type_)
    assert document["detail"]
    assert good == 200


@contextlib.asynccontextmanager
async def connected(
    running: Running,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    host, _, port = running.bridge.api_url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
