"""The way to the broker that can be cut: real TCP on the loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from firmware_emulator.link import LOOPBACK, CuttableLink

pytestmark = pytest.mark.device


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that says everything back; yields its port."""

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(1_000):
                writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"ping")
    async with asyncio.timeout(5):
        return await reader.readexactly(4)


async def test_bytes_pass_in_both_directions() -> None:
    async with echo() as port, CuttableLink(LOOPBACK, port) as link:
        reader, writer = await asyncio.open_connection(LOOPBACK, link.port)

        assert await talk(reader, writer) == b"ping"

        writer.close()


async def test_a_cut_resets_what_is_open_and_refuses_what_comes() -> None:
    async with echo() as port, CuttableLink(LOOPBACK, port) as link:
        reader, writer = await asyncio.open_connection(LOOPBACK, link.port)
        await talk(reader, writer)

        link.cut()

        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        writer.close()
        other, other_writer = await asyncio.open_connection(LOOPBACK, link.port)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await other.readexactly(1)
        other_writer.close()
        assert link.connections == 1


async def test_a_restored_link_lets_new_connections_through() -> None:
    async with echo() as port, CuttableLink(LOOPBACK, port) as link:
        link.cut()
        link.restore()

        reader, writer = await asyncio.open_connection(LOOPBACK, link.port)

        assert await talk(reader, writer) == b"ping"
        writer.close()


async def test_a_stalled_link_is_silence_and_then_delivers() -> None:
    async with echo() as port, CuttableLink(LOOPBACK, port) as link:
        reader, writer = await asyncio.open_connection(LOOPBACK, link.port)
        await talk(reader, writer)

        link.stall()
        writer.write(b"late")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await reader.readexactly(4)
        link.restore()

        async with asyncio.timeout(5):
            assert await reader.readexactly(4) == b"late"
        writer.close()


@pytest.mark.parametrize("loses", [CuttableLink.deafen, CuttableLink.mute])
async def test_a_half_open_link_loses_one_direction_until_it_is_made_anew(
    loses: Callable[[CuttableLink], None],
) -> None:
    heard = bytearray()
    ends: list[asyncio.StreamWriter] = []

    async def listen(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        ends.append(writer)
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1_000):
                heard.extend(data)
        writer.close()

    async def exchange() -> tuple[bytes, bytes]:
        """Return what arrives of one word in each direction."""
        heard.clear()
        writer.write(b"up")
        ends[-1].write(b"down")
        await asyncio.sleep(0.2)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                return bytes(heard), await reader.readexactly(4)
        return bytes(heard), b""

    one_way = (b"", b"down") if loses is CuttableLink.mute else (b"up", b"")
    server = await asyncio.start_server(listen, LOOPBACK, 0)
    port = server.sockets[0].getsockname()[1]
    async with server, CuttableLink(LOOPBACK, port) as link:
        reader, writer = await asyncio.open_connection(LOOPBACK, link.port)
        while not ends:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        assert await exchange() == (b"up", b"down")

        loses(link)
        assert await exchange() == one_way
        link.restore()
        assert await exchange() == one_way
        writer.close()

        reader, writer = await asyncio.open_connection(LOOPBACK, link.port)
        while len(ends) == 1:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        assert await exchange() == (b"up", b"down")
        writer.close()


async def test_a_broker_that_is_not_there_is_a_reset() -> None:
    async with echo() as port:
        pass
    async with CuttableLink(LOOPBACK, port) as link:
        reader, writer = await asyncio.open_connection(LOOPBACK, link.port)

        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)

        writer.close()
