"""The two codecs agree on every input: equal records, or errors of equal code.

This is also the second, independent decoder of the vectors (docs/adr/0010).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import (
    command,
    death,
    entry,
    event,
    frame,
    hello,
    place,
    receipt,
    result,
    sync,
    telemetry,
)
from protocol import snapshot as snapshots
from protocol.codes import (
    Bits,
    ClockQuality,
    FrameClass,
    LockDefault,
    RentalMode,
)
from protocol.content import parse_content
from protocol.entry import LINK_SIZE
from protocol.errors import DecodeError, EncodeError
from protocol.event import EnergyLow, EngineStopped
from protocol.frame import FRAME_LIMIT, Frame, Header
from protocol.layout import Layout
from protocol.packed import command as packed_command
from protocol.packed import entry as packed_entry
from protocol.packed import event as packed_event
from protocol.packed import frame as packed_frame
from protocol.packed import hello as packed_hello
from protocol.packed import place as packed_place
from protocol.packed import receipt as packed_receipt
from protocol.packed import result as packed_result
from protocol.packed import sync as packed_sync
from protocol.packed import telemetry as packed_telemetry
from protocol.packed.record import ID, U8, Packed, bits_of
from protocol.packed.varied import Varied
from protocol.receipt import Gap, Receipt
from protocol.telemetry import Telemetry
from tests.depth import UNCOUNTED, some, times
from tests.protocol.codecs import (
    outcome_of,
    packed_content,
    parts_of,
    read_declared,
    read_packed,
)
from tests.protocol.strategies import HEADERS, frames, records
from tests.protocol.vector_file import ACCEPTED, FRAMES, frame_of

RENTAL: Final = bytes(range(16))
SOME = settings(max_examples=times(25, deep=200), deadline=None)
"""57 records share the examples; a busy machine may be slow."""
MANY = settings(max_examples=times(200, deep=2_000), deadline=None)


@dataclass(frozen=True, slots=True)
class Pair:
    """One record's two codecs."""

    layout: Layout[Any]
    parse: Callable[[bytes], Any]
    build: Callable[[Any], bytes]


WITH_PAYLOAD: Final = [
    name
    for name, vector in FRAMES.items()
    if vector["expected"].get("stage") != "parse"
]
"""Vectors whose header is in order; the others never reach their payload."""

TELLING: Final = (*range(17), 24, 30, 31, 99, 100, 101, 127, 128, 254, 255)
"""Values of a byte at which some field changes its mind."""

ONE_OF_EACH: Final = {
    (vector["fields"]["header"]["frame_class"], vector["fields"]["header"]["type"]): n
    for n, vector in ACCEPTED.items()
    if n not in {"hello_full", "receipt_trouble", "telem_full"}  # long for nothing new
}.values()
"""A vector of each opcode, event type and class."""


def _pair(layout: Layout[Any], packed: packed_command.Payload) -> Pair:
    return Pair(layout, packed.parse, packed.build)


PAIRS: Final = (
    *(
        _pair(rule.layout, packed_command.COMMANDS[opcode])
        for opcode, rule in command.COMMANDS.items()
    ),
    *(
        _pair(layout, packed_event.EVENTS[event_type])
        for event_type, layout in event.EVENTS.items()
    ),
    *(
        _pair(layout, packed_sync.SYNCS[sync_type])
        for sync_type, layout in sync.SYNCS.items()
    ),
    _pair(death.DEATH, packed_sync.DEATH),
    _pair(entry.LINK, packed_entry.LINK),
    _pair(snapshots.SNAPSHOT, packed_result.SNAPSHOT),
    _pair(result.RESULT, packed_result.RESULT),
    _pair(place.PLACE, packed_place.PLACE),
    _pair(place.EVENT_PLACE, packed_place.EVENT_PLACE),
    Pair(
        telemetry.TELEMETRY,
        packed_telemetry.parse_telemetry,
        packed_telemetry.build_telemetry,
    ),
    Pair(hello.HELLO, packed_hello.parse_hello, packed_hello.build_hello),
    Pair(receipt.RECEIPT, packed_receipt.parse_receipt, packed_receipt.build_receipt),
)
BY_RECORD: Final[dict[type[Any], Pair]] = {pair.layout.record: pair for pair in PAIRS}
EVERY_PAIR = pytest.mark.parametrize(
    "pair", PAIRS, ids=lambda pair: str(pair.layout.record.__name__)
)


def _differences(variants: Sequence[bytes]) -> list[str]:
    return [
        data.hex()
        for data in variants
        if outcome_of(read_packed, data) != outcome_of(read_declared, data)
    ]


