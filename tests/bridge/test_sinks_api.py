"""How far consumers are, and giving one its events again from any point."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.settings import JsonLinesSettings, Settings, SinkSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.running import Running, running_bridge, until
from tests.bridge.stream import TYPES, entries_of
from tests.bridge.world import NOW_MS
from tests.tools.command_line import freefloat
from tools.bridge_settings import local_settings

pytestmark = pytest.mark.broker


def with_lines(fleet: FleetDirectory, folder: Path) -> Settings:
    """Return settings with a sink `lines` that writes a file of this name."""
    made = local_settings(
        fleet.path, state=folder, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
    )
    sink = JsonLinesSettings(name="lines", path=str(folder / "lines"))
    return msgspec.structs.replace(made, sinks=SinkSettings((sink,)))


async def settled(running: Running) -> dict[str, Any]:
    """Wait until nothing waits, and return how the sink is."""
    async with asyncio.timeout(30):
        while True:
            status, found = await running.get("/v1/sinks/lines")
            assert status == 200
            if found["waiting"] == 0:
                return found
            await asyncio.sleep(0.05)


def ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


async def test_a_sink_begins_again_at_a_position_and_at_a_time(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    lines = tmp_path / "lines"
    async with running_bridge(
        fleet, tmp_path, settings=with_lines(fleet, tmp_path)
    ) as running:
        for entry in entries_of(running.car):
            await running.say(FrameClass.EVENT, entry)
        before = await settled(running)
        first = ids(lines)

        status, _ = await running.post("/v1/sinks/lines/replay", json={"position": 2})
        assert status == 200
        await until(lambda: len(ids(lines)) >= 2 * len(first) - 2)
        after_position = ids(lines)
        since = datetime.fromtimestamp(NOW_MS / 1000, UTC).isoformat()
        await running.post("/v1/sinks/lines/replay", json={"since": since})
        await until(lambda: len(ids(lines)) >= 3 * len(first) - 2)

    assert before["newest"] == before["position"] == len(first) == len(TYPES)
    assert after_position == [*first, *first[2:]]
    assert ids(lines) == [*first, *first[2:], *first]


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        ("nobody/replay", {"position": 1}, (404, "no sink has this name")),
        ("lines/replay", {"position": -1}, (422, "position")),
        ("lines/replay", {"position": 10**6}, (422, "position: the newest event has")),
        ("lines/replay", {}, (422, "body: give position or since")),
        ("lines/replay", {"since": "yesterday"}, (422, "since")),
        (
            "lines/replay",
            {"position": 1, "since": "2026-11-25T06:00:00Z"},
            (422, "give position or since"),
        ),
        ("lines/replay", {"position": 1, "more": 2}, (422, "more")),
    ],
)
async def test_what_cannot_be_replayed_is_a_problem_that_says_why(
    fleet: FleetDirectory,
    tmp_path: Path,
    path: str,
    body: dict[str, object],
    answer: tuple[int, str],
) -> None:
    settings = with_lines(fleet, tmp_path)
    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        got, problem = await running.post(f"/v1/sinks/{path}", json=body)

    assert got == answer[0]
    assert answer[1] in json.dumps(problem)
    assert got == 404 or problem["errors"][0]["in"] == "body"


async def test_an_engineer_sees_and_replays_on_the_command_line(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    async with running_bridge(
        fleet, tmp_path, settings=with_lines(fleet, tmp_path)
    ) as running:
        await running.say(FrameClass.EVENT, entries_of(running.car)[0])
        await settled(running)
        where = (
            *("--api", running.bridge.api_url),
            *("--api-key-file", tmp_path / "api.keys"),
        )

        shown = await asyncio.to_thread(
            freefloat, "bridge", "sinks", *where, cwd=tmp_path
        )
        replayed = await asyncio.to_thread(
            freefloat,
            *("bridge", "replay", "lines", "--position", "0", *where),
            cwd=tmp_path,
        )
        wrong = await asyncio.to_thread(
            freefloat, "bridge", "replay", "lines", *where, cwd=tmp_path
        )

    assert "closed" in shown.stdout
    assert "begins again behind 0" in replayed.stdout
    assert (wrong.returncode, "--position or --since" in wrong.stderr) == (2, True)
