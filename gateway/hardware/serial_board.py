"""The board behind a serial port: `gateway.ports.Board` on pyserial.

What is said and when is decided by `protocol.board.link`; here are the port, the timer
and the way back after a loss. docs/board-protocol.md is the specification.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from gateway.boot_clock import boot_ms
from gateway.core.board_report import event_of
from gateway.core.events import BoardLost
from gateway.hardware.errors import DeviceUnavailableError
from gateway.hardware.serial_line import SerialLine
from gateway.ports import Report
from protocol.board.link import (
    SILENCE_MS,
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
    SetLight,
    SetLocks,
)
from protocol.codes import Light

BAUD: Final = 115_200
"""Speed of the line; 8 data bits, no parity, one stop bit, no flow control."""

REOPEN_S: Final = 1.0
"""Between two attempts to open a port that is gone."""

_LOG: Final = logging.getLogger(__name__)


class SerialBoard:
    """A board on a serial port; implements `gateway.ports.Board`.

    Orders given while the board is lost are dropped and never sent late: the car
    learns from the missing read-back. The indicator alone is remembered and set again.

    Args:
        path: the port's device file.
        baud: its speed, bit/s.
        clock: ms, on which orders age: one that goes on while the machine sleeps, so
            that no bolt moves by an order of before (I-6).
    """

    def __init__(
        self, path: str, *, baud: int = BAUD, clock: Callable[[], int] = boot_ms
    ) -> None:
        """Keep the settings; nothing is opened."""
        self._path = path
        self._baud = baud
        self._clock = clock
        self._light: SetLight | None = None
        self._conversation: _Conversation | None = None
        self._is_lost = False
        self._answered = asyncio.Event()
        self._starts: int | None = None

    async def run(self, report: Report) -> None:
        """Report the board's events until cancelled; opens the port again and again."""
        while True:
            why = await self._converse(report)
            if not self._is_lost:
                self._is_lost = True
                _LOG.warning("= board lost: %s", why)
                report(BoardLost())
            await asyncio.sleep(REOPEN_S)

    async def drive_locks(self, *, locked: bool) -> None:
        """Order the bolts to move; returns before they do."""
        self._order(SetLocks(locked))

    async def allow_engine(self, *, released: bool) -> None:
        """Order the engine's start to be released or held."""
        self._order(AllowEngine(released))

    async def show_light(self, light: Light, *, blinking: bool) -> None:
        """Order the indicator, now and whenever the board comes back."""
        self._light = SetLight(light, blinking)
        self._order(self._light)

    async def flash_hazards(self, seconds: int) -> None:
        """Order the hazard lights to blink.

        Raises:
            EncodeError: not 1 to 30 s; nothing was ordered.
        """
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
        if self._conversation is None:
            _LOG.warning("= board away, order dropped: %s", order)
        else:
            self._conversation.order(order)

    async def _converse(self, report: Report) -> str:
        """Talk to the board until it is lost; return why it is."""
        try:
            conversation = _Conversation(
                self._path,
                self._baud,
                lambda said: self._hear(said, report),
                self._clock,
            )
        except DeviceUnavailableError as error:
            return str(error)
        _LOG.info("= board port open: %s", self._path)
        self._conversation = conversation
        try:
            return await conversation.over
        finally:
            self._conversation = None
            conversation.close()

    def _hear(self, said: LinkEvent, report: Report) -> None:
        if isinstance(said, Synchronised):
            _LOG.info("= board answers")
            self._is_lost = False
            if self._light is not None:
                self._order(self._light)
        elif isinstance(said, OrderTaken):
            self._answered.set()
        elif isinstance(said, OrderRefused):
            self._answered.set()
            _LOG.warning("< board refused %s: %s", said.order, said.reason)
        elif isinstance(said, OrderLost):
            _LOG.warning("= board did not answer %s", said.order)
        if isinstance(said, StateReceived):
            self._starts = said.state.boot_count
        event = event_of(said)
        if event is not None and not isinstance(event, BoardLost):
            report(event)


class _Conversation:
    """One opening of the port: link, line and timer held together."""

    def __init__(
        self,
        path: str,
        baud: int,
        heard: Callable[[LinkEvent], None],
        clock: Callable[[], int],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._heard = heard
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._link = BoardLink(now_ms=self._clock())
        self.over: asyncio.Future[str] = self._loop.create_future()
        """Becomes the reason why the board is lost."""
        self._line = SerialLine(
            path, baud=baud, received=self._receive, closed=self._end
        )
        self._turn(self._link.advance(now_ms=self._clock()))

    def order(self, order: Order) -> None:
        self._link.order(order, now_ms=self._clock())
        self._turn([])

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._line.close()

    def _receive(self, data: bytes) -> None:
        self._turn(self._link.receive(data, now_ms=self._clock()))

    def _advance(self) -> None:
        self._turn(self._link.advance(now_ms=self._clock()))

    def _turn(self, events: list[LinkEvent]) -> None:
        """Pass on what was heard, send what is due, set the timer."""
        for said in events:
            self._heard(said)
            if isinstance(said, BoardSilent):
                self._end(f"silent for {SILENCE_MS / 1000:g} s")
        self._line.write(self._link.outgoing())
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.over.done():
            # At least a millisecond: a timer must not come before its deadline.
            wait_ms = max(1, self._link.next_deadline_ms - self._clock())
            self._timer = self._loop.call_later(wait_ms / 1000, self._advance)

    def _end(self, why: str) -> None:
        if not self.over.done():
            self.over.set_result(why)