def _payload_differences(read: Frame, payloads: Sequence[bytes]) -> list[str]:
    """Return payloads of one header that the codecs judge differently."""
    different = []
    for payload in payloads:
        other = replace(read, payload=payload)
        declared = outcome_of(lambda of: parts_of(parse_content(of)), other)
        if outcome_of(packed_content, other) != declared:
            different.append(payload.hex())
    return different


def _flips(data: bytes) -> list[bytes]:
    """Return every copy with one bit flipped."""
    number = int.from_bytes(data, "big")
    return [
        (number ^ 1 << bit).to_bytes(len(data), "big") for bit in range(len(data) * 8)
    ]


@pytest.mark.parametrize("name", FRAMES)
def test_both_read_a_vector_alike(name: str) -> None:
    assert _differences([frame_of(name)]) == []


@pytest.mark.parametrize("name", ACCEPTED)
def test_both_judge_every_flipped_bit_of_a_header_alike(name: str) -> None:
    # K11. Neither decoder looks at a signature's 512 bits: one is enough to show it.
    data = frame_of(name)
    head, tail = data[: frame.HEADER_SIZE], data[frame.HEADER_SIZE :]
    flipped = [other + tail for other in some(_flips(head), one_in=27, turn=name)]
    flipped.append(data[:-1] + bytes([data[-1] ^ 1]))

    assert _differences(flipped) == []


@pytest.mark.parametrize("name", ACCEPTED)
def test_both_judge_every_flipped_bit_of_a_payload_alike(name: str) -> None:
    # K11
    read = frame.parse_frame(frame_of(name))
    flipped = _flips(read.payload)
    if name == "telem_full":
        # 30 samples in a row: the count, the first and the last two.
        flipped = flipped[: 60 * 8] + flipped[-31 * 8 :]

    assert _payload_differences(read, some(flipped, one_in=21, turn=name)) == []


@UNCOUNTED
@pytest.mark.parametrize("name", FRAMES)
def test_both_judge_every_truncation_of_a_vector_alike(name: str) -> None:
    # K11
    data = frame_of(name)

    cut = [data[:size] for size in range(len(data))]

    assert _differences(some(cut, one_in=9, turn=name)) == []


@pytest.mark.parametrize("name", WITH_PAYLOAD)
def test_both_judge_every_truncation_of_a_payload_alike(name: str) -> None:
    # A truncated frame never reaches its payload: its length tells.
    read = frame.parse_frame(frame_of(name))
    cut = [read.payload[:size] for size in range(len(read.payload))]

    assert _payload_differences(read, some(cut, one_in=5, turn=name)) == []


@UNCOUNTED
@pytest.mark.parametrize("name", WITH_PAYLOAD)
def test_both_judge_appended_bytes_alike(name: str) -> None:
    read = frame.parse_frame(frame_of(name))
    longer = [
        read.payload + bytes([value]) * size
        for size in range(1, 17)
        for value in (0, 1, 255)
    ]

    assert _payload_differences(read, longer) == []


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_both_judge_telling_values_of_every_payload_byte_alike(name: str) -> None:
    # Every member of every code space, flags, counts and the ends of levels.
    read = frame.parse_frame(frame_of(name))
    payload = read.payload
    # Every entry begins with the same link: one vector is enough for it.
    is_entry = read.header.frame_class in {FrameClass.EVENT, FrameClass.RESULT}
    begin = LINK_SIZE if is_entry and name != "event_agent_started" else 0
    altered = [
        payload[:at] + bytes([value]) + payload[at + 1 :]
        for at in range(begin, len(payload))
        for value in TELLING
    ]

    assert _payload_differences(read, some(altered, one_in=13, turn=name)) == []


@UNCOUNTED
@MANY
@given(data=st.binary(max_size=FRAME_LIMIT + 1) | frames())
def test_both_judge_any_frame_alike(data: bytes) -> None:
    assert _differences([data]) == []


@MANY
@given(header=HEADERS, payload=st.binary(max_size=1100))
def test_both_build_the_same_frame(header: Header, payload: bytes) -> None:
    def of(build: Callable[[Header, bytes], bytes]) -> bytes | None:
        try:
            return build(header, payload)
        except EncodeError:
            return None

    assert of(packed_frame.build_unsigned) == of(frame.build_unsigned)


