"""Every listener that we open or configure, and every client of ours, held against one
list of versions and suites (K3; RFC 9325, 3 and 4).

Listeners: mosquitto's for the fleet and the guard's, nats-server's for the fleet and
its own, the enrolment service. The API has none: it speaks HTTP to a proxy.
"""

import asyncio
import contextlib
import re
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator

import pytest

from bridge.api.tokens import TokenCheck
from bridge.errors import SettingsError, SinkError
from bridge.foreign_tls import foreign_client_context
from bridge.rows.outbox import OutboxRow
from bridge.settings import JetStreamSettings, KafkaSettings, OidcSettings
from bridge.sinks.jetstream import JetStreamSink
from bridge.sinks.kafka import KafkaSink
from bridge.sinks.webhook import WebhookSink
from certs.enrolment_server import enrolment_context
from protocol.identity import VehicleId
from tests.broker.client_hello import (
    DEFLATE,
    EVERY_OLD_SUITE,
    NO_COMPRESSION,
    SIGNALS,
    TLS_1_2_SUITES,
    TLS_1_3_OTHERS,
    TLS_1_3_SUITES,
    Chosen,
    Hello,
    Refused,
    Version,
    offer,
    read_hello,
)
from tests.broker.pki import Pki, clock
from tests.broker.raw_mqtt import PATIENCE_S
from tests.broker.room import VEHICLE_A, Room
from transport.tls import client_context, floored_client_context, server_context

pytestmark = pytest.mark.broker

LOOPBACK = "127.0.0.1"
HANDSHAKE_FAILURE = 40
ILLEGAL_PARAMETER = 47
PROTOCOL_VERSION = 70
EVERY_NEW_SUITE = sorted(TLS_1_3_SUITES | TLS_1_3_OTHERS)


def listeners(room: Room) -> dict[str, tuple[str, int]]:
    """Return every listener of a broker that we configured, by what it is for."""
    directory = room.broker.log.parent
    if room.is_mosquitto:
        text = (directory / "mosquitto.conf").read_text()
        ports = re.findall(r"^listener (\d+) ", text, flags=re.MULTILINE)
        names = ("fleet", "guard")
    else:
        text = (directory / "nats-server.conf").read_text()
        ports = re.findall(r'listen: "127\.0\.0\.1:(\d+)"', text)
        names = ("service", "fleet")
    return {
        name: (LOOPBACK, int(port)) for name, port in zip(names, ports, strict=True)
    }


def require_allowlist(address: tuple[str, int]) -> None:
    """Hold one listener against the list."""
    for version in Version:
        if version is not Version.TLS_1_3:
            # A version in which nobody can renegotiate, compress or do without forward
            # secrecy is the only one.
            answer = offer(address, version, EVERY_OLD_SUITE)
            assert answer in {Refused(PROTOCOL_VERSION), Refused(HANDSHAKE_FAILURE)}
    taken = {
        answer.suite
        for suite in EVERY_NEW_SUITE
        if isinstance(answer := offer(address, Version.TLS_1_3, [suite]), Chosen)
    }
    assert taken == TLS_1_3_SUITES
    squeezed = offer(
        address,
        Version.TLS_1_3,
        EVERY_NEW_SUITE,
        compressions=DEFLATE + NO_COMPRESSION,
    )
    assert squeezed == Refused(ILLEGAL_PARAMETER)


def asks_for_a_certificate(address: tuple[str, int]) -> bool:
    """Whether a client that shows none is sent away, which it learns when it reads."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(address, PATIENCE_S) as plain:
        try:
            with context.wrap_socket(plain) as secured:
                secured.sendall(b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a")
                return secured.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


@pytest.mark.asyncio(loop_scope="session")
async def test_a_broker_speaks_tls_1_3_with_sealed_suites_and_with_who_is_certified(
    room: Room,
) -> None:
    """K3, K4: each listener of both brokers."""
    found = listeners(room)
    assert found["fleet"][1] == room.broker.port

    for address in found.values():
        await asyncio.to_thread(require_allowlist, address)
        assert await asyncio.to_thread(asks_for_a_certificate, address)


@contextlib.contextmanager
def answering(context: ssl.SSLContext) -> Iterator[tuple[str, int]]:
    """Answer handshakes with a context while the block runs."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return
                with contextlib.suppress(OSError), plain:
                    context.wrap_socket(plain, server_side=True).close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_S)


def test_the_enrolment_service_and_servers_of_ours_keep_to_the_same_list(
    pki: Pki,
) -> None:
    """K3. A car that enrols has no certificate yet, so there none is demanded."""
    server = pki.issue("server", server=True)
    for context in (
        enrolment_context(server, now=clock()),
        server_context(server, now=clock()),
    ):
        with answering(context) as address:
            require_allowlist(address)


