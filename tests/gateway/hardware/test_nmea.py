"""Positions from a receiver's stream."""

import asyncio
import os
import tty
from functools import reduce
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.boot_clock import boot_ms
from gateway.core.reading import Position
from gateway.hardware import nmea_positioning
from gateway.hardware.nmea import FRESH_MS, MAX_SENTENCE, NmeaDecoder
from gateway.hardware.nmea_positioning import NmeaPositioning
from tests.gateway.hardware.ear import PATIENCE_S

# The example sentences of the NMEA 0183 literature, with their published checksums.
GGA = b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"
RMC = b"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\r\n"

MUNICH = Position(
    latitude_e7=481_173_000, longitude_e7=115_166_667, accuracy_dm=45, heading_deg=84
)


def sentence(body: str) -> bytes:
    checksum = reduce(lambda total, byte: total ^ byte, body.encode(), 0)
    return f"${body}*{checksum:02X}\r\n".encode()


def fix_after(*lines: bytes) -> Position | None:
    decoder = NmeaDecoder()
    decoder.feed(b"".join(lines), now_ms=1_000)
    return decoder.fix(now_ms=1_000)


def test_a_fix_and_a_course_make_a_position() -> None:
    assert fix_after(GGA, RMC) == MUNICH


@given(st.lists(st.integers(0, len(GGA + RMC)), max_size=20))
def test_the_stream_may_come_in_any_pieces(places: list[int]) -> None:
    stream = GGA + RMC
    decoder = NmeaDecoder()
    edges = sorted({0, *places, len(stream)})

    for start, end in pairwise(edges):
        decoder.feed(stream[start:end], now_ms=0)

    assert decoder.fix(now_ms=0) == MUNICH


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_no_garbage_raises_or_is_hoarded(pieces: list[bytes]) -> None:
    decoder = NmeaDecoder()

    for piece in pieces:
        decoder.feed(piece, now_ms=0)

    assert len(decoder._pending) <= MAX_SENTENCE


def test_south_and_west_are_negative() -> None:
    fix = fix_after(sentence("GNGGA,1,3351.5000,S,15112.5000,W,4,12,1.0,,,,,,"))

    assert fix is not None
    assert (fix.latitude_e7, fix.longitude_e7) == (-338_583_333, -1_512_083_333)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("GPGGA,1,4807.038,N,01131.000,E,0,00,99.9,,,,,,", "quality 0 is no fix"),
        ("GPGGA,1,,,,,,00,,,,,,,", "empty fields"),
        ("GPGGA,1,9100.000,N,01131.000,E,1,08,0.9,,,,,,", "latitude above 90"),
        ("GPGGA,1,4860.000,N,01131.000,E,1,08,0.9,,,,,,", "60 minutes"),
        ("GPGGA,1,4807.038,X,01131.000,E,1,08,0.9,,,,,,", "no such side"),
        ("GPGGA,1,4807.038,,01131.000,E,1,08,0.9,,,,,,", "no side"),
        ("GPGGA,1,4807.038,N,18100.000,E,1,08,0.9,,,,,,", "longitude above 180"),
        ("GPGGA,1,4807.038,N,01131.000,E,1,08,,,,,,,", "unknown dilution"),
        ("GPGGA,1,4807.038,N,01131.000,E,1,08,500,,,,,,", "a fix of 2.5 km"),
        ("GPGGA,1,4807.038,N", "cut short"),
        ("GPGSV,1,1,00", "another sentence"),
    ],
)
def test_what_is_no_fix_is_none(body: str, why: str) -> None:
    assert fix_after(sentence(body)) is None, why


@pytest.mark.parametrize(
    "body",
    [
        "GPRMC,1,V,4807.038,N,01131.000,E,022.4,084.4,230394,,",
        "GPRMC,1,A,4807.038,N,01131.000,E,001.9,084.4,230394,,",
        "GPRMC,1,A,4807.038,N,01131.000,E,,,230394,,",
        "GPRMC,1,A",
    ],
)
def test_a_course_that_means_nothing_is_none(body: str) -> None:
    fix = fix_after(GGA, sentence(body))

    assert fix is not None
    assert fix.heading_deg is None


