"""Negative test vectors of texts, lists, codes and places in the catalogue."""

from dataclasses import dataclass
from typing import Final

from protocol.codes import Code
from protocol.signing import sign_frame
from tools.published_keys import FLEET_ID
from tools.vector_controls import messages
from tools.vector_faults import Fault, Stage

_BODY: Final = 20
"""Offset in a command's payload behind rental id and expected version."""

_EVENT_BODY: Final = 44
"""Offset in an event's payload behind the entry link."""

_NAME: Final = _BODY + 34
_NOTE: Final = _EVENT_BODY + 52
_PLACE: Final = 32


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    """Of the vector."""
    of: str
    """Which message was changed."""
    what: str
    """How."""
    why: str
    """What would go wrong if it were accepted."""
    offset: int
    """In its payload."""
    new: bytes
    """What stands there instead."""
    grow: bool = False
    """Whether the payload ends with `new`."""
    code: Code = Code.BAD_PARAM
    """With what it must be refused."""


_ROWS: Final = (
    _Row("payment_outcome", "cmd_payment_decision", "decision 3",
         "an enumeration is closed", _BODY + 16, b"\x03"),
    _Row("currency", "cmd_payment_decision", "currency eur",
         "three capital letters: one spelling of a currency", _BODY + 17, b"eur"),
    _Row("currency_digit", "cmd_payment_decision", "currency EU1",
         "three capital letters", _BODY + 17, b"EU1"),
    _Row("grant_action", "cmd_grant", "action 0",
         "a grant is added or withdrawn", _BODY, b"\x00"),
    _Row("grant_rights", "cmd_grant", "right 0x0008",
         "a right that version 1 does not define", _BODY + 52, b"\x00\x08"),
    _Row("name_too_long", "cmd_handover_request", "a name of 33 bytes",
         "the length is bounded before anything is read",
         _NAME, b"\x00\x21" + b"n" * 33, grow=True),
    _Row("name_utf8", "cmd_handover_request", "bytes C3 28 in the name",
         "no UTF-8", _NAME + 2, b"\xc3\x28"),
    _Row("name_overlong", "cmd_handover_request", "bytes C0 AF in the name",
         "a second encoding of a slash", _NAME + 2, b"\xc0\xaf"),
    _Row("name_control", "cmd_handover_request", "a line feed in the name",
         "a driver's display and a list have one line", _NAME + 2, b"\n"),
    _Row("handover_latitude", "cmd_handover_offer", "a latitude above 90 degrees",
         "no such place", _BODY + 24, b"\x35\xa4\xe9\x01"),
    _Row("handover_five_cards", "cmd_handover_offer", "a card count of 5",
         "the count is bounded before anything is read", _BODY + 32, b"\x05"),
    _Row("service_request", "cmd_service", "request 3",
         "an enumeration is closed", _BODY, b"\x03"),
    _Row("five_arguments", "cmd_show_message", "an argument count of 5",
         "the count is bounded before anything is read", _BODY + 2, b"\x05"),
    _Row("argument_too_long", "cmd_show_message", "an argument length of 33",
         "the length is bounded before anything is read", _BODY + 3, b"\x00\x21"),
    _Row("message_for_ever", "cmd_show_message_bare", "0 seconds",
         "a message is shown for 1 to 255 s", _BODY + 3, b"\x00"),
    _Row("component", "cmd_restart", "component 9",
         "an enumeration is closed", _BODY, b"\x09"),
    _Row("level_at_start", "event_rental_started", "101 %",
         "neither a level nor not measured", _EVENT_BODY + 22, b"\x65"),
    _Row("damage_place", "event_damage_reported", "place 0",
         "an enumeration is closed", _EVENT_BODY + 16, b"\x00"),
    _Row("note_too_long", "event_damage_reported", "a note of 201 bytes",
         "the length is bounded before anything is read",
         _NOTE, b"\x00\xc9" + b"n" * 201 + bytes(32), grow=True),
    _Row("note_utf8", "event_damage_reported", "bytes C3 28 in the note",
         "no UTF-8", _NOTE + 2, b"\xc3\x28"),
    _Row("note_surrogate", "event_damage_reported", "bytes ED A0 80 in the note",
         "half a surrogate pair is no character", _NOTE + 2, b"\xed\xa0\x80"),
    _Row("stars", "event_cleanliness_rated", "6 for outside",
         "1 to 5", _EVENT_BODY + 17, b"\x06"),
    _Row("refusal_code", "event_configuration_refused", "code 0x0999",
         "a code that version 1 does not define", _EVENT_BODY + 2, b"\x09\x99"),
    _Row("key_suite", "event_key_rotated", "suite 3",
         "a key of a suite that nobody can check", _EVENT_BODY, b"\x03"),
    _Row("key_padding", "event_key_rotated", "a byte behind the key of 1",
         "two encodings of one key", _EVENT_BODY + 33, b"\x01"),
    _Row("service_mode_flag", "event_service_mode", "on is 2",
         "yes is 1 and no is 0", _EVENT_BODY, b"\x02"),
    _Row("place_latitude", "place_rental_started", "a latitude above 90 degrees",
         "no such place", _PLACE, b"\x35\xa4\xe9\x01"),
    _Row("place_longitude", "place_rental_started", "a longitude below -180 degrees",
         "no such place", _PLACE + 4, b"\x94\xb6\x2d\xff"),
    _Row("place_appended", "place_rental_started", "a zero byte behind it",
         "bytes that no field explains", _PLACE + 12, b"\x00",
         code=Code.NON_CANONICAL),
    _Row("place_short", "place_rental_started", "its payload cut to 43 bytes",
         "a payload that ends early", _PLACE + 11, b"", grow=True),
    _Row("commitment_missing", "event_parked", "its commitment cut off",
         "the layout of drafts before version 1 was frozen", _EVENT_BODY + 24, b"",
         grow=True),
)  # fmt: skip


def catalogue_faults() -> tuple[Fault, ...]:
    """Return the negative vectors of these fields, each signed by its owner."""
    cases = {case.name: case for case in messages()}
    faults = []
    for row in _ROWS:
        case = cases[row.of]
        rest = b"" if row.grow else case.payload[row.offset + len(row.new) :]
        payload = case.payload[: row.offset] + row.new + rest
        frame = sign_frame(case.header, payload, fleet_id=FLEET_ID, key=case.key.key)
        faults.append(
            Fault(
                row.name,
                f"{row.of} with {row.what}",
                row.why,
                Stage.CONTENT,
                row.code,
                frame,
                case.key,
            )
        )
    return tuple(faults)
