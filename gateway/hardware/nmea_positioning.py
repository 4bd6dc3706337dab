"""The positioning receiver behind a serial port: `gateway.ports.Positioning`.

A receiver that is gone is no fault of the car: it has no fix, and says so by None.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.boot_clock import boot_ms
from gateway.core.reading import Position
from gateway.hardware.errors import DeviceUnavailableError
from gateway.hardware.nmea import NmeaDecoder
from gateway.hardware.serial_line import SerialLine

BAUD: Final = 9_600
"""What NMEA 0183 receivers start with."""

REOPEN_S: Final = 5.0
"""Between two attempts to open a port that is gone; nothing waits for a fix."""

_LOG: Final = logging.getLogger(__name__)


class NmeaPositioning:
    """A receiver on a serial port; implements `gateway.ports.Positioning`.

    Args:
        path: the port's device file.
        baud: its speed, bit/s.
        clock: ms, on which fixes and told times age: one that goes on while the machine
            sleeps, or the car would wake in the evening before (I-29).
    """

    def __init__(
        self, path: str, *, baud: int = BAUD, clock: Callable[[], int] = boot_ms
    ) -> None:
        """Keep the settings; nothing is opened."""
        self._path = path
        self._baud = baud
        self._decoder = NmeaDecoder()
        self._clock = clock

    def fix(self) -> Position | None:
        """Return the newest fix, None before `run` and without a fresh one."""
        return self._decoder.fix(now_ms=self._clock())

    def utc_ms(self) -> int | None:
        """Return UTC of now, None before `run` and without a fresh fix."""
        return self._decoder.utc_ms(now_ms=self._clock())

    async def run(self) -> None:
        """Listen until cancelled; opens the port again and again."""
        loop = asyncio.get_running_loop()
        is_lost = False
        while True:
            over: asyncio.Future[str] = loop.create_future()
            try:
                line = SerialLine(
                    self._path,
                    baud=self._baud,
                    received=self._receive,
                    closed=over.set_result,
                )
            except DeviceUnavailableError as error:
                why = str(error)
            else:
                is_lost = False
                try:
                    why = await over
                finally:
                    line.close()
            if not is_lost:
                is_lost = True
                _LOG.warning("= positioning receiver lost: %s", why)
            await asyncio.sleep(REOPEN_S)

    def _receive(self, data: bytes) -> None:
        self._decoder.feed(data, now_ms=self._clock())


class NoPositioning:
    """A car without a receiver; implements `gateway.ports.Positioning`."""

    def fix(self) -> Position | None:
        """Return None."""
        return None

    def utc_ms(self) -> int | None:
        """Return None."""
        return None
