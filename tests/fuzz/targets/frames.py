"""Frames of every class: two codecs that agree, and one typed error (K11, I-4).

Input: one byte, then a frame. With an odd byte the length field is mended, so that a
payload of another size is read and not only its length refused.
"""

from collections.abc import Iterator
from typing import Final

from protocol.errors import DecodeError
from protocol.frame import FRAME_LIMIT, HEADER_SIZE, OVERHEAD, build_unsigned
from protocol.frame import parse_frame as parse_declared
from protocol.keys import SIGNATURE_SIZE
from tests.fuzz.target import Target
from tests.protocol.codecs import outcome_of, read_declared, read_packed
from tests.protocol.vector_file import FRAMES, frame_of

_LENGTH_AT: Final = 10
"""Where a header holds the length of the payload."""


def with_length(frame: bytes) -> bytes:
    """Return a frame whose length field says what it has."""
    if not OVERHEAD <= len(frame) <= FRAME_LIMIT:
        return frame
    size = (len(frame) - OVERHEAD).to_bytes(2, "big")
    return frame[:_LENGTH_AT] + size + frame[_LENGTH_AT + 2 :]


def _check(data: bytes) -> None:
    mended, frame = data[:1], data[1:]
    if mended and mended[0] & 1:
        frame = with_length(frame)
    declared, packed = outcome_of(read_declared, frame), outcome_of(read_packed, frame)
    assert declared == packed, (declared, packed)
    assert repr(declared) == repr(packed)
    try:
        read = parse_declared(frame)
    except DecodeError:
        return
    # One meaning, one encoding: what was read gives the same bytes again.
    assert build_unsigned(read.header, read.payload) == frame[:-SIGNATURE_SIZE]
    assert frame[HEADER_SIZE:-SIGNATURE_SIZE] == read.payload


def _seeds() -> Iterator[bytes]:
    for name in FRAMES:
        yield b"\0" + frame_of(name)
        yield b"\1" + frame_of(name)


TARGET: Final = Target(_check, _seeds, longest=FRAME_LIMIT + 65, measured=("protocol",))
