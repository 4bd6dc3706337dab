"""The target of frames over a decoder with a fault: what the fuzzer is tried on.

The fault is of the usual kind: some flag says that the payload ends in a trailer, whose
size is believed. No seed has such a flag, and of those that get one many have a trailer
that fits.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from protocol.packed.frame import parse_frame
from tests.fuzz.target import Target
from tests.fuzz.targets import frames
from tests.protocol.codecs import outcome_of, packed_content

_HAS_TRAILER: Final = 0x0E
"""Flags that version 1 does not know, and must not mind."""


def _faulty(data: bytes) -> object:
    read = parse_frame(data)
    if read.header.flags & _HAS_TRAILER and read.payload:
        size = read.payload[-1]
        return read.payload[-1 - size]  # the fault: nobody asked whether it is there
    return packed_content(read)


def _check(data: bytes) -> None:
    outcome_of(_faulty, data[1:])


def _seeds() -> Iterator[bytes]:
    """A few frames: the fault lies in none, and is as far from all of them."""
    return islice(frames.TARGET.seeds(), 0, None, 20)


TARGET: Final = Target(
    _check,
    _seeds,
    longest=frames.TARGET.longest,
    measured=("protocol", "tests.fuzz.targets"),
)
