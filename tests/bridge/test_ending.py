"""SIGTERM ends a bridge in time, whatever is away (I-34, rows 18, 20, 26).

A real `freefloat bridge run` between a real mosquitto and a real PostgreSQL.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.bridge.site import Site, open_site
from tests.bridge.test_rolling_restart import DRAIN_S, config_of
from tests.postgres import Server, running_server
from tests.silent_names import NAME, VARIABLE

pytestmark = [
    pytest.mark.broker,
    pytest.mark.mosquitto,
    pytest.mark.postgres,
    pytest.mark.timeout(240),
]

PROMISED_S: Final = 20.0
"""After `api.drain_s` (docs/operations.md)."""

REQUESTS_S: Final = 4.0
"""Of it less than what requests under way may take: here there are none. A driver's own
limits take 20 to 31 s, and a name server that is silent a minute."""

NOTICED_S: Final = 4.0
"""After it every loop of the bridge is in the middle of something that hangs."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


@pytest.fixture
async def site(tmp_path: Path, server: Server) -> AsyncIterator[Site]:
    async with open_site(tmp_path, server, cars=1, bridges=1) as made:
        yield made


def by_name(config: Path) -> Path:
    """Let a bridge look for broker and database by a name."""
    text = config.read_text()
    config.write_text(
        text.replace('host = "127.0.0.1"', f'host = "{NAME}"').replace(
            "@127.0.0.1:", f"@{NAME}:"
        )
    )
    return config


@contextlib.asynccontextmanager
async def bridge(site: Site) -> AsyncIterator[asyncio.subprocess.Process]:
    config = by_name(config_of(site, 1))
    with (site.folder / "bridge.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.silent_names", "bridge", "run"),
            *("--quiet", "--json", "--config", str(config)),
            env={**os.environ, VARIABLE: str(site.folder / "silence")},
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def started(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    assert await process.stdout.readline(), "it ended instead"


async def until_it_asks(site: Site) -> None:
    async with asyncio.timeout(60):
        while not (site.folder / "silence.asked").exists():  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.05)


async def ended_s(process: asyncio.subprocess.Process) -> float:
    """Tell it to stop; return how long it took."""
    clock = asyncio.get_running_loop().time
    begun_s = clock()
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(90):
        await process.wait()
    took_s = clock() - begun_s
    sys.stdout.write(f"told to stop, it ended after {took_s:.1f} s\n")
    return took_s


def go_away(site: Site, how: str) -> None:
    if how == "names":
        (site.folder / "silence").touch()
        # What is connected breaks, so that each name is asked for anew.
        site.server.execute(
            site.server.url("postgres"),
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'freefloat-bridge'",
        )
    else:
        site.server.freeze()
    assert site.broker.pid is not None
    os.kill(site.broker.pid, signal.SIGSTOP)


def come_back(site: Site) -> None:
    site.server.thaw()
    assert site.broker.pid is not None
    os.kill(site.broker.pid, signal.SIGCONT)


@pytest.mark.parametrize("how", ["names", "frozen"])
async def test_a_bridge_that_is_told_to_stop_ends_in_time_whatever_is_away(
    site: Site, how: str
) -> None:
    """I-34 (F), rows 18, 20 and 26: names without an answer, servers without one."""
    async with bridge(site) as process:
        await started(process)
        await site.drivers[0].greet()
        go_away(site, how)
        try:
            await asyncio.sleep(NOTICED_S)
            took_s = await ended_s(process)
        finally:
            come_back(site)

    log = (site.folder / "bridge.log").read_text()
    assert process.returncode == 0, log
    assert "Traceback" not in log
    assert took_s < DRAIN_S + PROMISED_S - REQUESTS_S


async def test_a_bridge_that_is_told_to_stop_while_it_starts_ends_at_once(
    site: Site,
) -> None:
    """Row 18: the name of its database has no address."""
    (site.folder / "silence").touch()
    async with bridge(site) as process:
        await until_it_asks(site)
        took_s = await ended_s(process)

    log = (site.folder / "bridge.log").read_text()
    assert (process.returncode, log) == (0, "")
    assert took_s < PROMISED_S - REQUESTS_S
