"""The negative test vectors: named mutations, each with the code that it must cause.

Three stages refuse: reading the frame's layout (`parse`), checking who signed
(`verify`) and reading the payload of a frame that its owner really signed (`content`).
"""

from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import Final

from protocol.codes import Code, FrameClass
from protocol.frame import FRAME_LIMIT, OVERHEAD
from protocol.keys import SIGNATURE_SIZE
from protocol.signing import sign_frame, to_be_signed
from tools.published_keys import (
    CAR_A_KEY,
    CAR_B,
    CAR_B_KEY,
    COMMAND_KEY,
    FLEET_ID,
    OTHER_FLEET_ID,
    TestKey,
)
from tools.vector_cases import Case
from tools.vector_controls import messages

_BODY: Final = 20
"""Offset in a command's payload behind rental id and expected version."""

_EVENT_BODY: Final = 44
"""Offset in an event's payload behind the entry link."""

_HEADER: Final = 92


@unique
class Stage(StrEnum):
    """Where a bad frame is refused."""

    PARSE = "parse"
    VERIFY = "verify"
    CONTENT = "content"


@dataclass(frozen=True, slots=True)
class Fault:
    """A frame that must be refused."""

    name: str
    """Of its file, without suffix."""
    mutation: str
    """What was done to which vector."""
    why: str
    """What would go wrong if it were accepted."""
    stage: Stage
    """Where it must be refused."""
    code: Code
    """With which code."""
    frame: bytes
    """The bad bytes."""
    key: TestKey
    """The key under which the receiver verifies."""
    fleet_id: bytes = FLEET_ID
    """The receiver's fleet."""


def faults() -> tuple[Fault, ...]:
    """Return every negative vector."""
    cases = {case.name: case for case in messages()}
    return (*_unreadable(cases), *_forged(cases), *_senseless(cases))


def _put(data: bytes, offset: int, new: bytes) -> bytes:
    return data[:offset] + new + data[offset + len(new) :]


def _flip(data: bytes, offset: int) -> bytes:
    return _put(data, offset, bytes([data[offset] ^ 1]))


def _unreadable(cases: dict[str, Case]) -> tuple[Fault, ...]:
    unlock = cases["cmd_unlock"].frame
    sample = cases["telem_full"].frame
    fat = _put(sample, 10, (1201 - OVERHEAD).to_bytes(2, "big")) + bytes(
        1201 - len(sample)
    )
    rows = (
        (
            "bad_magic",
            "byte 0 of cmd_unlock set to 0x47",
            "not this protocol",
            Code.BAD_MAGIC,
            _put(unlock, 0, b"\x47"),
        ),
        (
            "bad_version",
            "byte 2 of cmd_unlock set to 2",
            "another version has another layout",
            Code.BAD_VERSION,
            _put(unlock, 2, b"\x02"),
        ),
        (
            "bad_suite",
            "byte 3 of cmd_unlock set to 0",
            "an unsigned suite must not exist",
            Code.SUITE_FORBIDDEN,
            _put(unlock, 3, b"\x00"),
        ),
        (
            "bad_class",
            "byte 4 of cmd_unlock set to 0x7F",
            "a class that nobody defined",
            Code.BAD_CLASS,
            _put(unlock, 4, b"\x7f"),
        ),
        (
            "critical_flag",
            "byte 5 of cmd_unlock set to 0x10",
            "its sender says that it must be understood",
            Code.CRITICAL_FLAG,
            _put(unlock, 5, b"\x10"),
        ),
        ("empty", "no bytes", "the shortest input", Code.BAD_LEN, b""),
        (
            "too_short",
            "the first 155 bytes of cmd_unlock",
            "no room for header and signature",
            Code.BAD_LEN,
            unlock[: OVERHEAD - 1],
        ),
        (
            "too_long",
            "cmd_unlock and zeros, 4097 bytes",
            "refused before anything is read",
            Code.BAD_LEN,
            unlock + bytes(FRAME_LIMIT + 1 - len(unlock)),
        ),
        (
            "truncated",
            "cmd_unlock without its last byte",
            "cut off on the way",
            Code.BAD_LEN,
            unlock[:-1],
        ),
        (
            "appended",
            "cmd_unlock and a zero byte",
            "bytes that nobody signed",
            Code.BAD_LEN,
            unlock + b"\0",
        ),
        (
            "class_limit",
            "telem_full made 1201 bytes long, its length field adjusted",
            "telemetry that does not fit one TCP segment",
            Code.BAD_LEN,
            fat,
        ),
    )
    return tuple(
        Fault(name, mutation, why, Stage.PARSE, code, frame, COMMAND_KEY)
        for name, mutation, why, code, frame in rows
    )


