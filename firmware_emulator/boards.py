"""The board port in memory: orders become serial frames, and reports come out of them.

Nothing is handed over as an object. Every order is encoded by the gateway's end of the
protocol, decoded and judged by the emulated firmware and answered in bytes, so that an
emulated fleet exercises the same code as a car with a cable.
"""

import asyncio
from typing import Final

from firmware_emulator.clock import EmulatedClock
from firmware_emulator.world import CarWorld
from gateway.core.board_report import event_of
from gateway.core.events import BoardLost
from gateway.ports import Report
from protocol.board.link import (
    BoardLink,
    LinkEvent,
    OrderRefused,
    OrderTaken,
    StateReceived,
    Synchronised,
)
from protocol.board.message import (
    AllowEngine,
    FlashHazards,
    Order,
    SetLight,
    SetLocks,
)
from protocol.codes import Light

REOPEN_MS: Final = 1_000
"""Between two openings of a line that fell silent, as on a real port."""


class EmulatedBoard:
    """Implements `gateway.ports.Board` on a `CarWorld`."""

    def __init__(self, world: CarWorld, clock: EmulatedClock) -> None:
        """Lay a cable to the world's board."""
        self._world = world
        self._clock = clock
        self._link: BoardLink | None = None
        self._incoming = bytearray()
        self._arrived = asyncio.Event()
        self._light: SetLight | None = None
        self._is_lost = False
        self._answered = asyncio.Event()
        self._starts: int | None = None
        self.cable_cut = False
        """Whether bytes get lost in both directions; may be set while it runs."""

    async def run(self, report: Report) -> None:
        """Report `BoardReported`, `BoardRefused` and `BoardLost` until cancelled."""
        self._is_lost = False
        self._incoming.clear()
        self._world.connect(self._from_board)
        try:
            while True:
                await self._converse(report)
                if not self._is_lost:
                    self._is_lost = True
                    report(BoardLost())
                await self._clock.sleep(REOPEN_MS)
        finally:
            self._world.disconnect()
            self._link = None

    async def drive_locks(self, *, locked: bool) -> None:
        """Ask the board to move the bolts; the read-back is an event of its own."""
        self._order(SetLocks(locked))

    async def allow_engine(self, *, released: bool) -> None:
        """Ask the board to release or hold the engine's start."""
        self._order(AllowEngine(released))

    async def show_light(self, light: Light, *, blinking: bool) -> None:
        """Set the indicator, now and whenever the board comes back."""
        self._light = SetLight(light, blinking)
        self._order(self._light)

    async def flash_hazards(self, seconds: int) -> None:
        """Let the hazard lights blink."""
        self._order(FlashHazards(seconds))

    @property
    def starts(self) -> int | None:
        """How often the board has started, as it last said; None before it did."""
        return self._starts

    async def probe(self) -> None:
        """Order the indicator that shines already, and wait for the board's answer."""
        self._answered.clear()
        self._order(self._light or SetLight(Light.OFF, blinking=False))
        await self._answered.wait()

    def _order(self, order: Order) -> None:
        """Send an order; without a board it is dropped, a late bolt is worse."""
        if self._link is not None:
            self._link.order(order, now_ms=self._clock.elapsed_ms)
            self._flush(self._link)

    async def _converse(self, report: Report) -> None:
        """Talk to the board until it is lost."""
        link = self._link = BoardLink(now_ms=self._clock.elapsed_ms)
        while True:
            now_ms = self._clock.elapsed_ms
            data = bytes(self._incoming)
            self._incoming.clear()
            self._arrived.clear()
            said = link.receive(data, now_ms=now_ms) if data else []
            if now_ms >= link.next_deadline_ms:
                said += link.advance(now_ms=now_ms)
            self._flush(link)
            for one in said:
                if not self._hear(one, report):
                    self._link = None
                    return
            await self._pause(link.next_deadline_ms - self._clock.elapsed_ms)

    def _hear(self, said: LinkEvent, report: Report) -> bool:
        """Pass on what the board said; return whether the link goes on."""
        if isinstance(said, Synchronised):
            self._is_lost = False
            if self._light is not None:
                self._order(self._light)
        elif isinstance(said, OrderTaken | OrderRefused):
            self._answered.set()
        if isinstance(said, StateReceived):
            self._starts = said.state.boot_count
        event = event_of(said)
        if isinstance(event, BoardLost):
            return False
        if event is not None:
            report(event)
        return True

    def _from_board(self, data: bytes) -> None:
        if not self.cable_cut:
            self._incoming += data
            self._arrived.set()

    def _flush(self, link: BoardLink) -> None:
        data = link.outgoing()
        if data and not self.cable_cut:
            self._world.receive(data)

    async def _pause(self, duration_ms: int) -> None:
        """Wait for bytes, at most so long."""
        sleep = asyncio.ensure_future(self._clock.sleep(max(duration_ms, 1)))
        arrival = asyncio.ensure_future(self._arrived.wait())
        try:
            await asyncio.wait({sleep, arrival}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            arrival.cancel()