@pytest.mark.parametrize(
    ("version", "suite"), [(Version.TLS_1_2, 0xC02B), (Version.TLS_1_2, 0xC009)]
)
def test_the_probe_sees_what_a_server_allows_that_should_not(
    pki: Pki, version: Version, suite: int
) -> None:
    """K3: a refusal above is no accident of how we ask."""
    server = pki.issue("lax", server=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL")
    context.load_cert_chain(server.certificate, server.key)

    with answering(context) as address:
        assert offer(address, version, [suite]) == Chosen(version, suite, 0)
        with pytest.raises(AssertionError):
            require_allowlist(address)


def said_by(context: ssl.SSLContext) -> Hello:
    """Return what a context says first."""
    out = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return read_hello(out.read())


def test_clients_of_the_fleet_offer_tls_1_3_alone(pki: Pki) -> None:
    """K3: cars, bridges and guards."""
    identity = pki.issue(VEHICLE_A)
    for context in (
        client_context(identity, now=clock()),
        floored_client_context(identity, floor=clock),
        floored_client_context(identity, floor=clock, with_certificate=False),
    ):
        hello = said_by(context)
        assert hello.versions == (Version.TLS_1_3,)
        assert set(hello.suites) - SIGNALS == TLS_1_3_SUITES
        assert hello.compressions == NO_COMPRESSION


def require_modern(hello: Hello) -> None:
    assert hello.versions == (Version.TLS_1_3, Version.TLS_1_2)
    assert set(hello.suites) - SIGNALS == TLS_1_3_SUITES | TLS_1_2_SUITES
    assert hello.compressions == NO_COMPRESSION


def test_the_rule_for_servers_of_others_has_no_suite_that_is_not_sealed() -> None:
    """K3, RFC 9325: 1.2 is spoken with them, and nothing older."""
    require_modern(said_by(foreign_client_context()))


@contextlib.asynccontextmanager
async def eavesdropper() -> AsyncIterator[tuple[str, "asyncio.Future[bytes]"]]:
    """Listen while the block runs; give host and port, and what somebody says first."""
    said: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        record = await reader.readexactly(5)
        record += await reader.readexactly(int.from_bytes(record[3:]))
        writer.close()
        if not said.done():
            said.set_result(record)

    async with await asyncio.start_server(take, LOOPBACK, 0) as server:
        yield f"{LOOPBACK}:{server.sockets[0].getsockname()[1]}", said


async def test_a_webhook_is_offered_over_modern_tls_alone() -> None:
    """K3: the client's side of a webhook."""
    row = OutboxRow(1, "id", VehicleId(bytes(16)), "freefloat.test", b"{}", 0)
    async with eavesdropper() as (place, said):
        sink = WebhookSink(
            "w",
            f"https://{place}/",
            lambda: ("whsec_" + b64encode(bytes(24)).decode(),),
            timeout_s=PATIENCE_S,
            now=lambda: 0,
        )
        await sink.open()
        with pytest.raises(SinkError):
            await sink.deliver(row)
        await sink.close()

        require_modern(read_hello(await said))


async def test_a_provider_of_tokens_is_asked_over_modern_tls_alone() -> None:
    """K3."""
    async with eavesdropper() as (place, said):
        settings = OidcSettings(f"https://{place}", "us", {"reader": "viewer"})
        tokens = TokenCheck(settings, now=lambda: 0, clock_s=lambda: 0.0)
        await tokens.refresh()

        assert tokens.last_error
        require_modern(read_hello(await said))


def test_a_stream_s_server_is_reached_over_modern_tls_alone() -> None:
    """K3: NATS, which greets before TLS begins; so its context alone is asked."""
    settings = JetStreamSettings("s", "tls://127.0.0.1:1", "EVENTS")
    context = JetStreamSink(settings)._tls()

    assert context is not None
    require_modern(said_by(context))


async def test_kafka_is_reached_over_modern_tls_alone() -> None:
    """K3: librdkafka has its own OpenSSL, whose own list is longer."""
    async with eavesdropper() as (place, said):
        settings = KafkaSettings(name="k", servers=place, topic="e", timeout_s=1)
        sink = KafkaSink(settings, {"security.protocol": "ssl"})
        await sink.open()
        hello = read_hello(await asyncio.wait_for(said, PATIENCE_S))
        await sink.close()

    require_modern(hello)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ssl.cipher.suites", "ALL"),
        ("enable.ssl.certificate.verification", False),
        ("ssl.endpoint.identification.algorithm", "none"),
    ],
)
def test_no_options_file_makes_tls_with_kafka_weaker(
    name: str, value: str | bool
) -> None:
    """K3, K4: chain and name are verified, and nothing switches it off."""
    settings = KafkaSettings(name="k", servers="kafka:9093", topic="e")
    with pytest.raises(SettingsError, match=re.escape(name)):
        KafkaSink(settings, {name: value})
