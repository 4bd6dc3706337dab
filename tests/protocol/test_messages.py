"""Commands, events, results and codes: what their declarations promise."""

import pytest

from protocol.codes import (
    Bits,
    ClockQuality,
    Code,
    EventType,
    FrameClass,
    FrameType,
    Lane,
    Opcode,
    RentalMode,
    Retry,
)
from protocol.command import (
    COMMANDS,
    OPCODE_OF,
    Unlock,
    build_command,
    parse_command,
)
from protocol.entry import LINK, LINK_SIZE
from protocol.errors import DecodeError
from protocol.event import (
    EVENTS,
    TYPE_OF,
    PinAccepted,
    billed_minutes,
    build_event,
    parse_event,
)
from protocol.result import RESULT, RETRY_OF, retry_of
from protocol.telemetry import SAMPLE
from tests.protocol.vector_file import VECTORS
from tools.published_keys import RENTAL


@pytest.mark.parametrize(
    ("duration_ms", "minutes"),
    [
        (0, 0),  # nothing happened, nothing is billed
        (1, 1),  # a minute that began counts
        (59_999, 1),
        (60_000, 1),  # a full minute is one, not two
        (60_001, 2),
        (119_999, 2),
        (120_000, 2),
        (831_000, 14),  # 13 min 51 s
        (170_000, 3),
        (86_400_000, 1_440),
        (2**63, 153_722_867_280_913),  # exact: no float is involved
    ],
)
def test_every_minute_that_began_is_billed(duration_ms: int, minutes: int) -> None:
    # FF-LED-27.
    # C27
    assert billed_minutes(duration_ms) == minutes


def test_the_report_s_vector_bills_driving_and_parking_each_for_itself() -> None:
    # FF-LED-27.
    body = VECTORS["event_rental_ended"]["fields"]["body"]

    driving_ms = body["total_ms"] - body["parking_ms"]

    assert body["driving_min"] == billed_minutes(driving_ms)
    assert body["parking_min"] == billed_minutes(body["parking_ms"])


def test_every_opcode_and_event_type_has_one_record_and_back() -> None:
    assert set(COMMANDS) == set(Opcode) == set(OPCODE_OF.values())
    assert set(EVENTS) == set(EventType) == set(TYPE_OF.values())


def test_the_lane_of_an_opcode_is_that_of_its_group() -> None:
    lanes = {0x01: Lane.ACCESS, 0x02: Lane.RENTAL, 0x03: Lane.SIGNALS}
    lanes |= {0x04: Lane.DIAGNOSTICS, 0x05: Lane.TRUST}

    for opcode, rule in COMMANDS.items():
        assert rule.lane is lanes[opcode >> 8]
        assert 0 < rule.ttl_limit_ms <= 60_000


@pytest.mark.parametrize("opcode", [0, 0x0100, 0x01FF, 0x8101, 0xFFFF])
def test_an_unknown_opcode_is_refused_whatever_its_payload(opcode: int) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_command(opcode, 1, b"")

    assert caught.value.code is Code.UNKNOWN_OPCODE


@pytest.mark.parametrize("schema", [0, 2, 255])
def test_a_newer_schema_is_refused_before_its_payload_is_read(schema: int) -> None:
    # FF-CMD-01.
    with pytest.raises(DecodeError) as in_command:
        parse_command(Opcode.UNLOCK, schema, b"")
    with pytest.raises(DecodeError) as in_event:
        parse_event(EventType.PARKED, schema, b"")

    assert in_command.value.code is in_event.value.code is Code.UNSUPPORTED_SCHEMA


def test_commands_and_events_are_built_by_their_type() -> None:
    assert build_command(Unlock(RENTAL, 8)) == RENTAL + b"\0\0\0\x08"
    assert build_event(PinAccepted(RENTAL)) == RENTAL


def test_fixed_records_have_the_documented_sizes() -> None:
    link = VECTORS["result_ok"]["fields"]["link"]
    assert len(bytes.fromhex(link["prev_hash"])) == 32
    frame = bytes.fromhex(VECTORS["result_ok"]["frame"])[92:-64]
    sample = bytes.fromhex(VECTORS["telem_one"]["frame"])[93:-64]

    assert LINK.build(LINK.parse(frame[:44])) == frame[:LINK_SIZE]
    assert len(RESULT.build(RESULT.parse(frame[44:]))) == 90
    assert len(SAMPLE.build(SAMPLE.parse(sample))) == 30


def test_only_a_code_that_allows_it_may_be_tried_again() -> None:
    # FF-RES-05.
    assert retry_of(Code.BUSY) is Retry.SAME_BYTES
    assert retry_of(Code.SESSION_STALE) is Retry.AFTER_RESYNC
    assert retry_of(Code.ROLE_FORBIDDEN) is Retry.NEVER
    assert not any(code.local_only for code in RETRY_OF)


@pytest.mark.parametrize("code", Code)
def test_a_code_is_local_or_told_to_the_sender(code: Code) -> None:
    assert code.local_only == (code >> 8 == 0x07)
    assert code.succeeded == (code in {Code.OK, Code.ALREADY_IN_STATE})


def test_codes_print_number_and_name() -> None:
    printed = [
        str(FrameClass.RESULT),
        str(Opcode.UNLOCK),
        str(EventType.RENTAL_ENDED),
        str(FrameType.HELLO),
        str(Code.BAD_SIGNATURE),
    ]

    assert printed == [
        "0x81 RESULT",
        "0x0101 UNLOCK",
        "0x810F RENTAL_ENDED",
        "0x8301 HELLO",
        "0x0709 BAD_SIGNATURE",
    ]


def test_modes_in_which_somebody_pays() -> None:
    paying = {mode for mode in RentalMode if mode.in_rental}

    assert paying == set(RentalMode) - {RentalMode.AVAILABLE, RentalMode.RESERVED}


def test_clocks_by_which_dates_may_be_judged() -> None:
    trusted = {quality for quality in ClockQuality if quality.trusted}

    assert trusted == {ClockQuality.SYNC, ClockQuality.NTP, ClockQuality.GNSS}


def test_the_known_bits_are_the_named_ones() -> None:
    assert sum(Bits) == 0x0FFF