@EVERY_PAIR
@SOME
@given(data=st.data())
def test_both_build_and_read_the_same(pair: Pair, data: st.DataObject) -> None:
    value = data.draw(records(pair.layout.record))

    encoded = pair.build(value)

    assert encoded == pair.layout.build(value)
    read = pair.parse(encoded)
    assert read == value
    # A number equals the member of a code space, and is none.
    assert repr(read) == repr(pair.layout.parse(encoded))


@UNCOUNTED
@EVERY_PAIR
@SOME
@given(data=st.data())
def test_both_judge_altered_bytes_alike(pair: Pair, data: st.DataObject) -> None:
    encoded = bytearray(pair.layout.build(data.draw(records(pair.layout.record))))
    for _ in range(data.draw(st.integers(1, 3))):
        offset = data.draw(st.integers(0, len(encoded) - 1))
        encoded[offset] = data.draw(st.integers(0, 0xFF))
    altered = bytes(encoded) + data.draw(st.binary(max_size=2))

    assert outcome_of(pair.parse, altered) == outcome_of(pair.layout.parse, altered)


@UNCOUNTED
@EVERY_PAIR
@SOME
@given(data=st.data())
def test_both_judge_cut_bytes_alike(pair: Pair, data: st.DataObject) -> None:
    encoded = pair.layout.build(data.draw(records(pair.layout.record)))
    cut = encoded[: data.draw(st.integers(0, len(encoded)))]

    assert outcome_of(pair.parse, cut) == outcome_of(pair.layout.parse, cut)


@UNCOUNTED
@EVERY_PAIR
@SOME
@given(data=st.binary(max_size=400))
def test_both_judge_arbitrary_bytes_alike(pair: Pair, data: bytes) -> None:
    assert outcome_of(pair.parse, data) == outcome_of(pair.layout.parse, data)


@SOME
@given(
    data=st.binary(max_size=44),
    code=st.sampled_from(["event", "command"]),
    number=st.integers(0, 0xFFFF),
    schema=st.integers(0, 3),
)
def test_both_judge_unknown_types_and_schemas_alike(
    data: bytes, code: str, number: int, schema: int
) -> None:
    declared: dict[str, Callable[..., object]] = {
        "event": event.parse_event,
        "command": command.parse_command,
    }
    packed: dict[str, Callable[..., object]] = {
        "event": packed_event.parse_event,
        "command": packed_command.parse_command,
    }

    assert outcome_of(
        lambda body: packed[code](number, schema, body), data
    ) == outcome_of(lambda body: declared[code](number, schema, body), data)


@EVERY_PAIR
@SOME
@given(data=st.data())
def test_no_value_outside_its_field_is_built(pair: Pair, data: st.DataObject) -> None:
    # Stricter than the declarations on records that are none (construct takes an
    # integer for bytes), never laxer and never different.
    value = data.draw(records(pair.layout.record))
    name = data.draw(st.sampled_from([*pair.layout.record.__dataclass_fields__]))
    strange = data.draw(
        st.none()
        | st.integers()
        | st.sampled_from([101, 255, 256, 360, 0xFFFF, 0xFFFF_FFFF, 0x7FFF_FFFF])
        | st.binary(max_size=40)
        | st.text(max_size=3)
    )
    object.__setattr__(value, name, strange)

    try:
        encoded = pair.build(value)
    except EncodeError:
        return

    assert encoded == pair.layout.build(value)


@pytest.mark.parametrize(
    ("name", "strange"),
    [
        ("flags", 0x10),
        ("flags", -1),
        ("suite", 3),
        ("type", 0x1_0000),
        ("schema", -1),
        ("key_id", bytes(7)),
        ("session_id", bytes(17)),
        ("msg_id", b""),
        ("seq", 1 << 64),
    ],
)
def test_both_refuse_a_header_value_outside_its_field(
    name: str, strange: object
) -> None:
    header = frame.parse_frame(frame_of("cmd_unlock")).header
    object.__setattr__(header, name, strange)

    for build in (frame.build_unsigned, packed_frame.build_unsigned):
        with pytest.raises(EncodeError):
            build(header, b"")


def test_a_refusal_names_record_field_and_value() -> None:
    stopped = EngineStopped(RENTAL, 1, 100)
    encoded = bytearray(packed_event.build_event(stopped))
    encoded[20] = 101

    with pytest.raises(DecodeError, match="EngineStopped: energy_pct may not be 101"):
        packed_event.parse_event(0x8113, 1, bytes(encoded))


def test_an_event_is_built_as_the_declarations_build_it() -> None:
    low = EnergyLow(RENTAL, 24, None)

    assert packed_event.build_event(low) == event.build_event(low)


