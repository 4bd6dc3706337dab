"""The gateway's end of the conversation with the board; no port, no clock.

Rule 1: nothing is ordered before the board has reported its state. The report carries
the number of the last order it answered, so that numbering goes on from there and no
fresh order looks like the repetition of an old one (reliability.md row 8: a handshake
after every loss).

Rule 2: one order is on its way at a time, repeated with the same number until it is
answered or its life is over. An order that waited too long is dropped and said to be
lost: a bolt that moves late is worse than one that does not (domain-facts.md 7.2).

Rule 3: a newer order replaces an older one of the same kind, which is given up.

Rule 4: slow sensors are told beside the state and count with the next one.

Rule 5: an answer says that the order was taken. Whether the bolt moved is read from
the next `State` only.

The shell calls `receive` with what came in, `advance` when `next_deadline_ms` is
reached and writes what `outgoing` returns after each call.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

from protocol.board.framing import BoardDecoder, LineCounts, build_frame
from protocol.board.message import (
    Ack,
    BoardFrame,
    Heartbeat,
    Message,
    Order,
    QueryState,
    RefusalReason,
    Refused,
    Sensors,
    State,
)

HEARTBEAT_MS: Final = 1_000
"""The agent says that it lives; the board notices a dead one after 5 s (I-3)."""

QUERY_MS: Final = 1_000
"""Ask when no state came for this long; a board reports every 500 ms by itself, and a
reading older than 2 s says nothing about standing still (I-2)."""

SILENCE_MS: Final = 3_000
"""Without a state for this long the board is lost."""

SENSORS_MS: Final = 30_000
"""What slow sensors said counts for this long; a board repeats it every 10 s."""

REPEAT_MS: Final = 200
"""Wait for an answer; a frame of 8 bytes takes 0.7 ms at 115,200 baud, a board answers
within 50 ms."""

ORDER_LIFE_MS: Final = 2_000
"""From being ordered to being given up: ten sendings, and less than anybody waits
before a closed door."""


@dataclass(frozen=True, slots=True)
class Synchronised:
    """A conversation begins: the port was opened, or the board has restarted."""


@dataclass(frozen=True, slots=True)
class StateReceived:
    """The board reported its state."""

    state: State
    """All of it."""
    sensors: Sensors | None = None
    """What the slow sensors said last; None if nothing, or too long ago."""


@dataclass(frozen=True, slots=True)
class OrderTaken:
    """The board carries an order out."""

    order: Order
    """Which."""


@dataclass(frozen=True, slots=True)
class OrderRefused:
    """The board does not carry an order out."""

    order: Order
    """Which."""
    reason: RefusalReason
    """Why."""


@dataclass(frozen=True, slots=True)
class OrderLost:
    """Nobody answered an order in its life; it may have been carried out."""

    order: Order
    """Which."""


@dataclass(frozen=True, slots=True)
class BoardSilent:
    """No state for `SILENCE_MS`: this link is over, open the port anew."""


LinkEvent = (
    Synchronised | StateReceived | OrderTaken | OrderRefused | OrderLost | BoardSilent
)


@dataclass(slots=True)
class _Waiting:
    order: Order
    dies_ms: int


@dataclass(slots=True)
class _Pending:
    order: Order
    dies_ms: int
    seq: int
    repeat_ms: int


class BoardLink:
    """One opening of a port.

    Args:
        now_ms: a clock that never goes back, here and in every call.
    """

    def __init__(self, *, now_ms: int) -> None:
        """Begin to listen; the first `advance` asks the board for its state."""
        self._decoder = BoardDecoder()
        self._waiting: deque[_Waiting] = deque()  # rule 3: at most one of each kind
        self._pending: _Pending | None = None
        self._outgoing = bytearray()
        self._seq = 0
        self._boot_count: int | None = None
        self._sensors: Sensors | None = None
        self._sensed_ms = now_ms
        self._silent_ms = now_ms + SILENCE_MS
        self._heartbeat_ms = now_ms
        self._query_ms = now_ms
        self._is_over = False

    @property
    def counts(self) -> LineCounts:
        """What came over the line since the port was opened."""
        return self._decoder.counts

    @property
    def next_deadline_ms(self) -> int:
        """When `advance` is due, whatever comes in before."""
        instants = [self._heartbeat_ms, self._query_ms, self._silent_ms]
        instants += [waiting.dies_ms for waiting in self._waiting]
        if self._pending is not None:
            instants += [self._pending.dies_ms, self._pending.repeat_ms]
        return min(instants)

    def outgoing(self) -> bytes:
        """Return, once, what is to be written."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def order(self, order: Order, *, now_ms: int) -> None:
        """Take an order; it is sent at once if none is on its way.

        Raises:
            EncodeError: a value does not fit its field; nothing was taken.
        """
        build_frame(BoardFrame(1, order))
        kind = type(order)
        for waiting in list(self._waiting):
            if type(waiting.order) is kind:
                self._waiting.remove(waiting)
        if self._pending is not None and type(self._pending.order) is kind:
            self._pending = None
        self._waiting.append(_Waiting(order, now_ms + ORDER_LIFE_MS))
        self._send_next(now_ms)

    def receive(self, data: bytes, *, now_ms: int) -> list[LinkEvent]:
        """Take what came in and return what it says, in order."""
        events: list[LinkEvent] = []
        for frame in self._decoder.feed(data):
            events += self._judge(frame, now_ms)
        events += self._give_up(now_ms)
        self._send_next(now_ms)
        return events

    def advance(self, *, now_ms: int) -> list[LinkEvent]:
        """Do what time demands: repeat, ask, give up, declare the board lost."""
        if self._is_over:
            return []
        events: list[LinkEvent] = []
        if now_ms >= self._silent_ms:
            return self._end()
        if now_ms >= self._heartbeat_ms:
            self._heartbeat_ms = now_ms + HEARTBEAT_MS
            self._send(Heartbeat())
        if now_ms >= self._query_ms:
            self._query_ms = now_ms + QUERY_MS
            self._send(QueryState())
        events += self._give_up(now_ms)
        pending = self._pending
        if pending is not None and now_ms >= pending.repeat_ms:
            pending.repeat_ms = now_ms + REPEAT_MS
            self._send(pending.order, pending.seq)
        self._send_next(now_ms)
        return events

    def _judge(self, frame: BoardFrame, now_ms: int) -> list[LinkEvent]:
        message = frame.message
        if isinstance(message, State):
            return self._take_state(message, now_ms)
        if isinstance(message, Sensors):
            self._sensors, self._sensed_ms = message, now_ms
            return []
        if not isinstance(message, Ack | Refused):
            return []  # an echo of our own bytes says nothing about the board
        pending = self._pending
        if pending is None or frame.seq != pending.seq:
            return []  # the second answer to a repetition, or to what was replaced
        self._pending = None
        if isinstance(message, Ack):
            return [OrderTaken(pending.order)]
        return [OrderRefused(pending.order, message.reason)]

    def _take_state(self, state: State, now_ms: int) -> list[LinkEvent]:
        events: list[LinkEvent] = []
        if self._boot_count is None:
            self._seq = state.last_seq
        if self._boot_count != state.boot_count:
            self._boot_count = state.boot_count
            events.append(Synchronised())
        self._silent_ms = now_ms + SILENCE_MS
        self._query_ms = now_ms + QUERY_MS
        if now_ms - self._sensed_ms > SENSORS_MS:
            self._sensors = None
        events.append(StateReceived(state, self._sensors))
        return events

    def _give_up(self, now_ms: int) -> list[LinkEvent]:
        """Drop what waited too long; asked before anything is sent.

        After a machine has slept, bytes may come before the timer that is due.
        """
        events: list[LinkEvent] = []
        while self._waiting and now_ms >= self._waiting[0].dies_ms:
            events.append(OrderLost(self._waiting.popleft().order))
        if self._pending is not None and now_ms >= self._pending.dies_ms:
            events.append(OrderLost(self._pending.order))
            self._pending = None
        return events

    def _send_next(self, now_ms: int) -> None:
        if self._boot_count is None or self._pending is not None or not self._waiting:
            return
        waiting = self._waiting.popleft()
        self._seq = self._seq % 0xFF + 1
        self._pending = _Pending(
            waiting.order, waiting.dies_ms, self._seq, now_ms + REPEAT_MS
        )
        self._send(waiting.order, self._seq)

    def _end(self) -> list[LinkEvent]:
        self._is_over = True
        orders = [waiting.order for waiting in self._waiting]
        if self._pending is not None:
            orders.insert(0, self._pending.order)
        self._pending = None
        self._waiting.clear()
        return [*(OrderLost(order) for order in orders), BoardSilent()]

    def _send(self, message: Message, seq: int = 0) -> None:
        self._outgoing += build_frame(BoardFrame(seq, message))
