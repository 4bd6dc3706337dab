"""NMEA 0183 sentences of a positioning receiver, as far as a position needs them. Pure.

GGA says where, how good and whether at all; RMC says the course, and what time it is.
Sentences of every talker count (GP, GL, GA, GN): the receiver mixes systems. A sentence
without a right checksum is skipped, garbage too, and nothing is kept longer than a
sentence can be.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from functools import reduce
from typing import Final

from gateway.core.reading import Position

MAX_SENTENCE: Final = 128
"""Bytes; NMEA 0183 allows 82, some receivers send more digits."""

FRESH_MS: Final = 5_000
"""A receiver sends a fix each second; after five the car may be elsewhere."""

COURSE_SPEED_KNOTS: Final = Fraction(2)
"""Below this the course of a receiver is noise."""

RANGE_ERROR_DM: Final = 50
"""Accuracy is the dilution of precision times this, 5 m: assumed, the user range error
of single-frequency receivers (GPS Standard Positioning Service, 5th edition, B.2)."""

MAX_ACCURACY_DM: Final = 10_000
"""A fix worse than 1 km is none."""

_SENTENCE: Final = re.compile(rb"\$([A-Z]{2})(GGA|RMC),([ -)+-~]*)\*([0-9A-F]{2})")
_ANGLE: Final = re.compile(r"(\d{2,3})(\d{2}(?:\.\d{1,8})?)")
_INSTANT: Final = re.compile(r"(\d{2})(\d{2})(\d{2})(?:\.(\d{1,3})\d{0,5})?")
_DATE: Final = re.compile(r"(\d{2})(\d{2})(\d{2})")
_NUMBER: Final = re.compile(r"\d{1,6}(?:\.\d{1,8})?")


@dataclass(frozen=True, slots=True)
class _Place:
    latitude_e7: int
    longitude_e7: int
    accuracy_dm: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class _Course:
    heading_deg: int
    at_ms: int


class NmeaDecoder:
    """Takes a receiver's stream in any pieces and knows the newest fix."""

    def __init__(self) -> None:
        """Begin without a fix, at an unknown place of the stream."""
        self._pending = bytearray()
        self._place: _Place | None = None
        self._course: _Course | None = None
        self._utc: tuple[int, int] | None = None

    def feed(self, data: bytes, *, now_ms: int) -> None:
        """Take the next bytes; never raises."""
        *lines, rest = (bytes(self._pending) + data).split(b"\n")
        self._pending[:] = rest[-MAX_SENTENCE:]
        for line in lines:
            match = _SENTENCE.fullmatch(line[-MAX_SENTENCE:].strip())
            if match is not None and _is_intact(match):
                self._take(match[2], match[3].decode("ascii").split(","), now_ms)

    def fix(self, *, now_ms: int) -> Position | None:
        """Return the newest fix, None when it is older than `FRESH_MS`."""
        place, course = self._place, self._course
        if place is None or now_ms - place.at_ms > FRESH_MS:
            return None
        is_fresh = course is not None and now_ms - course.at_ms <= FRESH_MS
        return Position(
            latitude_e7=place.latitude_e7,
            longitude_e7=place.longitude_e7,
            accuracy_dm=place.accuracy_dm,
            heading_deg=course.heading_deg if course is not None and is_fresh else None,
            age_ms=max(0, now_ms - place.at_ms),
        )

    def utc_ms(self, *, now_ms: int) -> int | None:
        """Return UTC of now, None when the newest is older than `FRESH_MS`."""
        if self._utc is None or now_ms - self._utc[1] > FRESH_MS:
            return None
        told_ms, at_ms = self._utc
        return told_ms + max(0, now_ms - at_ms)

    def _take(self, kind: bytes, fields: list[str], now_ms: int) -> None:
        if kind == b"GGA":
            self._place = _place_of(fields, now_ms)
        else:
            self._course = _course_of(fields, now_ms)
            utc_ms = _utc_of(fields)
            self._utc = None if utc_ms is None else (utc_ms, now_ms)


def _is_intact(match: re.Match[bytes]) -> bool:
    body = match[0][1:-3]
    return reduce(lambda total, byte: total ^ byte, body, 0) == int(match[4], 16)


def _place_of(fields: list[str], now_ms: int) -> _Place | None:
    """GGA: time, latitude, N, longitude, E, quality, satellites, dilution, ..."""
    if len(fields) < 8 or fields[5] in {"", "0"}:  # noqa: PLR2004 - places of GGA
        return None
    latitude = _angle_e7(fields[1], fields[2], "NS", 90)
    longitude = _angle_e7(fields[3], fields[4], "EW", 180)
    dilution = _number(fields[7])
    if latitude is None or longitude is None or dilution is None:
        return None
    accuracy_dm = round(dilution * RANGE_ERROR_DM)
    if accuracy_dm > MAX_ACCURACY_DM:
        return None
    return _Place(latitude, longitude, accuracy_dm, now_ms)


def _course_of(fields: list[str], now_ms: int) -> _Course | None:
    """RMC: time, status, latitude, N, longitude, E, knots, course, ..."""
    if len(fields) < 8 or fields[1] != "A":  # noqa: PLR2004 - places of RMC
        return None
    speed, course = _number(fields[6]), _number(fields[7])
    if speed is None or course is None or speed < COURSE_SPEED_KNOTS:
        return None
    return _Course(round(course) % 360, now_ms)


def _utc_of(fields: list[str]) -> int | None:
    """RMC: time, status, latitude, N, longitude, E, knots, course, date, ..."""
    if len(fields) < 9 or fields[1] != "A":  # noqa: PLR2004 - places of RMC
        return None
    time, date = _INSTANT.fullmatch(fields[0]), _DATE.fullmatch(fields[8])
    if time is None or date is None:
        return None
    hour, minute, second = (int(part) for part in time.groups()[:3])
    day, month, year = (int(part) for part in date.groups())
    try:
        # Two digits of the year, and no receiver of this program is older than 2000.
        begun = datetime(2000 + year, month, day, hour, minute, tzinfo=UTC)
    except ValueError:
        return None
    if second > 60:  # noqa: PLR2004 - 60 is a leap second
        return None
    millis = int((time[4] or "0").ljust(3, "0"))
    return int(begun.timestamp()) * 1000 + second * 1000 + millis


def _angle_e7(text: str, side: str, sides: str, limit_deg: int) -> int | None:
    """Return ddmm.mmmm as degrees times 10^7, without the error of a float."""
    match = _ANGLE.fullmatch(text)
    if match is None or side not in tuple(sides):
        return None
    minutes = Fraction(match[2])
    if minutes >= 60:  # noqa: PLR2004 - minutes of a degree
        return None
    angle_e7 = round((int(match[1]) + minutes / 60) * 10**7)
    if angle_e7 > limit_deg * 10**7:
        return None
    return angle_e7 if side == sides[0] else -angle_e7


def _number(text: str) -> Fraction | None:
    return Fraction(text) if _NUMBER.fullmatch(text) else None
