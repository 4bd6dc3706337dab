"""The conversation with the board, on a manual clock: I-1, I-4, rows 8 and 9."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import pytest

from protocol.board.framing import build_frame
from protocol.board.link import (
    ORDER_LIFE_MS,
    QUERY_MS,
    REPEAT_MS,
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
    Ack,
    AllowEngine,
    BoardFrame,
    FlashHazards,
    Heartbeat,
    Plug,
    QueryState,
    RefusalReason,
    Sensors,
    SetLight,
    SetLocks,
    Tyres,
)
from protocol.codes import Bits, Light
from protocol.errors import EncodeError
from tests.protocol.board.firmware import PARKED_AND_LOCKED, Firmware

UNLOCK = SetLocks(locked=False)
LOCK = SetLocks(locked=True)

Line = Callable[[bytes], Iterator[tuple[int, bytes]]]
"""Turns what is written at once into pieces and their delays in ms."""


def perfect(data: bytes) -> Iterator[tuple[int, bytes]]:
    yield 0, data


def one_byte_at_a_time(data: bytes) -> Iterator[tuple[int, bytes]]:
    for place in range(len(data)):
        yield place // 11, data[place : place + 1]


def delayed(data: bytes) -> Iterator[tuple[int, bytes]]:
    yield 150, data


def lossy(seed: int) -> Line:
    """Lose one write in five and damage a byte in one of five; the order stays."""
    dice = random.Random(seed)  # noqa: S311 - a seeded fault, not a secret

    def carry(data: bytes) -> Iterator[tuple[int, bytes]]:
        fate = dice.randrange(5)
        if fate == 0:
            return
        damaged = bytearray(data)
        if fate == 1:
            damaged[dice.randrange(len(damaged))] ^= 0x41
        yield 1, bytes(damaged)

    return carry


@dataclass
class Bench:
    """A link and a board, joined by two lines, on one manual clock."""

    line: Line = perfect
    board: Firmware = field(default_factory=Firmware)
    now_ms: int = 1_000
    events: list[LinkEvent] = field(default_factory=list)
    reports: bool = True
    """Whether the board reports by itself every 500 ms."""

    def __post_init__(self) -> None:
        self.link = BoardLink(now_ms=self.now_ms)
        self._in_flight: list[tuple[int, bool, bytes]] = []

    def order(self, order: SetLocks | AllowEngine | SetLight | FlashHazards) -> None:
        self.link.order(order, now_ms=self.now_ms)
        self._carry(self.link.outgoing(), to_board=True)

    def run(self, duration_ms: int) -> None:
        """Let time pass, one millisecond after the other."""
        for _ in range(duration_ms):
            self._deliver()
            if self.now_ms >= self.link.next_deadline_ms:
                self.events += self.link.advance(now_ms=self.now_ms)
            self._carry(self.link.outgoing(), to_board=True)
            if self.reports and self.now_ms % 500 == 0:
                self._carry(self.board.report(), to_board=False)
            self.now_ms += 1

    def said(self, kind: type[LinkEvent]) -> list[LinkEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    def _carry(self, data: bytes, *, to_board: bool) -> None:
        for delay_ms, piece in self.line(data) if data else ():
            self._in_flight.append((self.now_ms + delay_ms, to_board, piece))

    def _deliver(self) -> None:
        due = [one for one in self._in_flight if one[0] <= self.now_ms]
        self._in_flight = [one for one in self._in_flight if one[0] > self.now_ms]
        for _, to_board, piece in due:
            if to_board:
                self._carry(self.board.feed(piece), to_board=False)
            else:
                self.events += self.link.receive(piece, now_ms=self.now_ms)


@pytest.fixture
def bench() -> Bench:
    """Two ends that have found one another."""
    bench = Bench()
    bench.run(10)
    assert bench.said(Synchronised)
    bench.events.clear()
    bench.board.heard.clear()
    return bench


def orders_heard(board: Firmware) -> list[BoardFrame]:
    return [frame for frame in board.heard if frame.seq]


@pytest.mark.parametrize(
    "line",
    [perfect, one_byte_at_a_time, delayed, *(lossy(seed) for seed in range(8))],
    ids=["perfect", "one byte", "delayed", *(f"lossy {seed}" for seed in range(8))],
)
def test_an_unlock_is_taken_once_over_any_line(line: Line) -> None:
    # I-5 on the serial line: repeated until answered, acted on once.
    bench = Bench(line)
    bench.run(1_500)
    bench.order(UNLOCK)
    bench.run(2_500)

    assert bench.board.acted == [UNLOCK]
    assert bench.said(OrderTaken) == [OrderTaken(UNLOCK)]
    last = bench.said(StateReceived)[-1]
    assert isinstance(last, StateReceived)
    assert Bits.LOCKED not in last.state.bits


def test_the_board_is_asked_for_its_state_before_anything_is_ordered() -> None:
    # Row 8: a handshake after every opening.
    bench = Bench(reports=False)

    bench.order(UNLOCK)
    bench.run(1)

    assert [frame.message for frame in bench.board.heard] == []
    bench.run(10)
    assert [frame.message for frame in bench.board.heard] == [
        Heartbeat(),
        QueryState(),
        UNLOCK,
    ]


def test_numbering_goes_on_from_the_last_order_that_the_board_answered() -> None:
    # A restarted agent's first order must not look like a repetition.
    board = Firmware()
    board.state = replace(board.state, last_seq=41)
    bench = Bench(board=board)
    bench.run(10)

    bench.order(UNLOCK)
    bench.run(10)

    assert orders_heard(board) == [BoardFrame(42, UNLOCK)]
    assert board.acted == [UNLOCK]


def test_numbers_wrap_from_255_to_1() -> None:
    board = Firmware()
    board.state = replace(board.state, last_seq=255)
    bench = Bench(board=board)
    bench.run(10)

    bench.order(UNLOCK)
    bench.run(10)

    assert orders_heard(board) == [BoardFrame(1, UNLOCK)]


def test_a_lost_answer_is_asked_for_again_with_the_same_number(bench: Bench) -> None:
    bench.board.answers = lambda _frame: len(orders_heard(bench.board)) > 1

    bench.order(UNLOCK)
    bench.run(REPEAT_MS + 10)

    assert orders_heard(bench.board) == [BoardFrame(1, UNLOCK)] * 2
    assert bench.board.acted == [UNLOCK]
    assert bench.said(OrderTaken) == [OrderTaken(UNLOCK)]


def test_an_order_that_slept_with_the_machine_is_given_up_and_not_sent(
    bench: Bench,
) -> None:
    # I-6: the answer that the first one waits for lies in the machine's buffer, and is
    # read before any timer is looked at.
    bench.board.answers = lambda _frame: False
    bench.order(AllowEngine(released=True))
    bench.order(UNLOCK)
    bench.run(10)
    (first,) = orders_heard(bench.board)
    assert first.message == AllowEngine(released=True)

    bench.now_ms += 8 * 3_600_000
    answer = build_frame(BoardFrame(first.seq, Ack()))
    said = bench.link.receive(answer, now_ms=bench.now_ms)
    bench.run(ORDER_LIFE_MS)

    assert said == [OrderTaken(AllowEngine(released=True)), OrderLost(UNLOCK)]
    assert UNLOCK not in [frame.message for frame in bench.board.heard]


def test_an_order_that_nobody_answers_is_given_up_and_never_sent_late(
    bench: Bench,
) -> None:
    # domain-facts.md 7.2: no late execution.
    bench.board.answers = lambda _frame: False

    bench.order(UNLOCK)
    bench.run(ORDER_LIFE_MS + 10)
    sent = len(orders_heard(bench.board))
    bench.run(5_000)

    assert bench.said(OrderLost) == [OrderLost(UNLOCK)]
    assert sent == ORDER_LIFE_MS // REPEAT_MS
    assert len(orders_heard(bench.board)) == sent


def test_a_waiting_order_dies_too(bench: Bench) -> None:
    bench.board.answers = lambda _frame: False

    bench.order(UNLOCK)
    bench.order(FlashHazards(3))
    bench.run(ORDER_LIFE_MS + 10)

    assert bench.said(OrderLost) == [OrderLost(FlashHazards(3)), OrderLost(UNLOCK)]
    assert {frame.message for frame in orders_heard(bench.board)} == {UNLOCK}


def test_a_newer_order_of_the_same_kind_replaces_the_older(bench: Bench) -> None:
    # I-8: an older command never overtakes a newer one.
    bench.board.answers = lambda frame: frame.message != UNLOCK

    bench.order(UNLOCK)
    bench.order(AllowEngine(released=True))
    bench.order(AllowEngine(released=False))
    bench.order(LOCK)
    bench.run(1_000)

    assert bench.board.acted == [UNLOCK, AllowEngine(released=False), LOCK]
    assert bench.said(OrderTaken) == [
        OrderTaken(AllowEngine(released=False)),
        OrderTaken(LOCK),
    ]
    assert len(orders_heard(bench.board)) == 3


@pytest.mark.parametrize(
    ("bits", "speed_dkmh", "reason"),
    [
        (Bits.DOOR_OPEN, 0, RefusalReason.DOOR_OPEN),
        (Bits.ENGINE_RUNNING, 0, RefusalReason.ENGINE_RUNNING),
        (Bits(0), 1, RefusalReason.MOVING),
        (Bits(0), None, RefusalReason.MOVING),
    ],
)
def test_a_refusal_of_the_board_names_the_order_and_the_reason(
    bench: Bench, bits: Bits, speed_dkmh: int | None, reason: RefusalReason
) -> None:
    # I-1, I-2, row 9: judged by the board at the instant it would act.
    bench.board.state = replace(bench.board.state, bits=bits, speed_dkmh=speed_dkmh)

    bench.order(LOCK)
    bench.run(10)

    assert bench.said(OrderRefused) == [OrderRefused(LOCK, reason)]
    assert bench.board.acted == []


def test_answers_to_other_orders_and_echoes_of_our_own_bytes_are_nothing(
    bench: Bench,
) -> None:
    # I-4: a number that is not the order's changes nothing at the gateway.
    bench.board.answers = lambda _frame: False
    bench.order(UNLOCK)
    bench.run(5)
    bench.events.clear()

    noise = build_frame(BoardFrame(9, Ack())) + build_frame(BoardFrame(1, UNLOCK))
    heard = bench.link.receive(noise, now_ms=bench.now_ms)

    assert heard == []
    bench.run(REPEAT_MS)
    assert len(orders_heard(bench.board)) == 2


def test_an_answer_without_an_order_is_nothing(bench: Bench) -> None:
    stray = build_frame(BoardFrame(1, Ack()))

    assert bench.link.receive(stray, now_ms=bench.now_ms) == []


def test_a_quiet_board_is_asked_every_second(bench: Bench) -> None:
    bench.reports = False

    bench.run(3 * QUERY_MS)

    queries = [frame for frame in bench.board.heard if frame.message == QueryState()]
    assert len(queries) == 3
    assert bench.said(BoardSilent) == []


def test_the_agent_sends_a_heartbeat_every_second(bench: Bench) -> None:
    # I-3, row 6: the board notices a hung agent by its silence.
    bench.run(5_000)

    beats = [frame for frame in bench.board.heard if frame.message == Heartbeat()]
    assert len(beats) == 5


def test_a_silent_board_is_lost_once_and_its_orders_with_it(bench: Bench) -> None:
    # Row 8: never assume done.
    def dead(_data: bytes) -> Iterator[tuple[int, bytes]]:
        yield from ()

    bench.line = dead
    bench.run(SILENCE_MS - 500)
    bench.order(UNLOCK)
    bench.order(SetLight(Light.GREEN, blinking=False))
    bench.run(10_000)

    assert bench.events == [
        OrderLost(UNLOCK),
        OrderLost(SetLight(Light.GREEN, blinking=False)),
        BoardSilent(),
    ]


def test_a_board_that_never_speaks_is_lost_too() -> None:
    bench = Bench(line=lambda _data: iter(()))

    bench.order(UNLOCK)
    bench.run(SILENCE_MS + 10)

    assert bench.events == [OrderLost(UNLOCK), BoardSilent()]


def test_a_restart_of_the_board_begins_a_new_conversation(bench: Bench) -> None:
    bench.board.restart()
    bench.run(1_000)
    bench.order(UNLOCK)
    bench.run(10)

    assert bench.said(Synchronised) == [Synchronised()]
    assert bench.board.acted == [UNLOCK]


def test_an_order_that_does_not_fit_is_refused_and_replaces_nothing(
    bench: Bench,
) -> None:
    with pytest.raises(EncodeError):
        bench.order(FlashHazards(31))

    bench.run(100)
    assert orders_heard(bench.board) == []


def test_a_link_counts_what_came_over_the_line(bench: Bench) -> None:
    bench.link.receive(b"\x00\x11\x22\x00", now_ms=bench.now_ms)

    assert bench.link.counts.malformed == 1


def test_slow_sensors_count_with_the_next_state_and_not_for_ever() -> None:
    # C30: what a sensor said half a minute ago says nothing of now.
    sensed = Sensors(Plug.OUT, Tyres.SUMMER, 60, 80, 70, 9_000, 100, ())
    link = BoardLink(now_ms=0)

    alone = link.receive(build_frame(BoardFrame(0, sensed)), now_ms=10)
    fresh = link.receive(build_frame(BoardFrame(0, PARKED_AND_LOCKED)), now_ms=20)
    kept = link.receive(build_frame(BoardFrame(0, PARKED_AND_LOCKED)), now_ms=30_010)
    stale = link.receive(build_frame(BoardFrame(0, PARKED_AND_LOCKED)), now_ms=30_011)

    assert alone == []
    assert fresh[-1] == StateReceived(PARKED_AND_LOCKED, sensed)
    assert kept == [StateReceived(PARKED_AND_LOCKED, sensed)]
    assert stale == [StateReceived(PARKED_AND_LOCKED, None)]