def test_a_wrong_checksum_is_skipped() -> None:
    assert fix_after(GGA.replace(b"*47", b"*48")) is None


def test_a_lost_fix_ends_the_old_one() -> None:
    lost = sentence("GPGGA,2,,,,,0,00,99.9,,,,,,")

    assert fix_after(GGA, lost) is None


def test_an_old_fix_is_none() -> None:
    decoder = NmeaDecoder()
    decoder.feed(GGA + RMC, now_ms=0)

    assert decoder.fix(now_ms=FRESH_MS) == MUNICH
    assert decoder.fix(now_ms=FRESH_MS + 1) is None


@pytest.mark.device
async def test_a_receiver_on_a_port_gives_a_fix_and_its_loss_only_ages_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nmea_positioning, "REOPEN_S", 0.05)
    master, slave = os.openpty()
    tty.setraw(slave)
    positioning = NmeaPositioning(os.ttyname(slave))
    assert positioning.fix() is None

    task = asyncio.create_task(positioning.run())
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.sleep(0)
        os.write(master, GGA + RMC)
        while positioning.fix() is None:  # noqa: ASYNC110 - the port is asked, it tells nobody
            await asyncio.sleep(0.01)
    os.close(master)
    os.close(slave)
    await asyncio.sleep(0.2)  # three attempts to open what is not there

    assert positioning.fix() == MUNICH
    assert not task.done()
    task.cancel()


@pytest.mark.device
async def test_a_car_that_slept_believes_no_place_and_no_time_of_before() -> None:
    # I-29: else it would wake in the evening before, and open for what is over.
    slept_ms = 0
    master, slave = os.openpty()
    tty.setraw(slave)
    positioning = NmeaPositioning(os.ttyname(slave), clock=lambda: boot_ms() + slept_ms)
    task = asyncio.create_task(positioning.run())
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.sleep(0)
        os.write(master, GGA + RMC)
        while positioning.utc_ms() is None:  # noqa: ASYNC110 - the port is asked, it tells nobody
            await asyncio.sleep(0.01)

    slept_ms = 8 * 3_600_000

    assert positioning.fix() is None
    assert positioning.utc_ms() is None
    task.cancel()
    os.close(master)
    os.close(slave)


# -- the time --------------------------------------------------------------------------


def utc_after(body: str, *, now_ms: int = 1_000) -> int | None:
    decoder = NmeaDecoder()
    decoder.feed(sentence(body), now_ms=1_000)
    return decoder.utc_ms(now_ms=now_ms)


RMC_BODY = "GPRMC,{time},A,4807.038,N,01131.000,E,022.4,084.4,{date},003.1,W"
NOON_MS = 1_793_534_400_000
"""2026-11-01T12:00:00Z."""


@pytest.mark.parametrize(
    ("time", "past_noon_ms"),
    [("120000", 0), ("120001.5", 1_500), ("120000.00", 0), ("115960", 0)],
)
def test_a_receiver_tells_utc(time: str, past_noon_ms: int) -> None:
    # FF-TIM-01. The last one is a leap second.
    found = utc_after(RMC_BODY.format(time=time, date="011126"))

    assert found == NOON_MS + past_noon_ms


def test_utc_runs_on_until_it_is_old() -> None:
    body = RMC_BODY.format(time="120000", date="011126")

    assert utc_after(body, now_ms=3_000) == NOON_MS + 2_000
    assert utc_after(body, now_ms=1_001 + FRESH_MS) is None
    assert NmeaDecoder().utc_ms(now_ms=0) is None


@pytest.mark.parametrize(
    "body",
    [
        RMC_BODY.format(time="120000", date="310226"),
        RMC_BODY.format(time="250000", date="011126"),
        RMC_BODY.format(time="120061", date="011126"),
        RMC_BODY.format(time="1200", date="011126"),
        RMC_BODY.format(time="120000", date=""),
        RMC_BODY.format(time="120000", date="011126").replace(",A,", ",V,"),
        "GPRMC,120000,A,4807.038,N,01131.000,E,022.4",
    ],
)
def test_what_is_no_instant_tells_no_time(body: str) -> None:
    assert utc_after(body) is None
