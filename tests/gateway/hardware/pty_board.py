"""A board at the other end of a pseudo-terminal, with faults a test can set.

A link in a directory of the test stands for the device file, so that a board that is
plugged in again, as another pseudo-terminal, has the same path.
"""

import asyncio
import os
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.protocol.board.firmware import Firmware

REPORT_S = 0.1
"""Shorter than the 500 ms of a real board, to keep the tests short."""


class PtyBoard:
    """A firmware behind a pseudo-terminal; used inside an event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.firmware = Firmware()
        self.is_mute = False
        """Whether the board hears and says nothing."""
        self._master = -1
        self._slave = -1
        self._timer: asyncio.TimerHandle | None = None

    def plug_in(self) -> None:
        """Make the device file appear and start the board."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._slave))
        asyncio.get_running_loop().add_reader(self._master, self._hear)
        self._report()

    def unplug(self) -> None:
        """Take the board and its device file away; nothing if it is away."""
        if self._timer is not None:
            self._timer.cancel()
        if self._master >= 0:
            asyncio.get_running_loop().remove_reader(self._master)
            os.close(self._master)
            os.close(self._slave)
            self._master = self._slave = -1
        self.path.unlink(missing_ok=True)

    def say(self, data: bytes) -> None:
        """Put bytes on the line, whatever they are."""
        with suppress(BlockingIOError):
            os.write(self._master, data)

    def _hear(self) -> None:
        data = os.read(self._master, 4096)
        if not self.is_mute:
            self.say(self.firmware.feed(data))

    def _report(self) -> None:
        if not self.is_mute:
            self.say(self.firmware.report())
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(REPORT_S, self._report)


@contextmanager
def pty_board(directory: Path) -> Iterator[PtyBoard]:
    """Plug a board in for the length of a block."""
    board = PtyBoard(directory / "ttyBOARD")
    board.plug_in()
    try:
        yield board
    finally:
        board.unplug()
