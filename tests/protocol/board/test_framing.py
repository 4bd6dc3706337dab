"""Frames on the serial line: I-4, style.md 5.6 and 5.7."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.board.framing import (
    DELIMITER,
    MAX_CONTENT,
    MAX_STUFFED,
    BoardDecoder,
    build_frame,
    crc16,
    parse_content,
    stuff,
    unstuff,
)
from protocol.board.message import (
    LAYOUTS,
    REPORTED_BITS,
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
    State,
    Tyres,
    type_of,
)
from protocol.codes import Bits, EnergyKind, Light
from protocol.errors import DecodeError, EncodeError

REPORT = State(
    firmware=bytes([1, 4, 2, 0]),
    boot_count=17,
    uptime_s=86_400,
    last_seq=7,
    energy_kind=EnergyKind.FUEL,
    bits=Bits.LOCKED | Bits.KEY_PRESENT | Bits.FUEL_CARD_PRESENT,
    speed_dkmh=0,
    odometer_m=48_211_300,
    energy_pct=62,
    washer_pct=90,
    range_km=410,
    supply_mv=12_480,
)

SENSED = Sensors(Plug.OUT, Tyres.WINTER, 52, 41, 63, 8_400, 120, (0x0301,))

EVERY_FRAME = [
    (BoardFrame(7, SetLocks(locked=False)), "00 03 01 07 03 62 3b 00"),
    (BoardFrame(8, SetLocks(locked=True)), "00 06 01 08 01 62 24 00"),
    (BoardFrame(9, AllowEngine(released=True)), "00 06 02 09 01 08 45 00"),
    (
        BoardFrame(10, SetLight(Light.YELLOW, blinking=True)),
        "00 07 03 0a 02 01 ae 9e 00",
    ),
    (BoardFrame(11, FlashHazards(seconds=10)), "00 06 04 0b 0a 6d ec 00"),
    (BoardFrame(0, QueryState()), "00 02 05 03 e2 fa 00"),
    (BoardFrame(0, Heartbeat()), "00 02 06 03 b7 a9 00"),
    (BoardFrame(7, Ack()), "00 05 81 07 45 41 00"),
    (BoardFrame(8, Refused(RefusalReason.DOOR_OPEN)), "00 04 82 08 01 02 2e 00"),
    (
        BoardFrame(0, REPORT),
        (
            "00 02 83 04 01 04 02 01 02 11 08 01 51 80 07 01 03 01 01 0d 02 df a5 64 "
            "3e 5a 01 9a 30 c0 5f fe 00"
        ),
    ),
    (
        BoardFrame(0, SENSED),
        "00 02 84 08 01 02 34 29 3f 20 d0 07 78 01 03 01 25 51 00",
    ),
]
"""Frames and their bytes, as docs/board-protocol.md prints them."""

UNLOCK_FRAME = BoardFrame(99, SetLocks(locked=False))
UNLOCK = build_frame(UNLOCK_FRAME)


def checked(content: bytes) -> bytes:
    """Append the right checksum, frame and delimit, whatever the content."""
    body = content + crc16(content).to_bytes(2, "big")
    return DELIMITER + stuff(body) + DELIMITER


def absent(report: State) -> State:
    """The same report of a board that measures nothing."""
    return replace(
        report,
        speed_dkmh=None,
        odometer_m=None,
        energy_pct=None,
        washer_pct=None,
        range_km=None,
        supply_mv=None,
    )


optional_u16 = st.none() | st.integers(0, 0xFFFE)
percent = st.none() | st.integers(0, 100)
states = st.builds(
    State,
    firmware=st.binary(min_size=4, max_size=4),
    boot_count=st.integers(0, 0xFFFF),
    uptime_s=st.integers(0, 0xFFFF_FFFF),
    last_seq=st.integers(0, 0xFF),
    energy_kind=st.sampled_from(EnergyKind),
    bits=st.integers(0, REPORTED_BITS).map(lambda raw: Bits(raw & REPORTED_BITS)),
    speed_dkmh=optional_u16,
    odometer_m=st.none() | st.integers(0, 0xFFFF_FFFE),
    energy_pct=percent,
    washer_pct=percent,
    range_km=optional_u16,
    supply_mv=optional_u16,
)
sensors = st.builds(
    Sensors,
    plug=st.sampled_from(Plug),
    tyres=st.sampled_from(Tyres),
    tread_dmm=st.none() | st.integers(0, 0xFE),
    oil_pct=percent,
    brake_pct=percent,
    service_km=optional_u16,
    service_days=optional_u16,
    trouble_codes=st.lists(st.integers(0, 0xFFFF), max_size=8).map(tuple),
)
numbered = st.one_of(
    st.builds(SetLocks, st.booleans()),
    st.builds(AllowEngine, st.booleans()),
    st.builds(SetLight, st.sampled_from(Light), st.booleans()),
    st.builds(FlashHazards, st.integers(1, 30)),
    st.just(Ack()),
    st.builds(Refused, st.sampled_from(RefusalReason)),
)
unnumbered = st.one_of(st.just(QueryState()), st.just(Heartbeat()), states, sensors)
frames = st.builds(BoardFrame, st.integers(1, 255), numbered) | st.builds(
    BoardFrame, st.just(0), unnumbered
)


def cut(data: bytes, places: Sequence[int]) -> Iterator[bytes]:
    """Split `data` at the given places, in whatever order they come."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    for start, end in pairwise(edges):
        yield data[start:end]


