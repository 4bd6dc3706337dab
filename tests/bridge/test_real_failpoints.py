"""A real bridge at a real mosquitto, killed between any two steps (row 25).

`test_failpoints` does the same in memory, where more is seen of what left the process.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from protocol.codes import FrameClass
from tests.bridge.failing import AFTER, VARIABLE
from tests.bridge.test_real_broker import BODIES, Driver, Site, driving, site, stored
from tests.depth import DEEP

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto, pytest.mark.timeout(120)]

__all__ = ["site"]

POINTS = tuple(AFTER) if DEEP else tuple(point for point in AFTER if point != "receipt")
"""The five of row 25; what happens behind a receipt is nearly what does behind the
acknowledgement before it."""

FIRST = 40
MORE = 20
"""Entries that a car has at once, and how many it makes while those are sent."""


@contextlib.asynccontextmanager
async def running(
    site: Site, point: str | None = None
) -> AsyncIterator[subprocess.Popen[bytes]]:
    program = "tools.cli" if point is None else "tests.bridge.failing"
    host, port = site.address
    process = await asyncio.to_thread(
        subprocess.Popen,
        [
            *(sys.executable, "-m", program, "bridge", "run", "--quiet"),
            *("--fleet", str(site.fleet.path), "--state", str(site.state)),
            *("--broker", f"{host}:{port}", "--api", "127.0.0.1:0"),
            *("--json-lines", str(site.state / "events.jsonl")),
        ],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONUNBUFFERED": "1", VARIABLE: point or ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        await asyncio.to_thread(process.stdout.readline)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.communicate, timeout=15)


def told(site: Site) -> list[str]:
    lines = (site.state / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["id"] for line in lines]


def made(driver: Driver, count: int) -> list[bytes]:
    return [driver.car.event(BODIES[number % 4]) for number in range(count)]


async def work_until_it_dies(
    driver: Driver, process: subprocess.Popen[bytes]
) -> list[bytes]:
    """Send entries as a car does, again what has no receipt; return all it has.

    Some of them are never sent: it dies in the middle of the work, however fast it is.
    """
    entries = made(driver, FIRST)
    while process.poll() is None:
        pending = entries[driver.receipted() :]
        entries += made(driver, MORE)
        for entry in pending:
            if process.poll() is not None:
                break
            await driver.say(FrameClass.EVENT, entry)
            # Batches of a few.
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
    return entries


@pytest.mark.parametrize("site", ["mosquitto"], indirect=True)
@pytest.mark.parametrize("point", POINTS)
async def test_whatever_step_a_bridge_dies_behind_nothing_is_lost_or_told_twice(
    site: Site, point: str
) -> None:
    """I-21 (F), row 25: killed after receive, verify, commit, ack or forward.

    What the broker was told is not seen here: a car sends again what has no receipt,
    so an acknowledgement before the commit costs nothing; `test_failpoints` sees it.
    """
    async with asyncio.timeout(60), driving(site) as driver:
        async with running(site, point) as process:
            entries = await work_until_it_dies(driver, process)
        count = len(entries)
        killed, receipted = process.returncode, driver.receipted()
        [(frames, _)] = stored(site)
        heard = told(site)

        async with running(site):
            while driver.receipted() < count or len(set(told(site))) < count:
                for entry in entries[driver.receipted() :]:
                    await driver.say(FrameClass.EVENT, entry)
                await asyncio.sleep(0.2)
        again = told(site)

    sys.stdout.write(
        f"killed after {point!r}: {frames} of {count} entries stored, {receipted} "
        f"receipted, {len(heard)} told; afterwards {len(again)} lines, "
        f"{len(again) - len(set(again))} of them repeated\n"
    )
    assert killed == -signal.SIGKILL
    assert receipted <= frames < count
    assert len(set(heard)) <= frames
    assert stored(site) == [(count, count)]
    # At least once; who drops a repeated id has each event once.
    assert len(set(again)) == count
    # Only what was taken when the cursor had not been written is told again.
    assert len(again) - len(set(again)) <= len(heard)
