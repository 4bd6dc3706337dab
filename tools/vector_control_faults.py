"""Negative test vectors of synchronisation, bundles, deaths, hellos and P-256."""

from typing import Final

from protocol.codes import Code
from protocol.keys import SIGNATURE_SIZE
from protocol.p256 import GROUP_ORDER
from protocol.signing import sign_frame
from tools.published_keys import FLEET_ID
from tools.vector_cases import Case
from tools.vector_controls import messages
from tools.vector_faults import Fault, Stage

_NUMBER: Final = 32

_Row = tuple[str, str, str, str, int, bytes]
"""Name, changed vector, how, why, offset in the payload, bytes that stand there now."""

_REST: Final = -(16 + 2 + 1 + 1 + 8 + 1)
"""The nonce of a hello without configurations, from the end of its payload."""

_ROWS: Final[tuple[_Row, ...]] = (
    ("resend_backwards", "sync_resend", "last 2, first 3",
     "a range that ends before it begins", 23, b"\x02"),
    ("resend_from_0", "sync_resend", "first 0",
     "entries are counted from 1", 15, b"\x00"),
    ("config_kind", "sync_config", "kind 9",
     "a kind that version 1 does not define", 0, b"\x09"),
    ("config_reserved", "sync_config", "a reserved byte of 1",
     "reserved bytes are for later versions", 3, b"\x01"),
    ("config_version_0", "sync_config", "version 0",
     "0 is a car that has none", 7, b"\x00"),
    ("config_empty", "sync_config", "length 0",
     "nothing to activate", 8, bytes(4)),
    ("config_too_long", "sync_config", "length 262145",
     "the length is bounded before anything is kept", 11, b"\x01"),
    ("chunk_empty", "sync_config_chunk_last", "a data length of 0 and no byte of it",
     "a chunk that brings nothing", 12, bytes(2)),
    ("chunk_too_long", "sync_config_chunk", "a data length of 801",
     "the length is bounded before anything is read", 12, b"\x03\x21"),
    ("chunk_beyond", "sync_config_chunk_last", "offset 262144",
     "behind the end of any configuration", 8, b"\x00\x04\x00\x00"),
    ("time_quality", "sync_time", "clock quality 9",
     "an enumeration is closed", 0, b"\x09"),
    ("death_reason", "death_lost", "reason 2",
     "an enumeration is closed", 0, b"\x02"),
    ("death_reserved", "death_stopped", "a reserved byte of 1",
     "reserved bytes are for later versions", 7, b"\x01"),
    ("hello_flags", "hello_first", "flag 0x08",
     "a flag that version 1 does not define", _REST + 18, b"\x08"),
    ("hello_clock", "hello_first", "clock quality 5",
     "an enumeration is closed", _REST + 19, b"\x05"),
    ("hello_configs", "hello_first", "nine configurations",
     "the count is bounded before anything is read", -1, b"\x09"),
    ("trust_body_length", "trust_by_revoke", "a body length of 3073",
     "the length is bounded before anything is read", 0, b"\x0c\x01"),
    ("trust_signatures", "trust_by_revoke", "nine signatures",
     "the count is bounded before anything is read", -73, b"\x09"),
)  # fmt: skip # one fault in two lines


def control_faults() -> tuple[Fault, ...]:
    """Return every negative vector of these messages."""
    cases = {case.name: case for case in messages()}
    return (
        *(_senseless(cases[row[1]], row) for row in _ROWS),
        *_of_p256(cases["p256_cmd_unlock"]),
    )


def _senseless(case: Case, row: _Row) -> Fault:
    """Sign a case again with other bytes in its payload."""
    name, of, what, why, offset, new = row
    begin = offset % len(case.payload)
    payload = case.payload[:begin] + new + case.payload[begin + len(new) :]
    if name == "chunk_empty":
        payload = payload[: begin + len(new)]
    return Fault(
        name,
        f"{of} with {what}",
        why,
        Stage.CONTENT,
        Code.BAD_PARAM,
        sign_frame(case.header, payload, fleet_id=FLEET_ID, key=case.key.key),
        case.key,
    )


def _of_p256(case: Case) -> tuple[Fault, ...]:
    """Return signatures that ECDSA, or a careless decoder, would take."""
    unsigned = case.frame[:-SIGNATURE_SIZE]
    r = case.frame[-SIGNATURE_SIZE:-_NUMBER]
    s = case.frame[-_NUMBER:]
    high = (GROUP_ORDER - int.from_bytes(s, "big")).to_bytes(_NUMBER, "big")
    order, zero = GROUP_ORDER.to_bytes(_NUMBER, "big"), bytes(_NUMBER)
    rows = (
        ("p256_high_s", "s replaced by n - s",
         "every signature would have a second form", r + high),
        ("p256_r_0", "r = 0", "no signature has it", zero + s),
        ("p256_s_0", "s = 0", "no signature has it", r + zero),
        ("p256_r_order", "r = n", "0 in another encoding", order + s),
        ("p256_s_order", "s = n", "0 in another encoding", r + order),
        ("p256_swapped", "s before r", "r comes first", s + r),
    )  # fmt: skip # one fault in two lines
    return (
        *(
            Fault(
                name,
                f"p256_cmd_unlock with {what}",
                why,
                Stage.VERIFY,
                Code.BAD_SIGNATURE,
                unsigned + signature,
                case.key,
            )
            for name, what, why, signature in rows
        ),
        Fault(
            "p256_as_ed25519",
            "byte 3 of p256_cmd_unlock set to 1",
            "a key is for one suite only",
            Stage.VERIFY,
            Code.SUITE_FORBIDDEN,
            case.frame[:3] + b"\x01" + case.frame[4:],
            case.key,
        ),
    )
