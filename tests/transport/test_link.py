"""What a link says when there is no broker to speak to."""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from tests.broker.pki import Pki, clock
from tests.transport.test_race import dead_addresses
from transport.addresses import AddressMemory
from transport.errors import LinkError, LinkFailure, OutcomeUnknownError
from transport.link import (
    LinkSettings,
    LinkSettingsError,
    MqttLink,
    MqttVersion,
    VersionMemory,
)
from transport.receiver import Receiver
from transport.tls import TlsIdentity, client_context, server_context

NAME = "A" * 26


class Ends:
    """Both ends' identities of one fleet."""

    def __init__(self, directory: Path, *, now: datetime) -> None:
        pki = Pki(directory, now=now)
        self.client: TlsIdentity = pki.issue(NAME)
        self.server: TlsIdentity = pki.issue("broker", server=True)

    def link(
        self,
        port: int,
        *,
        host: str = "127.0.0.1",
        other_hosts: tuple[str, ...] = (),
        connect_timeout_s: float = 3,
        addresses: AddressMemory | None = None,
    ) -> MqttLink:
        return MqttLink(
            LinkSettings(
                host,
                port,
                client_id=NAME,
                other_hosts=other_hosts,
                connect_timeout_s=connect_timeout_s,
                version=MqttVersion.V5,
            ),
            client_context(self.client, now=clock()),
            addresses=addresses,
        )


@pytest.fixture
def ends(tmp_path: Path) -> Ends:
    return Ends(tmp_path / "pki", now=clock())


