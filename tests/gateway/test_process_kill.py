"""A car's process killed at a sync of its ledger: a command ends once (I-10, K21)."""

import subprocess
import sys
from pathlib import Path

import pytest

from protocol.codes import Code, FrameClass
from protocol.content import parse_content
from protocol.frame import parse_frame
from protocol.result import Result
from tests.gateway.crashing import real_store
from tests.gateway.oracle import require_sound
from tests.gateway.world import World
from tests.tools.command_line import SOURCES

POINTS = 10
"""Of the syncs of a rental, before and after each: as many as CI has time for."""

pytestmark = pytest.mark.timeout(180)


def run(directory: Path, at: int) -> tuple[int, list[list[str]]]:
    """Let a car live until the fuse blows; returns its end and what it told."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.gateway.crashing", str(directory), str(at)],
        cwd=SOURCES,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, [line.split() for line in done.stdout.splitlines()]


async def results_after(directory: Path) -> dict[str, list[Code]]:
    """Start the car anew on what lies there, and return the results of its ledger."""
    world = World(store=real_store(directory, start=2))
    async with world:
        await world.advance(120.0)
        await require_sound_without_grants(world)
        found: dict[str, list[Code]] = {}
        assert world.store is not None
        held = {e.seq: e.frame for e in await world.store.entries(1, 10_000)}
        for _, data in sorted((world.fleet.entries | held).items()):
            if parse_frame(data).header.frame_class is FrameClass.RESULT:
                body = parse_content(parse_frame(data)).body
                assert isinstance(body, Result)
                found.setdefault(body.request_id.hex(), []).append(body.code)
    return found


async def require_sound_without_grants(world: World) -> None:
    """Check what can be: the board of the world before has gone with its process."""
    await require_sound(world, lock_commands=100)


async def test_killed_at_a_sync_every_accepted_command_ends_once(
    tmp_path: Path,
) -> None:
    # FF-CMD-07, FF-CMD-09, FF-CMD-10.
    # I-10, row 1: the process is killed by the system, on a real file.
    (tmp_path / "whole").mkdir()
    end, told = run(tmp_path / "whole", 0)
    assert end == 0
    syncs = int(told[-1][1])
    assert syncs > POINTS
    all_accepted = sum(line[0] == "accepted" for line in told)
    fates = set[bool]()
    for point in range(POINTS):
        at = 1 + point * (syncs - 1) // (POINTS - 1)
        directory = tmp_path / f"at-{at}"
        directory.mkdir()

        end, told = run(directory, at)
        assert end == -9, f"not killed at {at}"
        accepted = [line[1] for line in told if line[0] == "accepted"]
        ended = {line[1] for line in told if line[0] == "ended"}
        assert len(accepted) <= all_accepted

        results = await results_after(directory)
        for msg_id, codes in results.items():
            assert len(codes) == 1, f"two ends of one command, killed at {at}"
            if codes == [Code.INDETERMINATE_AFTER_REBOOT]:
                assert msg_id not in ended
                fates.add(False)
        for msg_id in accepted:
            assert msg_id in results, f"no end of a command, killed at {at}"
        for msg_id in ended:
            assert results[msg_id] != [Code.INDETERMINATE_AFTER_REBOOT]
            fates.add(True)
    assert True in fates
