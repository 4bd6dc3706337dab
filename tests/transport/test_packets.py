"""What stands on the wire of MQTT, byte by byte, read by a scripted peer."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.broker.pki import Pki, clock
from transport.link import LinkSettings, MqttLink, MqttVersion, Will
from transport.tls import client_context, server_context

pytestmark = pytest.mark.broker

NAME = "A" * 26
CONNECT, PUBLISH = 1, 3
CLEAN_START, WILL, WILL_QOS_1, WILL_RETAIN = 0x02, 0x04, 0x08, 0x20
CONNACK = {
    MqttVersion.V5: bytes.fromhex("2003000000"),
    MqttVersion.V311: bytes.fromhex("20020000"),
}


class Peer:
    """Takes a connection and says yes to everything."""

    def __init__(self, version: MqttVersion) -> None:
        self.version = version
        self.connect_flags = -1
        self.publishes: list[int] = []
        """The first byte of each PUBLISH."""

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                first = (await reader.readexactly(1))[0]
                body = await reader.readexactly(await _length(reader))
                if first >> 4 == CONNECT:
                    # Protocol name, level, flags (MQTT 3.1.2).
                    name = int.from_bytes(body[:2], "big")
                    self.connect_flags = body[2 + name + 1]
                    writer.write(CONNACK[self.version])
                elif first >> 4 == PUBLISH:
                    self.publishes.append(first)
                    topic = int.from_bytes(body[:2], "big")
                    packet_id = body[2 + topic : 4 + topic]
                    writer.write(b"\x40\x02" + packet_id)
                await writer.drain()
        writer.close()


async def _length(reader: asyncio.StreamReader) -> int:
    value = shift = 0
    while True:
        digit = (await reader.readexactly(1))[0]
        value |= (digit & 0x7F) << shift
        if digit < 0x80:
            return value
        shift += 7


@contextlib.asynccontextmanager
async def connected(
    directory: Path, peer: Peer, will: Will | None
) -> AsyncIterator[MqttLink]:
    pki = Pki(directory / "pki", now=clock())
    context = server_context(pki.issue("broker", server=True), now=clock())
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, ssl=context)
    settings = LinkSettings(
        "127.0.0.1",
        server.sockets[0].getsockname()[1],
        client_id=NAME,
        version=peer.version,
    )
    link = MqttLink(settings, client_context(pki.issue(NAME), now=clock()), will=will)
    try:
        async with link:
            yield link
    finally:
        server.close()


@pytest.mark.parametrize("version", CONNACK, ids=str)
async def test_a_connection_is_clean_and_its_will_is_not_retained(
    tmp_path: Path, version: MqttVersion
) -> None:
    """FF-ADR-12, FF-DTH-02."""
    peer = Peer(version)

    async with connected(tmp_path, peer, Will("ff/v1/x/up/death", b"farewell")):
        assert peer.connect_flags & CLEAN_START
        assert peer.connect_flags & WILL
        assert peer.connect_flags & WILL_QOS_1
        assert not peer.connect_flags & WILL_RETAIN


@pytest.mark.parametrize("version", CONNACK, ids=str)
async def test_what_is_published_waits_for_the_broker_and_is_not_retained(
    tmp_path: Path, version: MqttVersion
) -> None:
    """FF-ADR-10, FF-ADR-13: quality of service 1, no retain flag."""
    peer = Peer(version)

    async with connected(tmp_path, peer, None) as link:
        await link.publish("ff/v1/x/up/event", b"entry")
        await link.publish("ff/v1/x/up/hello", b"hello", expiry_s=10)

    assert [first & 0x0F for first in peer.publishes] == [0x02, 0x02]
