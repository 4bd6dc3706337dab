"""What a verified frame says: its payload as records, whatever its class.

Receivers that expect one class call its own parser. This is for those who meet every
class: the bridge's intake, logs, the command line and the test vectors.
"""

from dataclasses import dataclass
from typing import Final, assert_never

from protocol.codes import Code, FrameClass, FrameType
from protocol.command import Command, parse_command
from protocol.entry import EntryLink, split_entry
from protocol.errors import DecodeError
from protocol.event import EventBody, parse_event
from protocol.frame import Frame, Header
from protocol.hello import HELLO, Hello
from protocol.layout import Layout
from protocol.place import EVENT_PLACE, EventPlace
from protocol.receipt import RECEIPT, Receipt
from protocol.result import RESULT, Result
from protocol.telemetry import TELEMETRY, Telemetry

FRAME_SCHEMA: Final = 1
"""Revision of the payload of RESULT, TELEM, HELLO and RECEIPT in protocol version 1."""

Body = Command | EventBody | Result | Telemetry | EventPlace | Hello | Receipt

TYPE_OF_CLASS: Final[dict[FrameClass, FrameType]] = {
    FrameClass.RECEIPT: FrameType.RECEIPT,
    FrameClass.RESULT: FrameType.RESULT,
    FrameClass.TELEM: FrameType.TELEMETRY,
    FrameClass.HELLO: FrameType.HELLO,
}
"""The type of each class that is neither a command nor an event; TELEM knows PLACE
besides."""

UNDEFINED_CLASSES: Final = frozenset(
    {FrameClass.SYNC, FrameClass.TRUST, FrameClass.DEATH}
)
"""Classes whose number and label are fixed and whose payload is not yet: such a frame
can be verified, and is then refused with UNKNOWN_OPCODE."""


@dataclass(frozen=True, slots=True)
class Content:
    """The payload of one frame."""

    link: EntryLink | None
    """Its place in the ledger; only events and results have one."""
    body: Body
    """What it says."""


def parse_content(frame: Frame) -> Content:  # noqa: PLR0911 - one for each class
    """Decode the payload of a frame; verify the frame first and believe it then.

    Raises:
        DecodeError: UNKNOWN_OPCODE or UNSUPPORTED_SCHEMA if this side is older than the
            sender; BAD_LEN, BAD_PARAM or NON_CANONICAL if the payload is wrong.
    """
    header, payload = frame.header, frame.payload
    match header.frame_class:
        case FrameClass.CMD:
            return Content(None, parse_command(header.type, header.schema, payload))
        case FrameClass.EVENT:
            link, body = split_entry(payload)
            return Content(link, parse_event(header.type, header.schema, body))
        case FrameClass.RESULT:
            link, body = split_entry(payload)
            return Content(link, _parse(header, RESULT, body))
        case FrameClass.TELEM if header.type == FrameType.PLACE:
            return Content(None, _parse(header, EVENT_PLACE, payload, FrameType.PLACE))
        case FrameClass.TELEM:
            return Content(None, _parse(header, TELEMETRY, payload))
        case FrameClass.HELLO:
            return Content(None, _parse(header, HELLO, payload))
        case FrameClass.RECEIPT:
            return Content(None, _parse(header, RECEIPT, payload))
        case FrameClass.SYNC | FrameClass.TRUST | FrameClass.DEATH:
            raise DecodeError(
                Code.UNKNOWN_OPCODE,
                f"class {header.frame_class.label} has no payload in this version",
            )
        case _:
            assert_never(header.frame_class)


_OneType = Result | Telemetry | EventPlace | Hello | Receipt


def _parse(
    header: Header,
    layout: Layout[Result]
    | Layout[Telemetry]
    | Layout[EventPlace]
    | Layout[Hello]
    | Layout[Receipt],
    payload: bytes,
    kind: FrameType | None = None,
) -> _OneType:
    label = header.frame_class.label
    if header.type != (kind or TYPE_OF_CLASS[header.frame_class]):
        raise DecodeError(
            Code.UNKNOWN_OPCODE, f"type 0x{header.type:04X} of class {label}"
        )
    if header.schema != FRAME_SCHEMA:
        raise DecodeError(
            Code.UNSUPPORTED_SCHEMA,
            f"schema {header.schema} of class {label}, this reads {FRAME_SCHEMA}",
        )
    return layout.parse(payload)