def test_a_command_is_built_as_the_declarations_build_it() -> None:
    unlock = command.Unlock(RENTAL, 7)

    assert packed_command.build_command(unlock) == command.build_command(unlock)


def test_both_refuse_a_frame_that_is_too_large_for_its_class() -> None:
    header = frame.parse_frame(frame_of("cmd_unlock")).header

    for build in (frame.build_unsigned, packed_frame.build_unsigned):
        with pytest.raises(EncodeError, match="1025 bytes, limit 1024"):
            build(header, bytes(1024 - frame.OVERHEAD + 1))


RESERVE: Final = command.Reserve(
    RENTAL, 1, 2, LockDefault.PARK, b"de", (RENTAL,) * 4, bytes(256)
)
SAMPLE: Final = telemetry.Sample(
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, Bits.LOCKED, RentalMode.PARKED, 11
)
RECEIPT: Final = Receipt(bytes(8), 0, bytes(32), 1, (Gap(1, 2),) * 16, ())
HELLO: Final = parse_content(frame.parse_frame(frame_of("hello_first"))).body
LOW: Final = EnergyLow(RENTAL, 24, 100)


@pytest.mark.parametrize(
    ("record", "name", "strange"),
    [
        (RESERVE, "rental_id", bytes(15)),
        (RESERVE, "language", b"deu"),
        (RESERVE, "language", b"De"),
        (RESERVE, "language", b"d1"),
        (RESERVE, "cards", (RENTAL,) * 5),
        (RESERVE, "cards", (RENTAL, b"")),
        (RESERVE, "sealed", bytes(257)),
        (RESERVE, "lock_default", 2),
        (SAMPLE, "latitude_e7", 900_000_001),
        (SAMPLE, "latitude_e7", 0x7FFF_FFFF),
        (SAMPLE, "longitude_e7", -1_800_000_001),
        (SAMPLE, "longitude_e7", 0x7FFF_FFFF),
        (SAMPLE, "heading_deg", 360),
        (SAMPLE, "heading_deg", -1),
        (SAMPLE, "speed_dkmh", 0xFFFF),
        (SAMPLE, "odometer_m", 0xFFFF_FFFF),
        (SAMPLE, "energy_pct", 101),
        (SAMPLE, "energy_pct", 255),
        (SAMPLE, "washer_pct", -1),
        (SAMPLE, "bits", 0x1000),
        (SAMPLE, "mode", 6),
        (RECEIPT, "gaps", (Gap(1, 2),) * 17),
        (RECEIPT, "gaps", (Gap(2, 1),)),
        (RECEIPT, "head_hash", bytes(31)),
        (HELLO, "firmware", bytes(5)),
        (LOW, "energy_pct", None),
        (LOW, "energy_pct", 101),
        (LOW, "range_km", 0xFFFF),
        (LOW, "rental_id", bytes(17)),
    ],
)
def test_both_refuse_a_value_outside_its_field(
    record: Any, name: str, strange: object
) -> None:
    pair = BY_RECORD[Telemetry if record is SAMPLE else type(record)]
    right: Any = Telemetry((record,)) if record is SAMPLE else record
    changed = replace(record, **{name: strange})
    wrong: Any = Telemetry((changed,)) if record is SAMPLE else changed

    assert pair.build(right) == pair.layout.build(right)
    for build in (pair.build, pair.layout.build):
        with pytest.raises(EncodeError):
            build(wrong)


def test_both_refuse_a_sample_too_many() -> None:
    for build in (packed_telemetry.build_telemetry, telemetry.TELEMETRY.build):
        with pytest.raises(EncodeError):
            build(Telemetry((SAMPLE,) * 31))


def test_flags_are_kept_for_allowed_numbers_only() -> None:
    # The cache that makes them fast stays within 4096 entries whatever comes.
    before = bits_of.cache_info().currsize
    for raw in range(0x1000, 0x2000):
        with pytest.raises(ValueError, match="reserved bits"):
            bits_of(raw)

    assert bits_of.cache_info().currsize == before
    assert bits_of(0x0801) == Bits.LOCKED | Bits.WINDOW_OPEN


def test_records_are_frozen() -> None:
    link = packed_entry.LINK.parse(bytes(44))

    with pytest.raises(AttributeError):
        link.clock_quality = ClockQuality.NTP  # type: ignore[misc]  # the point


def test_a_format_that_misses_a_field_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="has 2 fields"):
        Packed(Gap, U8)
    with pytest.raises(TypeError, match="has 2 fields"):
        Varied(Gap, U8)
    with pytest.raises(TypeError, match="is not a dataclass"):
        Packed(int, ID)
