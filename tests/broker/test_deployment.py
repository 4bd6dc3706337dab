"""deploy/mosquitto.conf is what the embedded broker runs, and mosquitto accepts it."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import pytest

from bridge.broker.mosquitto import (
    READY,
    mosquitto_access_list,
    mosquitto_settings,
)
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


SHOWN: Final = {
    "user": "test_deployment::test_mosquitto_runs_with_the_deployed_settings",
    "pid_file": "test_deployment::test_mosquitto_runs_with_the_deployed_settings",
    "log_dest": "test_deployment::test_mosquitto_runs_with_the_deployed_settings",
    "log_type": "test_deployment::test_mosquitto_runs_with_the_deployed_settings",
    "log_timestamp_format": "test_deployment::"
    "test_mosquitto_runs_with_the_deployed_settings",
    "listener": "test_admission::test_a_client_without_tls_gets_no_answer",
    "allow_anonymous": "test_admission::"
    "test_a_client_gets_no_connection_whose_certificate_is",
    "require_certificate": "test_admission::"
    "test_a_client_gets_no_connection_whose_certificate_is",
    "use_identity_as_username": "test_admission::"
    "test_a_name_that_no_ca_of_ours_gives_is_refused_or_powerless",
    "use_username_as_clientid": "test_admission::"
    "test_a_valid_car_cannot_take_anothers_client_id",
    "tls_version": "test_admission::test_an_old_tls_version_is_refused",
    "cafile": "test_admission::test_a_client_gets_no_connection_whose_certificate_is",
    "certfile": "test_admission::test_our_client_refuses_a_broker_of_another_name",
    "keyfile": "test_admission::test_our_client_refuses_a_broker_of_another_fleet",
    "acl_file": "test_confinement::"
    "test_no_subscription_delivers_more_than_a_principal_may_read",
    "max_packet_size": "test_link::"
    "test_a_message_that_exceeds_the_packet_limit_is_refused_unsent",
    "max_inflight_messages": "test_link::"
    "test_a_slow_consumer_loses_nothing_and_may_publish_meanwhile",
    "max_queued_messages": "test_link::"
    "test_a_slow_consumer_loses_nothing_and_may_publish_meanwhile",
    "max_queued_bytes": "test_full_broker::"
    "test_who_takes_nothing_fills_no_memory_and_cuts_nobody_off",
    "retain_available": "test_confinement::test_nothing_published_is_retained",
    "persistence": "test_link::"
    "test_what_was_not_acknowledged_does_not_come_again_in_a_clean_session",
}
"""Which test of this folder shows what a line does, on the lines that deploy/ has (the
embedded broker's are the same by the tests below)."""

ONLY_COST: Final = {"set_tcp_nodelay", "sys_interval"}
"""Lines that change what something costs and not what happens; measured once."""


def test_each_deployed_line_is_shown_by_a_test_that_there_is() -> None:
    """Issue 5, point 7: every line explained and tested."""
    keys = {line.split()[0] for line in lines(SETTINGS.read_text())}

    assert keys == set(SHOWN) | ONLY_COST
    for shown in SHOWN.values():
        module, name = shown.split("::")
        source = Path(__file__).with_name(f"{module}.py").read_text()
        assert f"def {name}(" in source, shown


def test_every_deployed_line_has_a_reason_above_it() -> None:
    paragraphs = SETTINGS.read_text().split("\n\n")

    assert all(paragraph.startswith("#") for paragraph in paragraphs)


def test_every_deployed_setting_of_hivemq_has_a_reason_above_it() -> None:
    """Issue 5, point 7. What the settings do, `make brokers` shows."""
    builder = ET.TreeBuilder(insert_comments=True)
    parser = ET.XMLParser(target=builder)  # noqa: S314 - a file of ours
    parser.feed((DEPLOY / "hivemq/config.xml").read_text())
    root = parser.close()
    explained = 0
    for group in (root, *root.iterfind("listeners"), *root.iterfind("mqtt")):
        for above, below in pairwise([None, *group]):
            if below.tag in {"listeners", "mqtt", ET.Comment}:
                continue
            assert above is not None, below.tag
            assert above.tag is ET.Comment, below.tag
            explained += 1

    assert explained > 6


def test_hivemqs_settings_ask_the_environment_for_what_the_manual_gives() -> None:
    """HiveMQ looks into comments, too, and by a name that is not set runs without all.

    It then said so in one line of its log and took connections by its own defaults.
    """
    named = re.findall(r"\$\{([^}]*)\}", (DEPLOY / "hivemq/config.xml").read_text())

    assert set(named) == {
        "FREEFLOAT_ADDRESS",
        "FREEFLOAT_PORT",
        "FREEFLOAT_KEYSTORE",
        "FREEFLOAT_TRUSTSTORE",
        "FREEFLOAT_KEYSTORE_PASSWORD",
    }


@dataclass(frozen=True, slots=True)
class Deployed:
    """A mosquitto that runs with the file of deploy/."""

    port: int
    warden_port: int
    process: asyncio.subprocess.Process
    pid_file: Path
    log: Path


@contextlib.asynccontextmanager
async def deployed(
    pki: Pki, directory: Path, *more: str, port: int = 0, last: str = ""
) -> AsyncIterator[Deployed]:
    """Run mosquitto with the very file of deploy/, but for paths, ports and the user.

    Args:
        pki: issues the broker's certificate.
        directory: for its files.
        more: further lines of the vehicles' listener.
        port: where vehicles connect; 0 for a free one.
        last: a line at the end of the file.
    """
    server = pki.issue("broker", server=True)
    warden = directory / "warden.crt", directory / "warden.key"
    make_service_certificate(*warden, host=IPv4Address("127.0.0.1"), now=clock())
    log = directory / "log"
    while True:
        at = port or free_port("127.0.0.1"), free_port("127.0.0.1")
        settings = _placed(server, directory, warden, at, more=more, last=last)
        process = await _started(settings, log)
        if "Address already in use" not in _said(log):
            break
        # Somebody took a port that was free a moment ago.
        await process.wait()
    try:
        yield Deployed(*at, process, directory / "mosquitto.pid", log)
    finally:
        with contextlib.suppress(ProcessLookupError):  # a test may have ended it
            process.terminate()
        await process.wait()


def _placed(
    server: TlsIdentity,
    directory: Path,
    warden: tuple[Path, Path],
    ports: tuple[int, int],
    *,
    more: tuple[str, ...],
    last: str,
) -> Path:
    """Write deploy/'s file for this place; return where it is."""
    text = SETTINGS.read_text()
    for here, there in (
        (f"{FOLDER}/tls.crt", str(server.certificate)),
        (f"{FOLDER}/tls.key", str(server.key)),
        (f"{FOLDER}/trust-anchors.pem", str(server.trust_anchors)),
        (f"{FOLDER}/mosquitto.acl", str(ACCESS_LIST)),
        (
            "listener 8883 0.0.0.0",
            "\n".join((f"listener {ports[0]} 127.0.0.1", *more)),
        ),
        ("/run/mosquitto/mosquitto.pid", str(directory / "mosquitto.pid")),
        ("listener 8884 ", f"listener {ports[1]} "),
        (f"{FOLDER}/warden.crt", str(warden[0])),
        (f"{FOLDER}/warden.key", str(warden[1])),
        ("user mosquitto", "user root"),  # the test's files are the test's user's
    ):
        assert here in text
        text = text.replace(here, there)
    settings = directory / "mosquitto.conf"
    settings.write_text(f"{text}{last}\n")
    return settings


def _said(log: Path) -> str:
    return log.read_text("utf-8", "replace")


async def _started(settings: Path, log: Path) -> asyncio.subprocess.Process:
    """Start mosquitto; return when it listens or has ended."""
    with log.open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            str(find_broker(BrokerKind.MOSQUITTO).path),
            "-c",
            str(settings),
            stderr=said,
        )
    for _ in range(1_500):
        if process.returncode is not None or READY in _said(log):
            return process
        await asyncio.sleep(0.02)
    raise TimeoutError


