"""A release whose canary fails is taken back by itself, and nothing is lost (I-34).

Real bridges as processes of their own on a real broker; `systemctl` alone is a stand-in
that stops one and starts the next. The bad release is today's with one line broken.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.fleet import FleetPart
from tests.bridge.site import Driver, driven
from tests.depth import DEEP
from tools.bridge_settings import KEYS_FILE, make_secret
from tools.clock import wall_clock
from transport.tls import TlsIdentity

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = ROOT / "deploy/systemd/freefloat-roll-out"

GOOD: Final = "from tools.cli import main"
BAD: Final = (
    "import bridge.store; bridge.store.find_rental = lambda *_: None; "
    "from tools import canary; canary.ANSWER_S = 2.0; " + GOOD
)
"""Is ready and stores what cars say, but knows of no rental. Its canary gives up early,
only because a test does not wait for what will not come."""


@dataclass(frozen=True)
class Machine:
    """Where a bridge is a service."""

    folder: Path
    api: str

    @property
    def link(self) -> Path:
        return self.folder / "current"

    def release(self, name: str, code: str) -> Path:
        programs = self.folder / name / "bin"
        programs.mkdir(parents=True)
        (programs / "python").symlink_to(sys.executable)
        (programs / "freefloat").write_text(
            f"#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -c "
            f"'{code}; main()' \"$@\"\n"
        )
        (programs / "freefloat").chmod(0o755)
        return programs.parent

    def install(self) -> None:
        stand_in = self.folder / "systemctl"
        stand_in.write_text(
            f"""#!/bin/sh
cd {self.folder}
if [ -e pid ]; then
    kill "$(cat pid)" && while kill -0 "$(cat pid)" 2>/dev/null; do sleep 0.1; done
fi
{self.link}/bin/freefloat bridge run --quiet --config bridge.toml >>log 2>&1 &
echo $! >pid
"""
        )
        stand_in.chmod(0o755)

    async def roll_out(self, release: Path, *words: str) -> tuple[int, str]:
        """Run the script; return how it ended and what it said."""
        process = await asyncio.create_subprocess_exec(
            *(str(SCRIPT), str(release), *words),
            env={
                **os.environ,
                "PATH": f"{self.folder}:{os.environ['PATH']}",
                "FREEFLOAT_LINK": str(self.link),
                "FREEFLOAT_API": self.api,
                "FREEFLOAT_READY_S": "8",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()

    async def start(self) -> None:
        await (
            await asyncio.create_subprocess_exec(str(self.folder / "systemctl"))
        ).wait()

    def stop(self) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((self.folder / "pid").read_text()), signal.SIGTERM)


@contextlib.asynccontextmanager
async def machine(tmp_path: Path) -> AsyncIterator[tuple[Machine, Driver, list[str]]]:
    """Yield it with a car that drives, and what the canary needs to be told."""
    fleet = FleetDirectory.create(tmp_path / "fleet", name="lab", now=wall_clock())
    names = [random_vehicle_id() for _ in range(2)]
    issue_vehicles(fleet, names, now=wall_clock())
    known = frozenset(map(str, names))
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    async with EmbeddedBroker(
        directory=tmp_path / "broker",
        identity=TlsIdentity.of_fleet(fleet.path, FleetPart.BROKER),
        access=BrokerAccess(is_vehicle=known.__contains__),
        clock=wall_clock,
    ) as broker:
        state = tmp_path / "state"
        state.mkdir(mode=0o700)
        make_secret(state / KEYS_FILE, "k" * 43)
        (tmp_path / "bridge.toml").write_text(
            f"""
[fleet]
directory = "{fleet.path}"
[broker]
host = "{broker.host}"
port = {broker.port}
[store]
path = "{state / "bridge.sqlite"}"
[api]
port = {port}
keys_file = "{state / KEYS_FILE}"
[approvals]
required = false
"""
        )
        here = Machine(tmp_path, f"http://127.0.0.1:{port}")
        here.install()
        canary = fleet.vehicle_directory(names[1])
        words = ["--broker", f"{broker.host}:{broker.port}", "--car", str(canary)]
        words += ["--api-key-file", str(state / KEYS_FILE)]
        try:
            async with driven(fleet, broker, names[0], bundle_version=1) as driver:
                yield here, driver, words
        finally:
            here.stop()


async def test_a_release_whose_canary_fails_is_taken_back_under_load(
    tmp_path: Path,
) -> None:
    """I-34 (F), row 37: rolled out, found bad, back by itself; no entry is lost."""
    over = asyncio.Event()

    async def drive(driver: Driver) -> None:
        while not over.is_set():
            await driver.tell(1)
            await asyncio.sleep(0.2)

    async with asyncio.timeout(110), machine(tmp_path) as (here, driver, words):
        old, bad = here.release("old", GOOD), here.release("bad", BAD)
        here.link.symlink_to(old)
        await here.start()
        await driver.greet()
        load = asyncio.create_task(drive(driver))
        ended, said = await here.roll_out(bad, *words)
        over.set()
        await load
        await driver.finish()
        runs = here.link.resolve()
        receipted = driver.receipted
    rows = sqlite3.connect(tmp_path / "state/bridge.sqlite").execute(
        "SELECT seq, data FROM frames WHERE vehicle_id = ? ORDER BY seq",
        [str(driver.car.id)],
    )

    assert ended == 1, said
    assert f"{bad} does not pass: back to {old}" in said
    assert f"{old} runs again, and the canary passed" in said
    assert runs == old
    assert receipted == len(driver.entries) > 10
    assert [data for _, data in rows] == [entry for _, entry in driver.entries]


async def test_what_is_no_release_changes_nothing(tmp_path: Path) -> None:
    here = Machine(tmp_path, "http://127.0.0.1:1")
    here.install()

    ended, said = await here.roll_out(tmp_path / "missing")

    assert (ended, "bin/freefloat" in said) == (2, True)
    assert not (tmp_path / "pid").exists()


@pytest.mark.skipif(not DEEP, reason="waits in full for a bridge that never answers")
async def test_a_release_that_does_not_start_is_taken_back(tmp_path: Path) -> None:
    """I-34, row 37: nothing answers, so the canary is not even asked."""
    async with asyncio.timeout(110), machine(tmp_path) as (here, driver, words):
        old = here.release("old", GOOD)
        bad = here.release("bad", "raise SystemExit(1)")
        here.link.symlink_to(old)
        ended, said = await here.roll_out(bad, *words)
        await driver.greet()

    assert ended == 1, said
    assert here.link.resolve() == old
