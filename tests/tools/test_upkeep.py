"""`freefloat bridge letters | judge` against a real bridge over HTTP."""

import asyncio
import json
from pathlib import Path

import pytest

from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.event import AgentStarted
from tests.bridge.conftest import fleet  # noqa: F401 - a fixture
from tests.bridge.running import running_bridge
from tests.tools.command_line import freefloat

pytestmark = pytest.mark.broker


async def test_letters_are_listed_and_judged_on_the_command_line(
    fleet: FleetDirectory,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    async with running_bridge(fleet, tmp_path) as running:
        forged = bytearray(running.car.event(AgentStarted(1, bytes(4))))
        forged[-1] ^= 1
        await running.say(FrameClass.EVENT, bytes(forged))
        where = (
            *("--api", running.bridge.api_url),
            *("--api-key-file", tmp_path / "api.keys"),
        )

        listed = await asyncio.to_thread(
            freefloat, "bridge", "letters", *where, "--json", cwd=tmp_path
        )
        shown = await asyncio.to_thread(
            freefloat, "bridge", "letters", *where, cwd=tmp_path
        )
        judged = await asyncio.to_thread(
            freefloat, "bridge", "judge", "1", *where, cwd=tmp_path
        )

    [letter] = json.loads(listed.stdout)
    assert (letter["id"], letter["kind"]) == (1, "unverified")
    assert "BAD_SIGNATURE" in shown.stdout
    assert judged.returncode == 1
    assert "kept: BAD_SIGNATURE" in judged.stdout
