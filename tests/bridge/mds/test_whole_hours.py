"""A city that asks for a whole hour, or for many, harms nobody else (I-31)."""

import asyncio
import socket
import threading
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import msgspec
import pytest
from sqlalchemy import Connection, create_engine
from starlette.types import Receive, Scope, Send

from bridge import listener, schema
from bridge.api import holding, hours
from bridge.api.holding import HoldingResponse
from bridge.errors import StoreError
from bridge.mds.documents import Document, document_of
from bridge.mds.records import Page, events_page
from bridge.rows.city import distances_of, places_of
from bridge.rows.statements import CHUNK
from bridge.settings import MetricsSettings
from certs.fleet import FleetDirectory
from certs.vehicle import random_vehicle_id
from tests.bridge.mds.test_mds_api import AGENCY, HOUR, RECENT, Clock, rent
from tests.bridge.publishing import MDS
from tests.bridge.query_plans import plans_of
from tests.bridge.running import Json, Running, running_bridge, until
from tests.bridge.scraping import at, scraped
from tests.bridge.world import NOW_MS
from tools.bridge_settings import local_settings

EVENTS: Final = f"/mds/events/historical?event_time={HOUR}"
TRIPS: Final = f"/mds/trips?end_time={HOUR}"
NEIGHBOUR: Final = "d" * 40
"""The key of another city."""
LOOK_S: Final = 10
"""A loop that has not gone round for so long stands still, however slow the machine."""

pytestmark = pytest.mark.broker


@pytest.fixture
async def running(fleet: FleetDirectory, tmp_path: Path) -> AsyncIterator[Running]:
    made = local_settings(
        fleet.path, state=tmp_path, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
    )
    keys = tmp_path / "api.keys"
    keys.write_text(
        f"{keys.read_text().strip()}\n"
        f"city:agency:{AGENCY}\nneighbour:agency:{NEIGHBOUR}\n"
    )
    settings = msgspec.structs.replace(made, mds=MDS, metrics=MetricsSettings(port=0))
    clock = Clock()
    async with running_bridge(fleet, tmp_path, settings=settings, now=clock) as found:
        await rent(found)
        clock.now_ms = NOW_MS
        yield found


async def ask(
    running: Running, path: str, key: str = AGENCY
) -> tuple[int, bytes, dict[str, str]]:
    url = running.bridge.api_url + path
    async with running.client.get(url, headers={"X-Api-Key": key}) as answer:
        return answer.status, await answer.read(), dict(answer.headers)


async def refused_to(running: Running, rate: str) -> float:
    """Return what an operator sees of refusals (O15)."""
    _, samples = await scraped(running.bridge)
    return samples.get(at("freefloat_api_limited_total", rate=rate), 0)


class Gate:
    """Stands in for reading a page: lets through when it is open, and counts."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.inside = self.most = self.pages = 0

    def __call__(self, connection: Connection, *span: Any, **about: Any) -> Page:
        self.inside += 1
        self.pages += 1
        self.most = max(self.most, self.inside)
        assert self.opened.wait(LOOK_S)
        time.sleep(0.005)  # so that two at a time would meet
        self.inside -= 1
        return events_page(connection, *span, **about)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    made = Gate()
    monkeypatch.setattr("bridge.api.mds.events_page", made)
    monkeypatch.setattr("bridge.mds.records.PAGE", 2)
    return made


def pages_of(*pages: list[Document]) -> Callable[..., Page]:
    """Stand in for reading pages."""

    def read(_connection: Connection, *, after: str | None, **_about: Any) -> Page:
        number = int(after or 0)
        is_last = number == len(pages) - 1
        return Page(pages[number], None if is_last else str(number + 1))

    return read


async def test_the_loop_goes_round_while_an_hour_is_read_packed_and_unpacked(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I-31: by turns of the loop, each of which a page has to wait for."""
    turns, waited = 0, Counter[str]()

    def in_a_thread(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wait(*arguments: Any, **named: Any) -> Any:
            before, end_s = turns, time.monotonic() + LOOK_S
            while turns == before:
                assert time.monotonic() < end_s, f"{name}: the loop stands still"
                time.sleep(0.001)
            waited[name] += 1
            return function(*arguments, **named)

        return wait

    async def go_round() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0.001)

    encode = in_a_thread("encode", msgspec.json.encode)
    monkeypatch.setattr("bridge.mds.records.PAGE", 2)
    monkeypatch.setattr("bridge.api.mds.events_page", in_a_thread("read", events_page))
    monkeypatch.setattr(
        "bridge.api.hours.msgspec",
        SimpleNamespace(
            json=SimpleNamespace(
                encode=lambda what: (
                    encode(what)
                    if isinstance(what, list)
                    else msgspec.json.encode(what)
                )  # what stands around the lists
            )
        ),
    )
    monkeypatch.setattr(
        "bridge.api.hours.zlib",
        SimpleNamespace(
            compress=in_a_thread("pack", zlib.compress),
            decompress=in_a_thread("unpack", zlib.decompress),
        ),
    )
    going = asyncio.create_task(go_round())
    try:
        status, body, _headers = await ask(running, EVENTS)
    finally:
        going.cancel()

    assert (status, len(msgspec.json.decode(body)["events"])) == (200, 7)
    assert waited == {"read": 4, "encode": 4, "pack": 4, "unpack": 8}


