"""GET /v1/events: the outbox as server-sent events, from any point that is kept."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from starlette.types import Message

from bridge.api import holding, streams
from bridge.api.holding import HoldingResponse
from bridge.figures import Figures
from bridge.settings import RateSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.running import Running, running_bridge, until
from tests.bridge.stream import TYPES, entries_of
from tests.bridge.world import World

pytestmark = pytest.mark.broker


@pytest.fixture
async def running(fleet: FleetDirectory, tmp_path: Path) -> AsyncIterator[Running]:
    async with running_bridge(fleet, tmp_path) as made:
        yield made


async def listen(
    running: Running, count: int, *, query: str = "", last_id: str | None = None
) -> list[tuple[int, str, str]]:
    """Return the first events of a stream: position, type and id."""
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    url = f"{running.bridge.api_url}/v1/events{query}"
    async with asyncio.timeout(60), running.client.get(url, headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        found: list[tuple[int, str, str]] = []
        fields: dict[str, str] = {}
        while len(found) < count:
            line = (await answer.content.readline()).decode().rstrip("\n")
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
                continue
            if "data" in fields:
                event = json.loads(fields["data"])
                assert event["type"] == fields["event"]
                found.append((int(fields["id"]), fields["event"], event["id"]))
            fields = {}
        return found


async def test_a_listener_goes_on_behind_the_last_event_that_it_had(
    running: Running,
) -> None:
    for entry in entries_of(running.car):
        await running.say(FrameClass.EVENT, entry)

    every = await listen(running, len(TYPES), query="?after=0")
    rest = await listen(running, len(TYPES) - 2, query=f"?after={every[1][0]}")
    # What an EventSource sends by itself counts before what its address says.
    again = await listen(
        running, len(TYPES) - 2, query="?after=0", last_id=str(every[1][0])
    )

    assert [position for position, _, _ in every] == sorted(
        position for position, _, _ in every
    )
    assert len({event_id for _, _, event_id in every}) == len(TYPES)
    assert rest == again == every[2:]


async def test_a_listener_hears_what_happens_from_now_on(running: Running) -> None:
    first, *others = entries_of(running.car)
    await running.say(FrameClass.EVENT, first)
    before = await listen(running, 1, query="?after=0")

    waiting = asyncio.create_task(listen(running, len(others)))
    await until(lambda: running.bridge.streams.count == 1)
    for entry in others:
        await running.say(FrameClass.EVENT, entry)
    heard = await waiting

    assert heard[0][0] > before[-1][0]
    assert len(heard) == len(others)


async def test_a_silent_stream_shows_that_it_lives(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "KEEP_ALIVE_S", 0.05)
    url = f"{running.bridge.api_url}/v1/events"
    async with asyncio.timeout(60), running.client.get(url) as answer:
        lines = [await answer.content.readline() for _ in range(6)]

    assert lines[0].startswith(b"retry: ")
    assert lines.count(b": still here\n") >= 2


async def test_streams_end_whole_when_the_bridge_stops(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # I-34
    async with aiohttp.ClientSession() as client:
        async with running_bridge(fleet, tmp_path) as running:
            key = (tmp_path / "api.keys").read_text().strip()
            answer = await client.get(
                f"{running.bridge.api_url}/v1/events", headers={"X-Api-Key": key}
            )
            assert await answer.content.readline()
            reading = asyncio.create_task(answer.content.read())
        # The last chunk came: a stream that is cut raises a ClientPayloadError here.
        async with asyncio.timeout(60):
            await reading
    assert running.bridge.streams.count == 0


async def test_many_who_come_at_once_get_no_more_streams(running: Running) -> None:
    """Each asks the store first: the place has to be taken before."""
    url = f"{running.bridge.api_url}/v1/events"
    share = RateSettings().streams

    answers = await asyncio.gather(*(running.client.get(url) for _ in range(share + 8)))

    found = Counter(answer.status for answer in answers)
    for answer in answers:
        answer.close()
    assert found == {200: share, 429: 8}

    # Whoever goes away makes room.
    await until(lambda: running.bridge.streams.count == 0)


async def test_a_listener_who_takes_nothing_loses_its_place(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would hold it for ever: the hour is over only between two sendings."""
    monkeypatch.setattr(holding, "STALL_S", 0.05)
    async with World(fleet, tmp_path / "store") as world:
        listeners = streams.EventStreams(world.store, 1, figures=Figures())
        place = listeners.join("one")
        stuck = HoldingResponse(
            listeners.follow(0, place),
            partial(listeners.leave, place),
            media_type="text/event-stream",
            headers={},
        )
        taken: list[str] = []

        async def send(message: Message) -> None:
            taken.append(message["type"])
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async with asyncio.timeout(10):
            await stuck({"type": "http"}, receive, send)

        assert taken == ["http.response.start", "http.response.body"]
        assert listeners.count == 0


@pytest.mark.parametrize(
    ("query", "headers", "field"),
    [("?after=99", {}, "after"), ("", {"Last-Event-ID": "99"}, "last-event-id")],
)
async def test_a_beginning_that_is_still_to_come_is_named_and_takes_no_place(
    running: Running, query: str, headers: dict[str, str], field: str
) -> None:
    url = f"{running.bridge.api_url}/v1/events{query}"

    for _ in range(streams.STREAMS_LIMIT + 1):
        async with running.client.get(url, headers=headers) as answer:
            problem = await answer.json(content_type=None)

        assert answer.status == 422
        assert problem["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("query", "last_id", "status", "about"),
    [
        ("?after=-1", None, 422, "after"),
        ("?after=99999999999999999999", None, 422, "after"),
        ("?after=x", None, 422, "after"),
        ("?after=7", None, 422, "newest event has position 0"),
        ("", "x", 422, "last-event-id"),
        ("", "9" * 40, 422, "last-event-id"),
    ],
)
async def test_a_bad_beginning_is_a_problem(
    running: Running, query: str, last_id: str | None, status: int, about: str
) -> None:
    headers = {} if last_id is None else {"Last-Event-ID": last_id}
    url = f"{running.bridge.api_url}/v1/events{query}"
    async with running.client.get(url, headers=headers) as answer:
        problem = await answer.json(content_type=None)

    assert answer.status == status
    assert about in json.dumps(problem).lower()


async def test_who_would_miss_events_that_are_gone_is_told_so(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def span() -> tuple[int, int]:
        return 100, 200

    monkeypatch.setattr(running.bridge.store, "outbox_span", span)

    status, problem = await running.get("/v1/events?after=98")

    assert (status, problem["type"]) == (410, "urn:freefloat:problem:events-gone")
    assert "100" in problem["detail"]
