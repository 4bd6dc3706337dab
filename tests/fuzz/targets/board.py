"""The serial line between gateway and board, seen from both of its ends (I-4).

Input: pieces. The first byte of a piece says how it goes on: 0 to 127 bytes of noise as
they are, or, from 128 on, the content of a frame that is stuffed and checksummed here.
Both ends get every byte; time passes with each piece.
"""

from collections.abc import Iterator
from random import Random
from typing import Final

from firmware_emulator.board_firmware import BoardFirmware
from firmware_emulator.car import Car
from protocol.board.framing import (
    DELIMITER,
    MAX_PAYLOAD,
    MAX_STUFFED,
    BoardDecoder,
    build_frame,
    crc16,
    parse_content,
    stuff,
    unstuff,
)
from protocol.board.link import BoardLink
from protocol.board.message import (
    Ack,
    AllowEngine,
    BoardFrame,
    FlashHazards,
    Heartbeat,
    MessageType,
    Plug,
    QueryState,
    RefusalReason,
    Refused,
    Sensors,
    SetLight,
    SetLocks,
    Tyres,
)
from protocol.codes import Light
from protocol.errors import DecodeError
from tests.fuzz.target import Target

_FRAMED: Final = 0x80
_PIECE_MS: Final = 100
_OUTGOING_LIMIT: Final = 4_096
"""Bytes that an end may say to one piece: an answer and a state to each frame of it."""


def _pieces(data: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        head = data[position]
        size = min(head & ~_FRAMED, MAX_PAYLOAD + 2)
        part = data[position + 1 : position + 1 + size]
        position += 1 + size
        if head & _FRAMED:
            checked = part + crc16(part).to_bytes(2, "big")
            yield DELIMITER + stuff(checked) + DELIMITER
        else:
            yield part


def _check(data: bytes) -> None:
    _check_content(data)
    car = Car(Random(1), fuel_l=30.0, washer_l=2.0, odometer_mm=1_000_000)  # noqa: S311 - repeatable on purpose
    board, link = BoardFirmware(car, now_ms=0), BoardLink(now_ms=0)
    whole = BoardDecoder()
    heard, told = [], []
    link.order(SetLocks(locked=True), now_ms=0)
    for number, piece in enumerate(_pieces(data)):
        now_ms = number * _PIECE_MS
        heard += whole.feed(piece)
        answer = board.receive(piece, now_ms=now_ms)
        assert len(answer) + len(board.tick(now_ms=now_ms)) <= _OUTGOING_LIMIT
        told += link.receive(piece, now_ms=now_ms)
        told += link.advance(now_ms=now_ms)
        assert len(link.outgoing()) <= _OUTGOING_LIMIT
        assert len(whole._pending) <= MAX_STUFFED
    assert whole.counts == link.counts
    assert whole.counts.frames == len(heard)
    for frame in heard:
        # One meaning, one encoding.
        again = build_frame(frame)
        assert parse_content(unstuff(again[1:-1])) == frame


def _check_content(data: bytes) -> None:
    """Read the same bytes as what lay between two delimiters."""
    for read in (unstuff, parse_content):
        try:
            read(data)
        except DecodeError:
            continue


def _seeds() -> Iterator[bytes]:
    messages = (
        Heartbeat(),
        QueryState(),
        Ack(),
        Refused(RefusalReason.MOVING),
        SetLocks(locked=True),
        AllowEngine(released=True),
        SetLight(Light.OFF, blinking=False),
        FlashHazards(3),
        Sensors(Plug.IN, Tyres.WINTER, 52, 41, None, 8_400, 120, (0x0301, 1)),
    )
    numbered = (SetLocks, AllowEngine, SetLight, FlashHazards, Ack, Refused)
    board = BoardFirmware(
        Car(Random(1), fuel_l=30.0, washer_l=2.0, odometer_mm=1_000_000),  # noqa: S311 - repeatable on purpose
        now_ms=0,
    )
    # State and sensors, one behind the other.
    told = board.tick(now_ms=0)
    lines = [DELIMITER + part + DELIMITER for part in told.split(DELIMITER) if part]
    lines += [
        build_frame(BoardFrame(int(isinstance(message, numbered)), message))
        for message in messages
    ]
    framed = [_as_piece(line) for line in lines]
    yield from framed
    yield b"".join(framed)
    yield b"".join(bytes([len(line)]) + line for line in lines)
    yield b"\x03\x00\x05\x01" + framed[0]
    yield bytes([_FRAMED | 2, int(MessageType.STATE), 0])


def _as_piece(line: bytes) -> bytes:
    content = unstuff(line[1:-1])[:-2]
    return bytes([_FRAMED | len(content)]) + content


TARGET: Final = Target(
    _check,
    _seeds,
    longest=1_024,
    measured=("protocol.board", "protocol.layout", "firmware_emulator"),
)
