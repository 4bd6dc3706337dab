"""A small board of the tests' own: the obligations of docs/board-protocol.md, pure.

It is not the emulator: it has switches instead of physics, and faults that a test sets.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from protocol.board.framing import BoardDecoder, build_frame
from protocol.board.message import (
    Ack,
    AllowEngine,
    BoardFrame,
    FlashHazards,
    Message,
    Order,
    QueryState,
    RefusalReason,
    Refused,
    SetLight,
    SetLocks,
    State,
)
from protocol.codes import Bits, EnergyKind

PARKED_AND_LOCKED: Final = State(
    firmware=bytes([1, 4, 2, 0]),
    boot_count=1,
    uptime_s=60,
    last_seq=0,
    energy_kind=EnergyKind.FUEL,
    bits=Bits.LOCKED | Bits.KEY_PRESENT | Bits.FUEL_CARD_PRESENT,
    speed_dkmh=0,
    odometer_m=48_211_300,
    energy_pct=62,
    washer_pct=90,
    range_km=410,
    supply_mv=12_480,
)


@dataclass
class Firmware:
    """Bytes in, bytes out."""

    state: State = PARKED_AND_LOCKED
    """What it reports; tests change it as the world would."""
    acted: list[Order] = field(default_factory=list)
    """Orders carried out, in order."""
    heard: list[BoardFrame] = field(default_factory=list)
    """Every frame that arrived, repetitions included."""
    answers: Callable[[BoardFrame], bool] = lambda _frame: True
    """Whether the answer to a frame gets out; a test loses some."""
    _decoder: BoardDecoder = field(default_factory=BoardDecoder)
    _last_answer: Message = field(default_factory=Ack)

    def feed(self, data: bytes) -> bytes:
        """Take bytes from the line and return what the board says to them."""
        said = b""
        for frame in self._decoder.feed(data):
            self.heard.append(frame)
            said += self._answer(frame)
        return said

    def report(self) -> bytes:
        """Return a state, as the board sends it every 500 ms and on every change."""
        return build_frame(BoardFrame(0, self.state))

    def restart(self) -> None:
        """Lose everything but the physics and the count of starts."""
        self._decoder = BoardDecoder()
        self.state = replace(
            self.state, boot_count=self.state.boot_count + 1, uptime_s=0, last_seq=0
        )

    def _answer(self, frame: BoardFrame) -> bytes:
        message = frame.message
        if isinstance(message, QueryState):
            return self.report()
        if not isinstance(message, SetLocks | AllowEngine | SetLight | FlashHazards):
            return b""
        if frame.seq != self.state.last_seq:
            self._last_answer = self._carry_out(message)
            self.state = replace(self.state, last_seq=frame.seq)
        if not self.answers(frame):
            return b""
        return build_frame(BoardFrame(frame.seq, self._last_answer)) + self.report()

    def _carry_out(self, order: Order) -> Message:
        reason = self._objection(order)
        if reason is not None:
            return Refused(reason)
        self.acted.append(order)
        if isinstance(order, SetLocks):
            self._set(Bits.LOCKED, on=order.locked)
        elif isinstance(order, AllowEngine):
            self._set(Bits.ENGINE_RELEASED, on=order.released)
        return Ack()

    def _objection(self, order: Order) -> RefusalReason | None:
        bits, speed = self.state.bits, self.state.speed_dkmh
        secures = order in (SetLocks(locked=True), AllowEngine(released=False))
        if secures and Bits.ENGINE_RUNNING in bits:
            return RefusalReason.ENGINE_RUNNING
        if secures and speed != 0:
            return RefusalReason.MOVING
        if order == SetLocks(locked=True) and Bits.DOOR_OPEN in bits:
            return RefusalReason.DOOR_OPEN
        return None

    def _set(self, bit: Bits, *, on: bool) -> None:
        bits = self.state.bits | bit if on else self.state.bits & ~bit
        self.state = replace(self.state, bits=bits)
