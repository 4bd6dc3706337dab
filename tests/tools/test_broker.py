"""``freefloat broker``: an embedded broker, and the guard of a real mosquitto (K8)."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.broker.process import free_port
from bridge.broker.program import BrokerKind, find_broker
from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.fleet import FleetPart
from tests.broker.pki import clock
from transport.errors import TransportError
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context

pytestmark = pytest.mark.broker

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = "/etc/mosquitto/freefloat"
LIMIT_S = 60


class Site:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.fleet = FleetDirectory.create(directory / "fleet", name="t", now=clock())
        ids = [random_vehicle_id() for _ in range(2)]
        issue_vehicles(self.fleet, ids, now=clock())
        self.names = sorted(map(str, ids))
        self.port = free_port("127.0.0.1")

    def link(self, name: str) -> MqttLink:
        folder = self.fleet.path / FleetPart.VEHICLES / name
        anchors = self.fleet.path / FleetPart.TRUST_ANCHORS
        identity = TlsIdentity(folder / "tls.crt", folder / "tls.key", anchors)
        return MqttLink(
            LinkSettings("127.0.0.1", self.port, client_id=name),
            client_context(identity, now=clock()),
        )

    def revoke(self, name: str) -> None:
        revoked = self.fleet.path / "revoked"
        revoked.mkdir(exist_ok=True)
        record = self.fleet.path / FleetPart.REGISTRY / f"{name}.json"
        record.rename(revoked / record.name)

    async def connected(self, name: str) -> MqttLink:
        async with asyncio.timeout(20):
            while True:
                link = self.link(name)
                with contextlib.suppress(TransportError):
                    return await link.__aenter__()
                await asyncio.sleep(0.05)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@contextlib.asynccontextmanager
async def running(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        assert b"Traceback" not in said


def freefloat(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "tools.cli", *arguments)


async def withdrawn_is_thrown_out(site: Site) -> None:
    victim, other = site.names
    live, kept = await site.connected(victim), await site.connected(other)
    site.revoke(victim)
    async with asyncio.timeout(LIMIT_S):
        await live.wait_lost()
    assert kept.is_connected
    for link in (live, kept):
        await link.__aexit__(None, None, None)


async def test_a_trial_broker_lets_cars_in_by_the_registry_and_out_again(
    site: Site,
) -> None:
    async with running(
        *freefloat("broker", "run", "--fleet", str(site.fleet.path)),
        *("--listen", f"127.0.0.1:{site.port}", "--kind", "nats"),
        *("--directory", str(site.directory / "state")),
    ):
        await withdrawn_is_thrown_out(site)


@pytest.mark.mosquitto
async def test_the_guard_throws_a_withdrawn_car_out_of_a_deployed_mosquitto(
    site: Site,
) -> None:
    folder = site.directory / "mosquitto"
    folder.mkdir()
    for name in ("tls.crt", "tls.key"):
        shutil.copy2(site.fleet.path / FleetPart.BROKER / name, folder / name)
    shutil.copy2(site.fleet.path / FleetPart.TRUST_ANCHORS, folder)
    shutil.copy2(DEPLOY / "mosquitto.acl", folder)
    async with running(*freefloat("broker", "warden", str(folder))) as made:
        await made.wait()
    port = free_port("127.0.0.1")
    pid_file = folder / "mosquitto.pid"
    text = (DEPLOY / "mosquitto.conf").read_text()
    for here, there in (
        ("user mosquitto\n", f"user {os.environ.get('USER', 'root')}\n"),
        ("/run/mosquitto/mosquitto.pid", str(pid_file)),
        ("listener 8883 0.0.0.0", f"listener {site.port} 127.0.0.1"),
        ("listener 8884 ", f"listener {port} "),
        (FOLDER, str(folder)),
    ):
        assert here in text
        text = text.replace(here, there)
    settings = folder / "mosquitto.conf"
    settings.write_text(text)
    mosquitto = str(find_broker(BrokerKind.MOSQUITTO).path)
    async with (
        running(mosquitto, "-c", str(settings)),
        running(
            *freefloat("broker", "guard", "--fleet", str(site.fleet.path)),
            *("--directory", str(folder), "--pid-file", str(pid_file)),
            *("--port", str(port)),
        ),
    ):
        await withdrawn_is_thrown_out(site)

    # A guard that starts anew keeps the denial, also if `revoked/` is lost (L5 c).
    shutil.rmtree(site.fleet.path / "revoked")
    before = (folder / "mosquitto.acl").stat().st_mtime_ns
    async with running(
        *freefloat("broker", "guard", "--fleet", str(site.fleet.path)),
        *("--directory", str(folder), "--pid-file", str(pid_file)),
        *("--bridge", "ff-bridge-1", "--bridge", "ff-bridge-7"),
    ) as guard:
        async with asyncio.timeout(LIMIT_S):
            assert guard.stdout is not None
            said = b""
            while b"others" not in said:
                said += await guard.stdout.readline()
            assert b"ff-bridge-1, ff-bridge-7" in said
            while (folder / "mosquitto.acl").stat().st_mtime_ns == before:  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.1)
    denied = (folder / "mosquitto.acl").read_text()
    assert f"topic deny ff/v1/{site.names[0]}/#" in denied
    assert site.names[1] not in denied


async def test_the_wardens_certificate_is_not_overwritten(tmp_path: Path) -> None:
    command = freefloat("broker", "warden", str(tmp_path))
    said = b""
    for code in (0, 1):
        process = await asyncio.create_subprocess_exec(
            *command,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == code, said.decode()

    assert b"nothing was touched" in said
    assert (tmp_path / "warden.key").stat().st_mode & 0o777 == 0o600