def _forged(cases: dict[str, Case]) -> tuple[Fault, ...]:
    unlock = cases["cmd_unlock"].frame
    ended = cases["event_rental_ended"]
    unsigned = ended.frame[:-SIGNATURE_SIZE]
    tbs = to_be_signed(FrameClass.EVENT, FLEET_ID, unsigned)
    by_other = unsigned + CAR_B_KEY.key.sign(tbs)
    own_name = sign_frame(
        replace(ended.header, key_id=CAR_B_KEY.key.key_id),
        ended.payload,
        fleet_id=FLEET_ID,
        key=CAR_B_KEY.key,
    )
    bad = Code.BAD_SIGNATURE
    by_signer = (
        (
            "suite_p256",
            "byte 3 of cmd_unlock set to 2",
            "a key is for one suite only",
            Code.SUITE_FORBIDDEN,
            _put(unlock, 3, b"\x02"),
        ),
        (
            "reflected",
            "byte 4 of cmd_unlock set to 0x81",
            "a command sent back as a result",
            bad,
            _put(unlock, 4, b"\x81"),
        ),
        (
            "relabelled",
            "byte 4 of cmd_unlock set to 0x02",
            "a command passed off as a receipt",
            bad,
            _put(unlock, 4, b"\x02"),
        ),
        (
            "other_car",
            "bytes 12 to 27 of cmd_unlock set to car B",
            "a command sent to another car",
            bad,
            _put(unlock, 12, CAR_B.raw),
        ),
        (
            "other_opcode",
            "byte 7 of cmd_unlock set to 0x03",
            "another command under the same signature",
            bad,
            _put(unlock, 7, b"\x03"),
        ),
        (
            "other_session",
            "bit 0 of byte 51 of cmd_unlock flipped",
            "an old command made to fit this session",
            bad,
            _flip(unlock, 51),
        ),
        (
            "longer_life",
            "bit 0 of byte 64 of cmd_unlock flipped",
            "an expired command made to live again",
            bad,
            _flip(unlock, 64),
        ),
        (
            "flipped_payload",
            "bit 0 of byte 92 of cmd_unlock flipped",
            "another rental",
            bad,
            _flip(unlock, _HEADER),
        ),
        (
            "flipped_signature",
            "bit 0 of the last byte of cmd_unlock flipped",
            "the signature itself",
            bad,
            _flip(unlock, len(unlock) - 1),
        ),
    )
    by_car = (
        (
            "other_signer",
            "event_rental_ended signed by car B under the name of car A's key",
            "one car reporting for another",
            bad,
            by_other,
        ),
        (
            "unknown_key",
            "event_rental_ended signed by car B under its own name",
            "a key that is not this car's",
            Code.UNKNOWN_KEY,
            own_name,
        ),
    )
    return (
        *(
            Fault(name, mutation, why, Stage.VERIFY, code, frame, COMMAND_KEY)
            for name, mutation, why, code, frame in by_signer
        ),
        *(
            Fault(name, mutation, why, Stage.VERIFY, code, frame, CAR_A_KEY)
            for name, mutation, why, code, frame in by_car
        ),
        Fault(
            "other_fleet",
            "cmd_unlock as it is, at a receiver of another fleet id",
            "a command of the staging environment in production",
            Stage.VERIFY,
            bad,
            unlock,
            COMMAND_KEY,
            OTHER_FLEET_ID,
        ),
    )