def feed_all(decoder: BoardDecoder, pieces: Iterable[bytes]) -> list[BoardFrame]:
    return [frame for piece in pieces for frame in decoder.feed(piece)]


def test_the_checksum_is_the_catalogue_s() -> None:
    # CRC-16/IBM-3740, also called CCITT-FALSE: check value 0x29B1.
    assert crc16(b"123456789") == 0x29B1


@pytest.mark.parametrize(("frame", "expected_hex"), EVERY_FRAME)
def test_every_message_has_the_bytes_of_the_specification(
    frame: BoardFrame, expected_hex: str
) -> None:
    expected = bytes.fromhex(expected_hex)

    assert build_frame(frame) == expected
    assert BoardDecoder().feed(expected) == [frame]


def test_the_examples_cover_every_message_type() -> None:
    assert {type_of(frame.message) for frame, _ in EVERY_FRAME} == set(MessageType)
    assert set(LAYOUTS) == set(MessageType)
    assert {kind for kind in MessageType if kind.from_board} == {
        MessageType.ACK,
        MessageType.REFUSED,
        MessageType.STATE,
        MessageType.SENSORS,
    }


def test_what_is_not_measured_is_none_and_not_zero() -> None:
    frame = BoardFrame(0, absent(REPORT))

    assert BoardDecoder().feed(build_frame(frame)) == [frame]


def test_a_frame_prints_its_number_where_it_has_one() -> None:
    assert str(BoardFrame(7, Ack())) == "Ack() #7"
    assert str(BoardFrame(0, Heartbeat())) == "Heartbeat()"


@given(sent=st.lists(frames, max_size=8), places=st.lists(st.integers(0, 999)))
def test_any_split_of_the_stream_gives_the_same_frames(
    sent: list[BoardFrame], places: list[int]
) -> None:
    stream = b"".join(build_frame(frame) for frame in sent)

    assert feed_all(BoardDecoder(), cut(stream, places)) == sent


@given(noise=st.binary(max_size=400), frame=frames)
def test_a_frame_after_any_garbage_arrives(noise: bytes, frame: BoardFrame) -> None:
    # I-4. The zero in front of a frame ends whatever the noise began.
    received = BoardDecoder().feed(noise + build_frame(frame))

    assert received[-1] == frame


@given(data=st.lists(st.binary(max_size=300), max_size=30))
def test_no_garbage_raises_or_is_hoarded(data: list[bytes]) -> None:
    # I-4, K18: memory is bounded whatever the line says.
    decoder = BoardDecoder()

    for piece in data:
        decoder.feed(piece)

        assert len(decoder._pending) <= MAX_STUFFED


