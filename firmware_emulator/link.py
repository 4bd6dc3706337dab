"""The way from a car to its broker, which can be cut: a TCP proxy on the loopback.

It passes bytes and understands none, so TLS goes from end to end and the broker's name
is checked as ever. `cut` aborts what is open and refuses what comes: both sides see a
reset, as when a mobile network drops a car. `stall` passes nothing on and tells nobody,
as a tunnel does. `deafen` and `mute` lose one direction. Its `weather` makes it late,
slow or wrong.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine
from typing import Any, Final, Self

from firmware_emulator.chance import seeded
from firmware_emulator.weather import FAIR, Weather

LOOPBACK: Final = "127.0.0.1"
"""Where it listens, and nowhere else."""

_CHUNK: Final = 65_536
_CONNECT_TIMEOUT_S: Final = 10.0
_ACCEPTING_TURNS: Final = 5
"""Turns of asyncio's loop from accept(2) to the callback: 3 in Python 3.11."""
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: closing sends a reset instead of what is unsent (socket(7))."""


class CuttableLink:
    """One car's way to one broker; an asynchronous context manager."""

    def __init__(self, host: str, port: int, *, seed: int = 1) -> None:
        """Lead to a broker.

        Args:
            host: name or address of the broker.
            port: its TCP port.
            seed: of what the weather does by chance.
        """
        self._target = (host, port)
        self._chance = seeded(seed, "weather")
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._to_cars: set[asyncio.StreamWriter] = set()
        self._to_brokers: set[asyncio.StreamWriter] = set()
        self._unheard: set[asyncio.StreamWriter] = set()
        """Writers of one direction whose bytes are lost."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        self._open.set()
        self.is_cut = False
        """Whether new connections are refused."""
        self.connections = 0
        """How many were let through since the beginning."""
        self.weather: Weather = FAIR
        """What happens to bytes from now on, on what is open and on what comes."""

    async def __aenter__(self) -> Self:
        """Listen on a free port.

        Raises:
            OSError: no port could be had.
        """
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close everything."""
        self.is_cut = True
        if self._server is not None:
            self._server.close()
        # A connection that was accepted an instant ago reaches `_accept` only after a
        # few turns of the loop; it must find the link cut and not stay open.
        for _ in range(_ACCEPTING_TURNS):
            await asyncio.sleep(0)
        self._abort()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Where the car connects to, on the loopback."""
        if self._server is None:
            raise RuntimeError("enter the link first")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def cut(self) -> None:
        """Reset what is open and refuse what comes."""
        self.is_cut = True
        self._open.set()
        self._abort()

    def stall(self) -> None:
        """Keep connections open and pass nothing on, in either direction."""
        self._open.clear()

    def deafen(self) -> None:
        """Lose all that the broker says on what is open; what the car says arrives."""
        self._unheard |= self._to_cars

    def mute(self) -> None:
        """Lose all that the car says on what is open; what the broker says arrives."""
        self._unheard |= self._to_brokers

    def restore(self) -> None:
        """Let everything through again; the car has to connect by itself."""
        self.is_cut = False
        self._open.set()

    async def _accept(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        # Our own end alone cancels it, and nobody awaits it: asyncio's streams in
        # Python 3.11 tell of a cancelled one as of an error that nobody handled.
        with contextlib.suppress(asyncio.CancelledError):
            await self._carry(reader, writer)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if self.is_cut:
            _reset(writer)
            return
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                onward = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        except asyncio.CancelledError:
            _reset(writer)
            raise
        self.connections += 1
        pair = {writer, onward[1]}
        self._streams |= pair
        self._to_cars.add(writer)
        self._to_brokers.add(onward[1])
        try:
            await _first_of(
                self._pass_on(reader, onward[1]), self._pass_on(onward[0], writer)
            )
        finally:
            self._streams -= pair
            self._to_cars.discard(writer)
            self._to_brokers.discard(onward[1])
            self._unheard -= pair
            for stream in pair:
                stream.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._open.wait()
                if writer in self._unheard:
                    continue
                weather = self.weather
                await asyncio.sleep(weather.delay_s(len(data), self._chance))
                arriving = weather.spoil(data, self._chance)
                if weather.breaks_after and passed + len(data) > weather.breaks_after:
                    writer.write(arriving[: max(0, weather.breaks_after - passed)])
                    await writer.drain()
                    self._abort()
                    return
                passed += len(data)
                writer.write(arriving)
                await writer.drain()

    def _abort(self) -> None:
        for stream in self._streams:
            _reset(stream)


async def _first_of(*ways: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    writer.transport.abort()
