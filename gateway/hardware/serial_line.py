"""A serial port in an event loop: pyserial sets it up, the loop moves the bytes.

pyserial's own `read` and `write` wait; a port that nobody empties would hold up the
whole car. Here neither ever waits: what the system does not take at once is kept, and
too much of it means that nobody listens.
"""

import asyncio
import errno
import os
from collections.abc import Callable
from typing import Final

import serial

from gateway.hardware.errors import DeviceUnavailableError

READ_SIZE: Final = 4_096
"""Bytes taken from the port at once."""

MAX_UNSENT: Final = 1_024
"""Bytes kept for a port that takes none: 90 ms at 115,200 baud, over a hundred
frames. A pseudo-terminal takes 15 KB before it refuses the first."""


class SerialLine:
    """An open port, used by one task.

    Args:
        path: the port's device file.
        baud: its speed, bit/s.
        received: takes every stretch of bytes that came in.
        closed: takes, once, the reason why the port is of no use any more. The port
            stays open until `close`.
    """

    def __init__(
        self,
        path: str,
        *,
        baud: int,
        received: Callable[[bytes], None],
        closed: Callable[[str], None],
    ) -> None:
        """Open the port for this process alone; must run in an event loop.

        Raises:
            DeviceUnavailableError: it cannot be opened.
        """
        self._serial = _open(path, baud)
        self._received = received
        self._closed = closed
        self._unsent = bytearray()
        self._is_done = False
        self._fd = self._serial.fileno()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def write(self, data: bytes) -> None:
        """Send bytes, now or when the port takes them; never waits."""
        if self._is_done or not data:
            return
        if len(self._unsent) + len(data) > MAX_UNSENT:
            self._end(f"{len(self._unsent)} bytes wait to be sent, nobody takes them")
            return
        was_idle = not self._unsent
        self._unsent += data
        if was_idle:
            self._flush()

    def close(self) -> None:
        """Give the port back; calling it again does nothing."""
        self._stop()
        self._serial.close()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._end((error.strerror or "read failed").lower())
            return
        if data:
            self._received(data)
        else:
            self._end("unplugged")

    def _flush(self) -> None:
        try:
            sent = os.write(self._fd, self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end((error.strerror or "write failed").lower())
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._fd, self._flush)
        else:
            self._loop.remove_writer(self._fd)

    def _end(self, reason: str) -> None:
        if not self._is_done:
            self._stop()
            self._closed(reason)

    def _stop(self) -> None:
        if not self._is_done:
            self._is_done = True
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)


def probe(path: str, *, baud: int) -> None:
    """Open a port and give it back.

    Raises:
        DeviceUnavailableError: it cannot be opened.
    """
    _open(path, baud).close()


def _open(path: str, baud: int) -> serial.Serial:
    try:
        return serial.Serial(
            path, baudrate=baud, timeout=0, write_timeout=0, exclusive=True
        )
    except (serial.SerialException, OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EAGAIN:
            reason = "in use by another program"  # its lock is on the port
        elif number is None:
            reason = str(error).lower()  # pyserial's own, such as a bad speed
        else:
            reason = os.strerror(number).lower()
        raise DeviceUnavailableError(
            path,
            reason,
            "check the path and the cable, that the user may open it (on Debian: the "
            "group dialout), and that no other program has it open",
        ) from error