def _senseless(cases: dict[str, Case]) -> tuple[Fault, ...]:
    def signed(
        name: str, offset: int, new: bytes, **header: FrameClass | int
    ) -> tuple[bytes, TestKey]:
        """Sign a case again with other payload bytes or header values."""
        case = cases[name]
        changed = replace(case.header, **header)  # type: ignore[arg-type] # they fit
        payload = _put(case.payload, offset, new)
        frame = sign_frame(changed, payload, fleet_id=FLEET_ID, key=case.key.key)
        return frame, case.key

    unknown, newer, bad = (
        Code.UNKNOWN_OPCODE,
        Code.UNSUPPORTED_SCHEMA,
        Code.BAD_PARAM,
    )
    rows = (
        (
            "unknown_opcode",
            "cmd_unlock with type 0x01FF",
            "an older car must refuse it whole",
            unknown,
            signed("cmd_unlock", 0, b"", type=0x01FF),
        ),
        (
            "unknown_event",
            "event_parked with type 0x81FF",
            "an older receiver keeps the frame unread",
            unknown,
            signed("event_parked", 0, b"", type=0x81FF),
        ),
        (
            "unknown_type",
            "hello_first with type 0x83FF",
            "a class has the types of its table only",
            unknown,
            signed("hello_first", 0, b"", type=0x83FF),
        ),
        *(
            (
                f"unknown_{vector.split('_')[0]}",
                f"{vector} with type 0",
                "a class has the types of its table only",
                unknown,
                signed(vector, 0, b"", type=0),
            )
            for vector in ("sync_time", "trust_by_roots", "death_lost")
        ),
        (
            "newer_command",
            "cmd_unlock with schema 2",
            "fields that this car does not know",
            newer,
            signed("cmd_unlock", 0, b"", schema=2),
        ),
        (
            "newer_event",
            "event_parked with schema 2",
            "kept unread, never half read",
            newer,
            signed("event_parked", 0, b"", schema=2),
        ),
        (
            "newer_receipt",
            "receipt_plain with schema 0",
            "there is no schema 0",
            newer,
            signed("receipt_plain", 0, b"", schema=0),
        ),
        (
            "lock_mode",
            "cmd_lock with mode 9",
            "an enumeration is closed",
            bad,
            signed("cmd_lock", _BODY, b"\x09"),
        ),
        (
            "reserved_byte",
            "cmd_lock with a reserved byte of 1",
            "reserved bytes are for later versions",
            bad,
            signed("cmd_lock", _BODY + 3, b"\x01"),
        ),
        (
            "hazards_too_long",
            "cmd_flash_hazards with 31 s",
            "a bound of the declaration",
            bad,
            signed("cmd_flash_hazards", _BODY, b"\x1f"),
        ),
        (
            "language",
            "cmd_reserve with language D0",
            "two lower-case letters",
            bad,
            signed("cmd_reserve", _BODY + 9, b"D0"),
        ),
        (
            "five_cards",
            "cmd_reserve with a card count of 5",
            "the count is bounded before anything is read",
            bad,
            signed("cmd_reserve", _BODY + 11, b"\x05"),
        ),
        (
            "sealed_length",
            "cmd_reserve_bare with a sealed length of 257",
            "the length is bounded before anything is read",
            bad,
            signed("cmd_reserve_bare", _BODY + 12, b"\x01\x01"),
        ),
        (
            "short_payload",
            "cmd_lock with its payload cut to 16 bytes",
            "a payload that ends early",
            bad,
            _cut(cases["cmd_lock"], 16),
        ),
        (
            "long_payload",
            "cmd_unlock with two bytes behind its payload",
            "bytes that no field explains",
            Code.NON_CANONICAL,
            signed("cmd_unlock", _BODY, b"\0\0"),
        ),
        (
            "percent",
            "event_engine_stopped with 101 %",
            "neither a level nor not measured",
            bad,
            signed("event_engine_stopped", _EVENT_BODY + 20, b"\x65"),
        ),
        (
            "unknown_bits",
            "event_rental_ended with bit 15 set",
            "bits that version 1 does not define",
            bad,
            signed("event_rental_ended", _EVENT_BODY + 116, b"\x80"),
        ),
        (
            "clock_quality",
            "event_parked with clock quality 9",
            "the link is checked like the body",
            bad,
            signed("event_parked", 40, b"\x09"),
        ),
        (
            "short_entry",
            "event_parked cut to 43 bytes of payload",
            "no room for the entry link",
            Code.BAD_LEN,
            _cut(cases["event_parked"], 43),
        ),
        (
            "heading",
            "telem_one with a heading of 360 degrees",
            "0 and 360 would be two encodings of north",
            bad,
            signed("telem_one", 13, b"\x01\x68"),
        ),
        (
            "latitude",
            "telem_one with a latitude above 90 degrees",
            "no such place",
            bad,
            signed("telem_one", 3, b"\x35\xa4\xe9\x01"),
        ),
        (
            "gap_backwards",
            "receipt_trouble with a gap from 6 to 5",
            "a range that ends before it begins",
            bad,
            signed("receipt_trouble", 58, b"\x06"),
        ),
    )
    return tuple(
        Fault(name, mutation, why, Stage.CONTENT, code, frame, key)
        for name, mutation, why, code, (frame, key) in rows
    )


def _cut(case: Case, size: int) -> tuple[bytes, TestKey]:
    payload = case.payload[:size]
    frame = sign_frame(case.header, payload, fleet_id=FLEET_ID, key=case.key.key)
    return frame, case.key
