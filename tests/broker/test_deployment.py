"""deploy/mosquitto.conf is what the embedded broker runs, and mosquitto accepts it."""

import asyncio
import re
import subprocess
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bridge.broker.mosquitto import mosquitto_access_list, mosquitto_settings
from bridge.broker.process import free_port
from bridge.broker.program import BrokerKind, find_broker
from bridge.broker.service_certificate import make_service_certificate
from tests.broker.pki import Pki, clock
from tests.broker.room import VEHICLE_A, up
from transport.errors import LinkError
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context

DEPLOY = Path(__file__).parents[2] / "deploy"
ACCESS_LIST = DEPLOY / "mosquitto.acl"
SETTINGS = DEPLOY / "mosquitto.conf"
FOLDER = Path("/etc/mosquitto/freefloat")


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_deployed_settings_are_those_of_the_embedded_broker() -> None:
    embedded = mosquitto_settings(
        host="0.0.0.0",
        port=8883,
        identity=TlsIdentity(
            FOLDER / "tls.crt", FOLDER / "tls.key", FOLDER / "trust-anchors.pem"
        ),
        access_list=FOLDER / "mosquitto.acl",
        pid_file=Path("/run/mosquitto/mosquitto.pid"),
        warden=TlsIdentity(
            FOLDER / "warden.crt", FOLDER / "warden.key", FOLDER / "warden.crt"
        ),
        warden_port=8884,
    )

    embedded = re.sub(r"^user .*$", "user mosquitto", embedded, flags=re.MULTILINE)
    assert lines(SETTINGS.read_text()) == lines(embedded)


def test_the_deployed_access_list_is_that_of_the_embedded_broker() -> None:
    bridges = tuple(f"ff-bridge-{number}" for number in range(1, 5))
    embedded = mosquitto_access_list(bridges, ("ff-engineer-1",))

    assert lines(ACCESS_LIST.read_text()) == lines(embedded)


def test_every_deployed_line_has_a_reason_above_it() -> None:
    paragraphs = SETTINGS.read_text().split("\n\n")

    assert all(paragraph.startswith("#") for paragraph in paragraphs)


@pytest.mark.broker
@pytest.mark.mosquitto
async def test_mosquitto_runs_with_the_deployed_settings(
    pki: Pki, tmp_path: Path
) -> None:
    server, vehicle = pki.issue("broker", server=True), pki.issue(VEHICLE_A)
    port, warden_port = free_port("127.0.0.1"), free_port("127.0.0.1")
    warden = tmp_path / "warden.crt", tmp_path / "warden.key"
    make_service_certificate(*warden, host=IPv4Address("127.0.0.1"), now=clock())
    text = SETTINGS.read_text()
    for here, there in (
        (f"{FOLDER}/tls.crt", str(server.certificate)),
        (f"{FOLDER}/tls.key", str(server.key)),
        (f"{FOLDER}/trust-anchors.pem", str(server.trust_anchors)),
        (f"{FOLDER}/mosquitto.acl", str(ACCESS_LIST)),
        ("listener 8883 0.0.0.0", f"listener {port} 127.0.0.1"),
        ("/run/mosquitto/mosquitto.pid", str(tmp_path / "mosquitto.pid")),
        ("listener 8884 ", f"listener {warden_port} "),
        (f"{FOLDER}/warden.crt", str(warden[0])),
        (f"{FOLDER}/warden.key", str(warden[1])),
        ("user mosquitto", "user root"),  # the test's files are the test's user's
    ):
        assert here in text
        text = text.replace(here, there)
    settings = tmp_path / "mosquitto.conf"
    settings.write_text(text)
    process = await asyncio.create_subprocess_exec(
        str(find_broker(BrokerKind.MOSQUITTO).path),
        "-c",
        str(settings),
        stderr=subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(10):
            await publish_once_up(port, vehicle)
    finally:
        process.terminate()
        await process.wait()


async def publish_once_up(port: int, identity: TlsIdentity) -> None:
    while True:
        link = MqttLink(
            LinkSettings("127.0.0.1", port, client_id=VEHICLE_A),
            client_context(identity, now=clock()),
        )
        try:
            async with link:
                await link.publish(up(VEHICLE_A), b"x")
        except LinkError:
            await asyncio.sleep(0.02)
        else:
            return
