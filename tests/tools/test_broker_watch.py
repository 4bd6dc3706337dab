"""``freefloat broker watch``: an alarm from a production mosquitto's log (row 23)."""

import asyncio
import contextlib
import os
import re
import shlex
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.broker.process import free_port
from bridge.broker.trespass import Deed, Trespass
from tests.broker.pki import Pki, clock
from tests.broker.room import VEHICLE_A, VEHICLE_B, up
from tests.broker.test_deployment import deployed, link_of
from tests.broker.test_full_broker import connected
from tests.mosquitto_plugin import build_plugin
from tools.broker_watch import watch
from transport.errors import PublishRefusedError

NATS = '[1] [ERR] 127.0.0.1:4 - mid:1 - "{}" - {} Violation - Subject "x"\n'
THROWN = "2026: Client {} already connected, closing old connection.\n"
COUNT = re.compile(
    rb'^freefloat_broker_trespasses_total\{deed="(\w+)"\} (\S+)$', re.MULTILINE
)


def test_each_deed_of_each_name_is_said_once_and_the_end_of_the_log_is_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = (
        NATS.format("A", "Publish") * 2
        + NATS.format("B", "Subscription")
        + "\xff" * 10_000
        + "\n"
        + THROWN.format("C") * 2
    )
    result = CliRunner().invoke(watch, input=log)

    assert [record.getMessage() for record in caplog.records] == [
        "= A was refused: it tried to publish to topics of others",
        "= B was refused: it tried to subscribe to topics of others",
        f"= {Trespass('C', Deed.TWICE)}",
    ]
    assert result.exit_code == 1
    assert "the broker's log ended" in str(result.exception)


@pytest.mark.broker
def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = CliRunner().invoke(watch, ["--metrics", address], input="")

    assert f"{address} cannot be listened on" in str(result.exception)


@pytest.mark.broker
@pytest.mark.mosquitto
@pytest.mark.plugin
async def test_a_refused_publish_at_a_deployed_mosquitto_is_counted_for_the_alert(
    tmp_path: Path,
) -> None:
    pki = Pki(tmp_path / "pki", now=clock())
    rogue, port = pki.issue(VEHICLE_A), free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}/metrics"

    def counted() -> dict[bytes, float]:
        with urllib.request.urlopen(url, timeout=5) as answer:
            found = COUNT.findall(answer.read())
        return {deed: float(count) for deed, count in found}

    async with (
        deployed(pki, tmp_path, last=f"plugin {build_plugin(tmp_path)}") as broker,
        asyncio.timeout(60),
    ):
        program = shlex.join((sys.executable, "-m", "tools.cli"))
        log = shlex.quote(str(broker.log))
        shell = await asyncio.create_subprocess_shell(
            f"tail -n +1 -f {log} | exec {program} broker watch "
            f"--metrics 127.0.0.1:{port}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert shell.stdout is not None
        try:
            while b"watching" not in await shell.stdout.readline():
                pass
            # Before anything is refused: Prometheus sees the first one as a rise.
            none = await asyncio.to_thread(counted)
            link = await connected(lambda: link_of(broker.port, VEHICLE_A, rogue))
            with contextlib.suppress(PublishRefusedError):
                await link.publish(up(VEHICLE_B), b"x")
            await link.__aexit__(None, None, None)
            said = await shell.stdout.readline()
            then = await asyncio.to_thread(counted)
        finally:
            await ended(shell)

    assert none == {b"publish": 0, b"subscribe": 0, b"twice": 0}
    assert f"{VEHICLE_A} was refused" in said.decode()
    assert then == none | {b"publish": 1}


async def ended(shell: asyncio.subprocess.Process) -> None:
    """End a pipeline that is a session of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(shell.pid, signal.SIGTERM)
    await shell.wait()
