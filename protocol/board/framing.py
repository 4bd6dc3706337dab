"""Frames on the serial line (docs/board-protocol.md, section 2).

::

    00 | COBS( type u8 | seq u8 | payload 0..64 | CRC-16 u16 ) | 00

Consistent Overhead Byte Stuffing (Cheshire and Baker, 1999) takes every zero out of a
frame, so that a zero is always a boundary and a receiver that lost its place finds it
at the next one. The zero in front costs one byte and spares the frame when noise was on
the line before it. Whatever is not a frame is counted and skipped: garbage from the
line changes nothing (I-4).
"""

import binascii
from dataclasses import dataclass
from typing import Final

from protocol.board.message import (
    LAYOUTS,
    BoardFrame,
    MessageType,
    check_seq,
    type_of,
)
from protocol.codes import Code
from protocol.errors import DecodeError, EncodeError, ProtocolError

DELIMITER: Final = b"\x00"
"""Before and after every frame, and nowhere inside."""

MAX_PAYLOAD: Final = 64
"""Bytes of payload; more than twice the longest message, room for later fields."""

_HEADER_SIZE: Final = 2
_CRC_SIZE: Final = 2

MIN_CONTENT: Final = _HEADER_SIZE + _CRC_SIZE
"""Bytes of the shortest frame before stuffing."""

MAX_CONTENT: Final = _HEADER_SIZE + MAX_PAYLOAD + _CRC_SIZE
"""Bytes of the longest frame before stuffing."""

MAX_STUFFED: Final = MAX_CONTENT + 1
"""Bytes between two delimiters: stuffing below 254 bytes adds exactly one."""

_CRC_START: Final = 0xFFFF


def crc16(data: bytes) -> int:
    """Return CRC-16/CCITT-FALSE: x^16+x^12+x^5+1, start 0xFFFF, nothing reflected.

    Its value over the ASCII digits 123456789 is 0x29B1 (catalogue of parametrised CRC
    algorithms, CRC-16/IBM-3740).
    """
    return binascii.crc_hqx(data, _CRC_START)


def stuff(content: bytes) -> bytes:
    """Return `content` without zeros.

    Raises:
        EncodeError: more than `MAX_CONTENT` bytes.
    """
    if len(content) > MAX_CONTENT:
        raise EncodeError(f"board frame of {len(content)} bytes, at most {MAX_CONTENT}")
    return b"".join(bytes([len(run) + 1]) + run for run in content.split(DELIMITER))


def unstuff(stuffed: bytes) -> bytes:
    """Return what `stuff` was given.

    Raises:
        DecodeError: no output of `stuff`.
    """
    if not stuffed or len(stuffed) > MAX_STUFFED or 0 in stuffed:
        raise DecodeError(Code.BAD_LEN, f"{len(stuffed)} bytes are no stuffed frame")
    runs = []
    position = 0
    while position < len(stuffed):
        following = position + stuffed[position]
        if following > len(stuffed):
            raise DecodeError(
                Code.BAD_LEN, f"run at byte {position} ends after the frame"
            )
        runs.append(stuffed[position + 1 : following])
        position = following
    return DELIMITER.join(runs)


def build_frame(frame: BoardFrame) -> bytes:
    """Return the bytes for the line, delimiters included.

    Raises:
        EncodeError: a value does not fit its field; nothing was built.
    """
    kind = type_of(frame.message)
    check_seq(kind, frame.seq)
    content = bytes([kind, frame.seq]) + LAYOUTS[kind].build(frame.message)
    checked = content + crc16(content).to_bytes(_CRC_SIZE, "big")
    return DELIMITER + stuff(checked) + DELIMITER


def parse_content(content: bytes) -> BoardFrame:
    """Return the frame in what lay between two delimiters, already unstuffed.

    Raises:
        DecodeError: too short, a wrong checksum, an unknown type, a payload or number
            that the type does not allow.
    """
    if len(content) < MIN_CONTENT:
        raise DecodeError(Code.BAD_LEN, f"{len(content)} bytes, at least {MIN_CONTENT}")
    body, checksum = content[:-_CRC_SIZE], content[-_CRC_SIZE:]
    if crc16(body).to_bytes(_CRC_SIZE, "big") != checksum:
        raise DecodeError(Code.BAD_PARAM, f"checksum {checksum.hex()} is wrong")
    try:
        kind = MessageType(body[0])
    except ValueError:
        raise DecodeError(
            Code.BAD_CLASS, f"unknown message type 0x{body[0]:02X}"
        ) from None
    try:
        check_seq(kind, body[1])
    except EncodeError as error:
        raise DecodeError(Code.BAD_PARAM, str(error)) from None
    return BoardFrame(body[1], LAYOUTS[kind].parse(body[_HEADER_SIZE:]))


@dataclass(slots=True)
class LineCounts:
    """What came over the line since the decoder was made."""

    frames: int = 0
    """Good frames."""
    malformed: int = 0
    """Stretches between delimiters that are no frame, checksum included."""
    too_long: int = 0
    """Stretches longer than any frame."""


class BoardDecoder:
    """Finds the frames in a stream that arrives in any pieces.

    It never raises and never holds more than `MAX_STUFFED` bytes. One decoder serves
    one opening of a port: after a loss make a new one.
    """

    def __init__(self) -> None:
        """Begin at an unknown place of the stream."""
        self.counts = LineCounts()
        self._pending = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> list[BoardFrame]:
        """Take the next bytes of the stream and return the frames they complete."""
        frames = []
        first, *others = data.split(DELIMITER)
        self._append(first)
        for stretch in others:
            frame = self._complete()
            if frame is not None:
                frames.append(frame)
            self._append(stretch)
        return frames

    def _append(self, stretch: bytes) -> None:
        if self._skipping:
            return
        if len(self._pending) + len(stretch) > MAX_STUFFED:
            self.counts.too_long += 1
            self._skipping = True
            self._pending.clear()
            return
        self._pending += stretch

    def _complete(self) -> BoardFrame | None:
        stuffed = bytes(self._pending)
        self._pending.clear()
        skipped, self._skipping = self._skipping, False
        if skipped or not stuffed:
            return None  # already counted, or nothing between two delimiters
        try:
            frame = parse_content(unstuff(stuffed))
        except ProtocolError:
            self.counts.malformed += 1
            return None
        self.counts.frames += 1
        return frame
