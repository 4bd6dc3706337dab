"""A positioning receiver's sentences: a fix in range or none, never an error.

Input: the line's bytes; the byte 01 stands for the checksum that is right here. They
are fed whole and in two pieces, which must not matter.
"""

from collections.abc import Iterator
from functools import reduce
from typing import Final

from gateway.hardware.nmea import MAX_ACCURACY_DM, MAX_SENTENCE, NmeaDecoder
from tests.fuzz.target import Target

_RIGHT: Final = b"\x01"


def _with_checksums(data: bytes) -> bytes:
    """Put the right checksum at each mark."""
    line = b""
    for part in data.split(_RIGHT)[:-1]:
        line += part
        body = line.rpartition(b"$")[2].removesuffix(b"*")
        line += b"%02X" % reduce(lambda total, byte: total ^ byte, body, 0)
    return line + data.split(_RIGHT)[-1]


def _check(data: bytes) -> None:
    line = _with_checksums(data)
    whole, pieces = NmeaDecoder(), NmeaDecoder()
    middle = len(line) // 2
    whole.feed(line, now_ms=1_000)
    pieces.feed(line[:middle], now_ms=1_000)
    assert len(pieces._pending) <= MAX_SENTENCE
    pieces.feed(line[middle:], now_ms=1_000)
    fix = whole.fix(now_ms=1_000)
    assert fix == pieces.fix(now_ms=1_000)
    if fix is None:
        return
    assert abs(fix.latitude_e7) <= 90 * 10**7
    assert abs(fix.longitude_e7) <= 180 * 10**7
    assert 0 <= fix.accuracy_dm <= MAX_ACCURACY_DM
    assert fix.heading_deg is None or 0 <= fix.heading_deg < 360


def _seeds() -> Iterator[bytes]:
    place = b"$GPGGA,101010.00,4807.038,N,01131.324,E,1,08,0.9,545.4,M,,M,,*\x01\r\n"
    course = b"$GNRMC,101010.00,A,4807.038,N,01131.324,E,022.4,084.4,010126,,*\x01\r\n"
    yield place
    yield course
    yield place + course
    yield b"noise\xff" + place + course.replace(b",A,4807", b",V,4807")
    yield place.replace(b"0.9", b"99.9").replace(b",N,", b",S,")


TARGET: Final = Target(
    _check, _seeds, longest=4 * MAX_SENTENCE, measured=("gateway.hardware",)
)