async def test_what_is_sent_in_pieces_is_one_document_with_both_lists(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page may be empty, though others are not: of trips without their places."""
    for sizes in ((3, 2), (0, 3), (2, 0, 1), (2, 0), (0, 0), (1,)):
        ids = iter(range(100))
        pages = [[{"event_id": next(ids), "ü": [{}]} for _ in range(n)] for n in sizes]
        monkeypatch.setattr("bridge.api.mds.events_page", pages_of(*pages))

        status, body, headers = await ask(running, EVENTS)

        assert status == 200
        assert body == msgspec.json.encode(document_of("events", [*chain(*pages)]))
        assert headers["Content-Length"] == str(len(body)), sizes
        assert headers["Content-Type"] == "application/vnd.mds+json;version=2.0"


async def test_who_asks_for_many_at_once_gets_two_and_keeps_nobody_out(
    running: Running, gate: Gate
) -> None:
    """I-31: and gets others once these are taken."""
    many = [asyncio.create_task(ask(running, EVENTS)) for _ in range(5)]
    await until(lambda: sum(task.done() for task in many) == 3)
    refused = [task.result() for task in many if task.done()]
    other = asyncio.create_task(ask(running, TRIPS, NEIGHBOUR))
    status, _vehicles = await running.get("/v1/vehicles")
    gate.opened.set()
    answers = await asyncio.gather(*many, other)

    for refusal, body, headers in refused:
        problem = msgspec.json.decode(body)
        assert refusal == 429
        assert problem["type"] == "urn:freefloat:problem:too-many-hours"
        assert headers["Content-Type"] == "application/problem+json"
        assert headers["Retry-After"] == "30"
    assert status == 200, "and waited for none of them"
    assert Counter(status for status, *_ in answers) == {200: 3, 429: 3}
    assert (await ask(running, EVENTS))[0] == 200
    assert await refused_to(running, "hours") == 3


async def test_no_more_than_a_few_hours_are_under_way_whoever_asks(
    running: Running, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hours, "ANSWERS_LIMIT", 3)
    paths = [(EVENTS, AGENCY), (EVENTS, AGENCY), (EVENTS, NEIGHBOUR)]
    many = [asyncio.create_task(ask(running, *path)) for path in paths]
    await until(lambda: gate.pages == 1)
    while (found := await ask(running, TRIPS, NEIGHBOUR))[0] != 503:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    counted = await refused_to(running, "all_hours")
    gate.opened.set()

    problem = msgspec.json.decode(found[1])
    assert counted == 1
    assert problem["type"] == "urn:freefloat:problem:no-hour-left"
    assert found[2]["Retry-After"] == "30"
    assert {status for status, *_ in await asyncio.gather(*many)} == {200}


async def test_one_page_is_read_at_a_time_so_that_a_reader_of_the_store_stays_free(
    running: Running, gate: Gate
) -> None:
    gate.opened.set()
    hours_of_all = [ask(running, EVENTS, k) for k in (AGENCY, NEIGHBOUR) for _ in "12"]
    answers = await asyncio.gather(
        *hours_of_all, *(ask(running, RECENT) for _ in range(5))
    )

    assert {status for status, *_ in answers} == {200}
    assert len({body for _, body, _ in answers[:4]}) == 1
    assert (gate.pages, gate.most) == (4 * 4 + 5, 1)


async def test_what_goes_wrong_in_the_middle_is_told_before_the_body_begins(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And every place is given back, or the third asker would be refused."""

    def read(_connection: Connection, *, after: str | None, **_about: Any) -> Page:
        if after is not None:
            raise StoreError("the disk is gone")
        return Page([{"event_id": 1}], "2")

    monkeypatch.setattr("bridge.api.mds.events_page", read)
    for _ in range(hours.CALLER_LIMIT + 1):
        status, body, headers = await ask(running, EVENTS)
        problem: Json = msgspec.json.decode(body)
        assert (status, problem["type"]) == (
            503,
            "urn:freefloat:problem:store-unavailable",
        )
        assert headers["Retry-After"] == "1"
    monkeypatch.undo()
    assert (await ask(running, EVENTS))[0] == 200


@pytest.mark.parametrize("goes", [True, False], ids=["goes", "takes nothing"])
async def test_who_goes_or_takes_nothing_loses_the_place(
    running: Running, monkeypatch: pytest.MonkeyPatch, *, goes: bool
) -> None:
    """I-31."""
    monkeypatch.setattr(hours, "CALLER_LIMIT", 1)
    if not goes:
        monkeypatch.setattr(holding, "STALL_S", 0.2)
    # More than the buffers of both ends take.
    large: list[list[Document]] = [[{"event_id": "x" * 2_000_000}]] * 16
    monkeypatch.setattr("bridge.api.mds.events_page", pages_of(*large))
    url = running.bridge.api_url + EVENTS
    async with aiohttp.ClientSession(headers={"X-Api-Key": AGENCY}) as city:
        answer = await city.get(url)
        assert answer.status == 200
        assert (await ask(running, EVENTS))[0] == 429
        if goes:
            answer.close()
        async with asyncio.timeout(LOOK_S):
            while (await ask(running, TRIPS))[0] != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        answer.close()


async def test_who_takes_it_drop_by_drop_is_cut_when_the_time_is_over() -> None:
    left = 0

    def leave() -> None:
        nonlocal left
        left += 1

    async def drops() -> AsyncIterator[bytes]:
        while True:
            yield b"x"

    async def send(_message: object) -> None:
        await asyncio.sleep(0.001)

    async def receive() -> Any:
        await asyncio.Event().wait()

    response = HoldingResponse(
        drops(), leave, media_type="text/plain", headers={}, within_s=0.05
    )
    async with asyncio.timeout(LOOK_S):
        await response({"type": "http"}, receive, send)

    assert left == 1


async def test_a_connection_that_takes_nothing_is_cut_and_not_kept_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I-31: a few hundred of them would be all that the bridge answers at once."""
    monkeypatch.setattr(holding, "STALL_S", 0.1)
    monkeypatch.setattr(listener, "TAKES_NOTHING_MS", 500)
    is_left = asyncio.Event()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        large = iter([bytes(2_000_000)] * 16)
        await HoldingResponse(large, is_left.set, media_type="text/plain", headers={})(
            scope, receive, send
        )

    with (
        listener.listen("127.0.0.1", 0, name="api", what="the test") as listening,
        socket.socket() as caller,
    ):
        async with listener.serve(answer, listening, most=2):
            caller.connect(listening.getsockname())
            caller.sendall(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            await is_left.wait()
            await until(lambda: _is_cut(caller))


def _is_cut(caller: socket.socket) -> bool:
    """Return whether the other end knows of the connection no more."""
    try:
        caller.send(b"x")
    except ConnectionError:
        return True
    return False


def test_places_and_distances_are_found_by_an_index_however_many_are_kept() -> None:
    """A scan took as long for each page as the table is large."""
    engine = create_engine("sqlite://")
    schema.metadata.create_all(engine)
    keys = {(random_vehicle_id(), bytes([n % 256]) * 16) for n in range(CHUNK)}
    with plans_of(engine) as plans, engine.connect() as connection:
        places_of(connection, keys)
        distances_of(connection, keys)
    engine.dispose()

    assert any("places_of_rental" in plan for plan in plans)
    assert [plan for plan in plans if plan.startswith("SCAN")] == []