@pytest.mark.parametrize(("frame", "stream_hex"), EVERY_FRAME)
def test_no_flipped_bit_makes_another_order(frame: BoardFrame, stream_hex: str) -> None:
    # I-4: every bit of every frame, boundaries and stuffing included.
    stream = bytes.fromhex(stream_hex)
    for place in range(8 * len(stream)):
        damaged = bytearray(stream)
        damaged[place // 8] ^= 1 << place % 8

        received = BoardDecoder().feed(bytes(damaged) + UNLOCK)

        # A flipped delimiter may leave the frame whole; nothing else may appear.
        assert received in ([UNLOCK_FRAME], [frame, UNLOCK_FRAME])


def test_an_over_long_stretch_is_skipped_and_counted_once() -> None:
    decoder = BoardDecoder()

    received = feed_all(decoder, [b"\x55" * 40] * 50)
    received += decoder.feed(UNLOCK)

    assert received == [UNLOCK_FRAME]
    assert decoder.counts.too_long == 1
    assert decoder.counts.malformed == 0
    assert decoder.counts.frames == 1


def test_a_wrong_checksum_is_counted_as_malformed() -> None:
    decoder = BoardDecoder()
    damaged = bytearray(UNLOCK)
    damaged[-2] ^= 0x01

    assert decoder.feed(bytes(damaged)) == []
    assert decoder.counts.malformed == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x05", "shorter than the header"),
        (b"\x7f\x00", "unknown type"),
        (b"\x05\x01", "a number where none belongs"),
        (b"\x01\x00\x00", "an order without a number"),
        (b"\x01\x01", "payload too short"),
        (b"\x01\x01\x00\x00", "trailing byte"),
        (b"\x01\x01\x02", "a flag that is neither 0 nor 1"),
        (b"\x03\x01\x06\x00", "unknown light"),
        (b"\x04\x01\x00", "no seconds"),
        (b"\x04\x01\x1f", "31 seconds"),
        (b"\x82\x01\x06", "unknown reason"),
    ],
)
def test_a_frame_with_a_good_checksum_and_a_bad_content_is_no_frame(
    content: bytes, why: str
) -> None:
    # I-4: number, length and values count as much as the checksum.
    decoder = BoardDecoder()

    assert decoder.feed(checked(content)) == [], why
    assert decoder.counts.malformed == 1


def test_a_board_cannot_report_moving_apart_from_its_speed() -> None:
    # I-2: one source for one fact.
    moving = replace(REPORT, bits=Bits.MOVING)

    with pytest.raises(EncodeError, match="reserved bits 0x40"):
        build_frame(BoardFrame(0, moving))


@pytest.mark.parametrize(
    "frame",
    [
        BoardFrame(0, SetLocks(locked=True)),
        BoardFrame(256, SetLocks(locked=True)),
        BoardFrame(1, Heartbeat()),
        BoardFrame(1, FlashHazards(31)),
        BoardFrame(0, replace(REPORT, energy_pct=101)),
        BoardFrame(0, replace(REPORT, speed_dkmh=0xFFFF)),
    ],
)
def test_a_value_that_does_not_fit_is_refused_before_it_is_sent(
    frame: BoardFrame,
) -> None:
    with pytest.raises(EncodeError):
        build_frame(frame)


@given(content=st.binary(max_size=MAX_CONTENT))
def test_stuffing_takes_out_every_zero_and_is_undone(content: bytes) -> None:
    stuffed = stuff(content)

    assert 0 not in stuffed
    assert len(stuffed) == len(content) + 1
    assert unstuff(stuffed) == content


@given(stuffed=st.binary(max_size=MAX_STUFFED + 5))
def test_unstuffing_accepts_only_what_stuffing_makes(stuffed: bytes) -> None:
    try:
        content = unstuff(stuffed)
    except DecodeError:
        return

    assert stuff(content) == stuffed


def test_stuffing_is_bounded_in_both_directions() -> None:
    with pytest.raises(EncodeError, match="at most 68"):
        stuff(bytes(MAX_CONTENT + 1))
    with pytest.raises(DecodeError, match="no stuffed frame"):
        unstuff(b"\x01" * (MAX_STUFFED + 1))


def test_content_shorter_than_header_and_checksum_is_refused() -> None:
    with pytest.raises(DecodeError, match="at least 4"):
        parse_content(b"\x05\x00\x00")
