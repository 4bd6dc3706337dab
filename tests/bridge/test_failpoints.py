"""SIGKILL between receive, verify, commit, ack and forward (I-23, I-21, row 25)."""

import asyncio
import signal
import sqlite3
import sys
from pathlib import Path

import pytest

from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.crashing import POINTS
from tests.bridge.stream import TYPES, entries_of
from tests.bridge.world import World

ROOT = Path(__file__).parents[2]


def stored(database: Path) -> dict[int, bytes]:
    connection = sqlite3.connect(database)
    try:
        return dict(connection.execute("select seq, data from frames"))
    finally:
        connection.close()


@pytest.mark.parametrize("point", POINTS)
async def test_nothing_leaves_before_it_is_stored_and_nothing_is_lost(
    fleet: FleetDirectory, tmp_path: Path, point: str
) -> None:
    """I-23 (F), I-21, row 25: the process is killed between any two steps."""
    database = tmp_path / "bridge.sqlite"
    arguments = [str(fleet.path), str(database), point]
    died = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bridge.crashing", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaint = await died.communicate()
    assert died.returncode == -signal.SIGKILL, complaint.decode()
    lines = [line.split() for line in said.decode().splitlines()]
    left = stored(database)

    # I-23: whatever broker or car heard of is stored.
    acknowledged = {bytes.fromhex(what) for name, what in lines if name == "ack"}
    receipted = [int(what) for name, what in lines if name == "receipt"]
    assert acknowledged <= set(left.values())
    assert max(receipted, default=0) <= max(left, default=0)

    # I-21: the broker and the car send again what nobody took; all is told once.
    async with World(fleet, database) as world:
        entries = entries_of(world.car)
        await world.say(FrameClass.EVENT, *entries)

        assert await world.events() == TYPES
        await world.broker.until_receipted(world.car.head)
    assert set(stored(database).values()) == set(entries)
