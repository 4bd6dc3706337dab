"""The board's end of a serial cable: a pseudo-terminal with a firmware behind it.

A gateway that opens `SerialCable.path` cannot tell it from a port with a board, short
of asking for the baud rate. Composed by tools/ and tests, which put the real driver at
the other end; the driver itself is out of the emulator's reach.
"""

import asyncio
import os
import tty
from contextlib import suppress
from typing import Final, Self

from firmware_emulator.world import CarWorld

_CHUNK: Final = 4_096


class SerialCable:
    """A cable between a `CarWorld` and a device file; an asynchronous context manager.

    Args:
        world: whose board; nobody else may be connected to it.
    """

    def __init__(self, world: CarWorld) -> None:
        """Keep the world; nothing is opened."""
        self._world = world
        self._near = -1
        self._far = -1
        self.path = ""
        """The device file for the gateway, while the cable is plugged in."""

    async def __aenter__(self) -> Self:
        """Make the pseudo-terminal and plug the board in.

        Raises:
            OSError: the system has no pseudo-terminal left.
        """
        self._near, self._far = os.openpty()
        # Held open here too: a master whose last slave closes reads EIO from then on.
        tty.setraw(self._far)
        os.set_blocking(self._near, False)
        self.path = os.ttyname(self._far)
        asyncio.get_running_loop().add_reader(self._near, self._receive)
        self._world.connect(self._send)
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Pull the cable: the gateway's end reads a hang-up."""
        self.unplug()

    def unplug(self) -> None:
        """Pull the cable now; again has no effect."""
        if self._near < 0:
            return
        self._world.disconnect()
        asyncio.get_running_loop().remove_reader(self._near)
        os.close(self._near)
        os.close(self._far)
        self._near = self._far = -1
        self.path = ""

    def _receive(self) -> None:
        with suppress(BlockingIOError):
            self._world.receive(os.read(self._near, _CHUNK))

    def _send(self, data: bytes) -> None:
        # A full buffer means that nobody reads: a real line loses the bytes as well.
        with suppress(BlockingIOError):
            os.write(self._near, data)
