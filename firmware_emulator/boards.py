"""The board port in memory: orders become serial frames, and reports come out of them.

Nothing is handed over as an object. Every order is encoded by the gateway's end of the
protocol, decoded and judged by the emulated firmware and answered in bytes, so that an
emulated fleet exercises the same code as a car with a cable.
"""

import asyncio
from collections import deque
from typing import Final

from firmware_emulator.clock import EmulatedClock
from firmware_emulator.world import CarWorld
from gateway.core.events import (
    BoardLost,
    BoardRefusal,
    BoardRefused,
    BoardReported,
)
from gateway.core.reading import Reading
from gateway.ports import Report
from protocol.board.link import (
    BoardLink,
    BoardSilent,
    LinkEvent,
    OrderLost,
    OrderRefused,
    OrderTaken,
    StateReceived,
    Synchronised,
)
from protocol.board.message import (
    AllowEngine,
    FlashHazards,
    Order,
    RefusalReason,
    SetLight,
    SetLocks,
    State,
)
from protocol.codes import Bits, Light

REOPEN_MS: Final = 500
"""Between two openings of a line that fell silent."""

UNSENT_LIMIT: Final = 64
"""Orders kept while the line is being opened; older ones are dropped."""


class EmulatedBoard:
    """Implements `gateway.ports.Board` on a `CarWorld`."""

    def __init__(self, world: CarWorld, clock: EmulatedClock) -> None:
        """Lay a cable to the world's board."""
        self._world = world
        self._clock = clock
        self._link: BoardLink | None = None
        self._incoming = asyncio.Queue[bytes]()
        self._unsent: deque[Order] = deque(maxlen=UNSENT_LIMIT)
        self.cable_cut = False
        """Whether bytes get lost in both directions; may be set while it runs."""

    async def run(self, report: Report) -> None:
        """Report `BoardReported`, `BoardRefused` and `BoardLost` until cancelled."""
        self._world.connect(self._from_board)
        try:
            while True:
                await self._converse(report)
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
        """Set the indicator."""
        self._order(SetLight(light, blinking))

    async def flash_hazards(self, seconds: int) -> None:
        """Let the hazard lights blink."""
        self._order(FlashHazards(seconds))

    def _order(self, order: Order) -> None:
        if self._link is None:
            self._unsent.append(order)
            return
        self._link.order(order, now_ms=self._clock.elapsed_ms)
        self._flush(self._link)

    async def _converse(self, report: Report) -> None:
        link = BoardLink(now_ms=self._clock.elapsed_ms)
        self._link = link
        while self._unsent:
            link.order(self._unsent.popleft(), now_ms=self._clock.elapsed_ms)
        while True:
            now_ms = self._clock.elapsed_ms
            data = self._drain()
            events = link.receive(data, now_ms=now_ms) if data else []
            if now_ms >= link.next_deadline_ms:
                events += link.advance(now_ms=now_ms)
            self._flush(link)
            for event in events:
                if isinstance(event, BoardSilent):
                    self._link = None
                    return
                _tell(event, report)
            if self._incoming.empty():
                await self._pause(link.next_deadline_ms - self._clock.elapsed_ms)

    def _from_board(self, data: bytes) -> None:
        if not self.cable_cut:
            self._incoming.put_nowait(data)

    def _flush(self, link: BoardLink) -> None:
        data = link.outgoing()
        if data and not self.cable_cut:
            self._world.receive(data)

    def _drain(self) -> bytes:
        data = bytearray()
        while not self._incoming.empty():
            data += self._incoming.get_nowait()
        return bytes(data)

    async def _pause(self, duration_ms: int) -> None:
        """Wait for bytes, at most so long."""
        sleep = asyncio.ensure_future(self._clock.sleep(max(duration_ms, 1)))
        bytes_in = asyncio.ensure_future(self._incoming.get())
        try:
            await asyncio.wait({sleep, bytes_in}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            if bytes_in.done() and not bytes_in.cancelled():
                self._incoming.put_nowait(bytes_in.result())
            bytes_in.cancel()


def _tell(event: LinkEvent, report: Report) -> None:
    match event:
        case StateReceived(state):
            report(BoardReported(reading_of(state)))
        case OrderRefused(SetLocks() | AllowEngine(), reason):
            report(BoardRefused(_REFUSALS[reason]))
        case Synchronised() | OrderTaken() | OrderRefused() | OrderLost():
            # An actuation that nobody reads back runs into the core's own deadline.
            pass
        case BoardSilent():
            pass


_REFUSALS: Final = {
    RefusalReason.DOOR_OPEN: BoardRefusal.DOOR_OPEN,
    RefusalReason.MOVING: BoardRefusal.MOVING,
    RefusalReason.ENGINE_RUNNING: BoardRefusal.ENGINE_RUNNING,
    RefusalReason.LOW_VOLTAGE: BoardRefusal.LOW_VOLTAGE,
    RefusalReason.FAULT: BoardRefusal.FAULT,
}


def reading_of(state: State) -> Reading:
    """Return the core's words for what a board reported."""
    bits = state.bits
    return Reading(
        locked=Bits.LOCKED in bits,
        door_open=Bits.DOOR_OPEN in bits,
        boot_open=Bits.BOOT_OPEN in bits,
        window_open=Bits.WINDOW_OPEN in bits,
        engine_running=Bits.ENGINE_RUNNING in bits,
        engine_released=Bits.ENGINE_RELEASED in bits,
        ignition_on=Bits.IGNITION_ON in bits,
        lights_on=Bits.LIGHTS_ON in bits,
        hazards_on=Bits.HAZARDS_ON in bits,
        key_present=Bits.KEY_PRESENT in bits,
        fuel_card_present=Bits.FUEL_CARD_PRESENT in bits,
        energy_kind=state.energy_kind,
        speed_dkmh=state.speed_dkmh,
        odometer_m=state.odometer_m,
        energy_pct=state.energy_pct,
        washer_pct=state.washer_pct,
        range_km=state.range_km,
        supply_mv=state.supply_mv,
    )