async def refusal(link: MqttLink) -> LinkError:
    with pytest.raises(LinkError) as caught:
        async with link:
            pass
    assert caught.value.retryable
    assert not caught.value.may_have_taken_effect
    return caught.value


Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def listening(peer: Peer, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """Serve a scripted peer on loopback."""
    served: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(writer)
        with contextlib.suppress(ConnectionError):
            await peer(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for writer in served:
            writer.transport.abort()
        server.close()
        await server.wait_closed()


async def silence(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


@pytest.mark.broker
async def test_a_port_where_nothing_listens_is_said(ends: Ends) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    error = await refusal(ends.link(port))

    assert error.failure is LinkFailure.DOWN
    assert f"nothing listens at 127.0.0.1:{port}" in str(error)


@pytest.mark.broker
async def test_a_name_without_an_address_is_said(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The resolver is replaced: a real one would ask the network.
    def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    error = await refusal(ends.link(8883, host="broker.invalid"))

    assert error.failure is LinkFailure.NAME
    assert "'broker.invalid' has no address" in str(error)


@pytest.mark.broker
async def test_a_peer_without_tls_is_said(ends: Ends) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()

    async with listening(plain, None) as port:
        error = await refusal(ends.link(port))

    assert error.failure is LinkFailure.TLS
    assert "does not speak TLS on this port" in str(error)


@pytest.mark.broker
@pytest.mark.parametrize("is_tls", [True, False])
async def test_a_peer_that_says_nothing_is_given_up_in_time(
    ends: Ends, is_tls: bool
) -> None:
    context = server_context(ends.server, now=clock()) if is_tls else None
    async with listening(silence, context) as port:
        started = asyncio.get_running_loop().time()
        error = await refusal(ends.link(port, connect_timeout_s=0.4))

        assert asyncio.get_running_loop().time() - started < 2
    assert error.failure in {LinkFailure.TIMEOUT, LinkFailure.UNREACHABLE}


@pytest.mark.broker
async def test_a_peer_that_closes_instead_of_answering_is_given_up_at_once(
    ends: Ends,
) -> None:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        writer.close()

    async with listening(close, server_context(ends.server, now=clock())) as port:
        async with asyncio.timeout(2.5):
            error = await refusal(ends.link(port, connect_timeout_s=3))

    assert error.failure is LinkFailure.REFUSED
    assert "instead of answering CONNECT" in str(error)


@pytest.mark.broker
async def test_bytes_that_are_no_mqtt_end_the_attempt(ends: Ends) -> None:
    async def rubbish(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(64)
        writer.write(b"\xff" * 64)
        await writer.drain()
        await asyncio.Event().wait()

    async with listening(rubbish, server_context(ends.server, now=clock())) as port:
        async with asyncio.timeout(2.5):
            await refusal(ends.link(port, connect_timeout_s=3))


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer CONNECT and say no more."""
    await reader.read(1024)
    writer.write(b"\x20\x03\x00\x00\x00")  # CONNACK (MQTT 5, 3.2)
    await writer.drain()
    await asyncio.Event().wait()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Which ports of 127.0.0.1 are found for a name: for tests, other addresses."""
    found: dict[str, list[int]] = {}
    system = socket.getaddrinfo

    def resolve(host: str, *asked: Any, **named: Any) -> Any:
        if host not in found:
            return system(host, *asked, **named)
        return [
            one
            for port in found[host]
            for one in system("127.0.0.1", port, *asked[1:], **named)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return found


@pytest.mark.broker
async def test_dead_addresses_keep_a_car_from_the_good_one_for_seconds_only(
    ends: Ends, names: dict[str, list[int]]
) -> None:
    # Row 18, RFC 8305: of a name with two families one may be dead altogether.
    clock_s = asyncio.get_running_loop().time
    context = server_context(ends.server, now=clock())
    with dead_addresses(2) as dead:
        async with listening(greet, context) as port:
            names["localhost"] = [*(address[1] for address in dead), port]
            begun_s = clock_s()
            async with ends.link(1, host="localhost", connect_timeout_s=10) as link:
                took_s = clock_s() - begun_s
                assert link.is_connected

    assert took_s < 8, "before it was ten for each dead one"


@pytest.mark.broker
async def test_an_attempt_ends_in_time_however_many_addresses_say_nothing(
    ends: Ends, names: dict[str, list[int]]
) -> None:
    """Row 18: they take connections, as a balancer does whose brokers are gone."""
    clock_s = asyncio.get_running_loop().time
    async with contextlib.AsyncExitStack() as stack:
        ports = [
            await stack.enter_async_context(listening(silence, None)) for _ in range(16)
        ]
        names["localhost"], names["spare.invalid"] = ports[:8], ports[8:]
        link = ends.link(
            1,
            host="localhost",
            other_hosts=("spare.invalid",),
            connect_timeout_s=0.5,
        )
        begun_s = clock_s()
        error = await refusal(link)
        took_s = clock_s() - begun_s

    assert error.failure is LinkFailure.TIMEOUT
    # Each host had its turn.
    assert "localhost:1" in str(error)
    assert "spare.invalid:1" in str(error)
    assert took_s < 5, "it is 1.5 s and what a busy machine adds; before it was 8 s"


@pytest.mark.broker
async def test_where_one_attempt_ended_the_next_one_begins(
    ends: Ends, names: dict[str, list[int]]
) -> None:
    memory, attempts = AddressMemory(), 0
    context = server_context(ends.server, now=clock())
    async with contextlib.AsyncExitStack() as stack:
        ports = [
            await stack.enter_async_context(listening(silence, None)) for _ in range(7)
        ]
        ports.append(await stack.enter_async_context(listening(greet, context)))
        names["localhost"] = ports
        while True:
            attempts += 1
            assert attempts < 20, "the last address never has its turn"
            link = ends.link(
                1, host="localhost", connect_timeout_s=0.5, addresses=memory
            )
            with contextlib.suppress(LinkError):
                async with link:
                    break

    assert attempts > 1, "the first attempt tried them all: that is not this test"


@contextlib.asynccontextmanager
async def greeted(ends: Ends) -> AsyncIterator[tuple[MqttLink, Callable[[], None]]]:
    """Connect to a peer that says CONNACK and no more; yield what hangs it up, too."""
    done = threading.Event()

    def greet(listener: socket.socket, context: ssl.SSLContext) -> None:
        plain, _ = listener.accept()
        with context.wrap_socket(plain, server_side=True) as peer:
            peer.recv(1024)
            peer.sendall(b"\x20\x03\x00\x00\x00")  # CONNACK (MQTT 5, 3.2)
            done.wait(10)

    def hang_up() -> None:
        done.set()
        peer.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        context = server_context(ends.server, now=clock())
        peer = threading.Thread(target=greet, args=(listener, context))
        peer.start()
        try:
            async with ends.link(listener.getsockname()[1]) as link:
                yield link, hang_up
        finally:
            hang_up()


@pytest.mark.broker
@pytest.mark.parametrize("what", ["writing", "reading"])
async def test_whatever_is_raised_in_reading_or_writing_ends_the_link_and_is_told(
    ends: Ends, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Left to the event loop it would be logged and raised again, without end."""

    def fail(_self: object) -> None:
        raise LookupError("of a library")

    part = {"writing": (paho.Client, "loop_write"), "reading": (Receiver, "read")}
    async with greeted(ends) as (link, hang_up):
        monkeypatch.setattr(*part[what], fail)
        if what == "writing":
            with pytest.raises(OutcomeUnknownError):
                await link.publish("t", b"1", timeout_s=3)
        else:
            hang_up()
        async with asyncio.timeout(3):
            why = await link.wait_lost()
        assert not link.is_connected

    assert why.failure is LinkFailure.LOST
    assert f"failed while {what} (LookupError: of a library)" in str(why)


@pytest.mark.broker
async def test_a_publish_into_a_connection_that_just_ended_watches_no_socket(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))
    watched: list[int] = []
    add_writer = loop.add_writer

    def watch(descriptor: int, write: Callable[[], None]) -> None:
        watched.append(descriptor)
        add_writer(descriptor, write)

    monkeypatch.setattr(loop, "add_writer", watch)
    async with greeted(ends) as (link, hang_up):
        watched.clear()
        # One turn of the loop: first the publish, then the reading of the end.
        publishing = loop.create_task(link.publish("t", b"1", timeout_s=3))
        hang_up()
        with pytest.raises(OutcomeUnknownError):
            await publishing

    assert not watched
    assert not complaints


@pytest.mark.broker
async def test_cancelling_a_connect_leaves_no_connection_open(ends: Ends) -> None:
    closed = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        try:
            while await reader.read(64):
                pass
        finally:
            closed.set()

    async with listening(peer, server_context(ends.server, now=clock())) as port:
        connecting = asyncio.ensure_future(ends.link(port).__aenter__())
        await asyncio.sleep(0.2)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting

        async with asyncio.timeout(3):
            await closed.wait()


async def test_a_link_that_was_not_entered_says_so(ends: Ends) -> None:
    link = ends.link(8883)

    with pytest.raises(LinkError, match="connect first"):
        await link.publish("t", b"")
    with pytest.raises(LinkError, match="connect first"):
        _ = link.version
    assert not link.is_connected


def test_auto_tries_5_first_and_then_what_worked() -> None:
    settings = LinkSettings("broker", 8883, client_id=NAME)
    memory = VersionMemory()

    assert memory.order(settings) == (MqttVersion.V5, MqttVersion.V311)
    memory.note(settings, MqttVersion.V311)
    assert memory.order(settings) == (MqttVersion.V311, MqttVersion.V5)


@pytest.mark.parametrize("version", [MqttVersion.V5, MqttVersion.V311])
def test_a_version_that_was_asked_for_is_the_only_one(version: MqttVersion) -> None:
    settings = LinkSettings("broker", 8883, client_id=NAME, version=version)
    memory = VersionMemory()
    memory.note(settings, MqttVersion.V5)

    assert memory.order(settings) == (version,)


@pytest.mark.parametrize("port", [0, -1, 65_536])
def test_a_port_out_of_range_is_refused_with_both_values(port: int) -> None:
    with pytest.raises(LinkSettingsError, match=f"port {port} is not within 1 and"):
        LinkSettings("broker", port, client_id=NAME)


def test_other_values_out_of_range_are_refused() -> None:
    with pytest.raises(LinkSettingsError, match="host is empty"):
        LinkSettings("", 1, client_id=NAME)
    with pytest.raises(LinkSettingsError, match="client_id is empty"):
        LinkSettings("h", 1, client_id="")
    with pytest.raises(LinkSettingsError, match="keepalive_s 0"):
        LinkSettings("h", 1, client_id=NAME, keepalive_s=0)
    with pytest.raises(LinkSettingsError, match="publish_timeout_s -1"):
        LinkSettings("h", 1, client_id=NAME, publish_timeout_s=-1)
    with pytest.raises(LinkSettingsError, match="receive_maximum 70000"):
        LinkSettings("h", 1, client_id=NAME, receive_maximum=70_000)
