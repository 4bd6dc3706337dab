"""Every list comes in pages, and who walks it misses nothing and sees nothing twice
while rows are added."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
import pytest

from bridge.settings import ApiSettings, JsonLinesSettings, SinkSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.running import Running, running_bridge
from tools.bridge_settings import local_settings

pytestmark = pytest.mark.broker

Add = Callable[[Running, FleetDirectory], Awaitable[object]]


async def nothing(_running: Running, _fleet: FleetDirectory) -> None:
    """Add nothing: a registry and the settings do not grow by a call."""


async def letter(running: Running, _fleet: FleetDirectory) -> None:
    await running.say(FrameClass.EVENT, b"what nobody signed")


async def audited(running: Running, _fleet: FleetDirectory) -> None:
    await running.post("/v1/dead-letters/999/judge")


async def approval(running: Running, fleet: FleetDirectory) -> None:
    # Another note is the same request, so each has another set of vehicles.
    number = running.bridge.streams.count + len(TAKEN)
    TAKEN.append(number)
    cars = [str(vehicle_id) for vehicle_id in fleet.vehicle_ids()]
    chosen = [car for place, car in enumerate(cars) if (number % 7 + 1) >> place & 1]
    order = {"kind": "flash_hazards", "seconds": number // 7 + 1}
    body = {"vehicle_ids": chosen, "order": order}
    status, found = await running.post("/v1/approvals", json=body)
    assert status == 201, found


TAKEN: Final[list[int]] = []

LISTS: Final[dict[str, tuple[str, str, str, int, Add, bool]]] = {
    "/v1/vehicles": ("vehicles", "id", "after", 200, nothing, False),
    "/v1/trust": ("laggards", "vehicle_id", "after", 1_000, nothing, False),
    "/v1/sinks": ("sinks", "name", "after", 200, nothing, False),
    "/v1/dead-letters": ("letters", "id", "before", 100, letter, True),
    "/v1/approvals": ("approvals", "id", "before", 100, approval, True),
    "/v1/audit": ("rows", "id", "after", 200, audited, False),
}
"""Path: the list in it, what names a row, the cursor's parameter, the longest page,
what adds a row, and whether the newest comes first."""


@pytest.fixture
async def running(fleet: FleetDirectory, tmp_path: Path) -> AsyncIterator[Running]:
    settings = local_settings(
        fleet.path, state=tmp_path, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
    )
    lines = tuple(
        JsonLinesSettings(name=name, path=str(tmp_path / name)) for name in "cab"
    )
    # Whoever calls a bridge without keys may read everything.
    settings = msgspec.structs.replace(
        settings,
        sinks=SinkSettings(lines),
        api=ApiSettings(port=0, without_key=True),
    )
    async with running_bridge(fleet, tmp_path, settings=settings) as made:
        yield made


@pytest.mark.parametrize("path", LISTS)
async def test_a_walk_meets_every_row_once_while_rows_are_added(
    running: Running, fleet: FleetDirectory, path: str
) -> None:
    name, key, cursor, most, add, is_newest_first = LISTS[path]
    if add is letter:
        await running.say(FrameClass.HELLO, running.car.hello())
    for _ in range(3):
        await add(running, fleet)
    _, whole = await running.get(f"{path}?limit={most}")
    expected = [row[key] for row in whole[name]]

    met, place, pages = [], "", 0
    while pages < 50:
        status, page = await running.get(f"{path}?limit=1{place}")
        assert status == 200
        assert len(page[name]) <= 1
        met += [row[key] for row in page[name]]
        pages += 1
        if page["next"] is None or len(met) >= len(expected) + 3:
            break
        place = f"&{cursor}={page['next']}"
        if pages <= 2:
            await add(running, fleet)

    assert len(expected) >= 3
    assert len(met) == len(set(met))
    assert met[: len(expected)] == expected
    if is_newest_first:
        # What was added stands before where the walk began.
        assert met == expected


@pytest.mark.parametrize("path", LISTS)
async def test_a_page_has_bounds_and_a_cursor_a_form(
    running: Running, path: str
) -> None:
    _, _, cursor, most, _, _ = LISTS[path]

    for query in (
        "limit=0",
        f"limit={most + 1}",
        "limit=x",
        f"{cursor}=%00",
        f"{cursor}=-1",
    ):
        status, problem = await running.get(f"{path}?{query}")
        assert (status, problem["type"].rpartition(":")[2]) == (422, "invalid-request")