@pytest.mark.broker
@pytest.mark.mosquitto
async def test_mosquitto_runs_with_the_deployed_settings(
    pki: Pki, tmp_path: Path
) -> None:
    """K3, K4."""
    vehicle = pki.issue(VEHICLE_A)
    async with deployed(pki, tmp_path) as broker, asyncio.timeout(30):
        await publish_once_up(broker.port, vehicle)
        pid = int(broker.pid_file.read_text())
        refused = [
            await is_refused(each, vehicle, most=ssl.TLSVersion.TLSv1_2)
            for each in (broker.port, broker.warden_port)
        ]
        # The guard's door knows the guard's own certificate and no vehicle's.
        refused.append(await is_refused(broker.warden_port, vehicle))

    assert pid == broker.process.pid
    assert refused == [True, True, True]
    # Who came and went, with the instant: what the nightly audit reads.
    came = rf"^\d{{4}}-\d\d-\d\dT[\d:]{{8}}: New client connected .* as {VEHICLE_A}"
    assert re.search(came, broker.log.read_text(), flags=re.MULTILINE)


async def is_refused(
    port: int, identity: TlsIdentity, *, most: ssl.TLSVersion | None = None
) -> bool:
    """Whether the listener ends the connection before a byte of MQTT is answered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(identity.certificate, identity.key)
    if most is not None:
        context.maximum_version = most
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a")
        answer = await reader.read(4)
        writer.transport.abort()
    except OSError:
        return True
    return answer == b""


def link_of(port: int, name: str, identity: TlsIdentity) -> MqttLink:
    return MqttLink(
        LinkSettings("127.0.0.1", port, client_id=name, connect_timeout_s=2.0),
        client_context(identity, now=clock()),
    )


async def publish_once_up(
    port: int, identity: TlsIdentity, *, name: str = VEHICLE_A
) -> None:
    while True:
        try:
            async with link_of(port, name, identity) as link:
                await link.publish(up(name), b"x")
        except LinkError:
            await asyncio.sleep(0.02)
        else:
            return
