"""A car and its board, living in time.

The world lets physics and firmware catch up with the clock, carries bytes between the
board and whoever is at the other end of the line, and is the only place where a deed
may be done to the car: `hands` brings the world up to the instant of the deed and shows
it to the board right after.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from firmware_emulator.board_firmware import SENSE_MS, BoardFirmware
from firmware_emulator.car import Car
from firmware_emulator.clock import EmulatedClock
from firmware_emulator.witness import Witness

Line = Callable[[bytes], None]
"""Takes what the board says."""


class CarWorld:
    """One car with its board; `run` it as a task for as long as the car exists."""

    def __init__(self, car: Car, clock: EmulatedClock, witness: Witness) -> None:
        """Put a board into the car.

        Args:
            car: its physics.
            clock: gives the world's time, which no power cut stops.
            witness: told when something may look different.
        """
        self._clock = clock
        self._witness = witness
        self._seen_ms = clock.elapsed_ms
        self._line: Line | None = None
        self._stirred = asyncio.Event()
        self.car = car
        """For looking at; to change it use `hands`."""
        self.firmware = BoardFirmware(car, now_ms=self._seen_ms)
        """The board's program."""

    def connect(self, line: Line) -> None:
        """Plug the serial line in; only one end is at it."""
        self._line = line

    def disconnect(self) -> None:
        """Pull the serial line out; what the board says is lost."""
        self._line = None

    def receive(self, data: bytes) -> None:
        """Take bytes that arrived at the board."""
        self._catch_up()
        self._say(self.firmware.receive(data, now_ms=self._seen_ms))
        self._stirred.set()
        self._witness.notice()

    @contextlib.contextmanager
    def hands(self) -> Iterator[Car]:
        """Do deeds to the car, at this instant.

        Raises:
            DeedError: from the deed; the car is as the deeds before it left it.
        """
        self._catch_up()
        try:
            yield self.car
        finally:
            self._say(self.firmware.tick(now_ms=self._seen_ms))
            self._stirred.set()
            self._witness.notice()

    def restart_board(self) -> None:
        """Take the board's power away for an instant."""
        self._catch_up()
        self.firmware.restart(now_ms=self._seen_ms)
        self._stirred.set()
        self._witness.notice()

    async def run(self) -> None:
        """Let time pass until cancelled."""
        while True:
            self._catch_up()
            self._say(self.firmware.tick(now_ms=self._seen_ms))
            self._witness.notice()
            wait_ms = max(self.firmware.next_tick_ms - self._seen_ms, _SHORTEST_MS)
            self._stirred.clear()
            await self._pause(wait_ms)

    def _catch_up(self) -> None:
        now_ms = self._clock.elapsed_ms
        self.car.advance(now_ms - self._seen_ms)
        self._seen_ms = now_ms

    def _say(self, data: bytes) -> None:
        if data and self._line is not None:
            self._line(data)

    async def _pause(self, duration_ms: int) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(duration_ms))
        stir = asyncio.ensure_future(self._stirred.wait())
        try:
            await asyncio.wait({sleep, stir}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            stir.cancel()


_SHORTEST_MS: Final = SENSE_MS // 5
"""However often the world is stirred, time passes in steps of at least this."""
