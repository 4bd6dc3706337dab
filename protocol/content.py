"""What a verified frame says: its payload as records, whatever its class.

Receivers that expect one class call its own parser. This is for those who meet every
class: the bridge's intake, logs, the command line and the test vectors.
"""

from dataclasses import dataclass
from typing import Any, Final, assert_never

from protocol.codes import Code, FrameClass, FrameType
from protocol.command import Command, parse_command
from protocol.death import DEATH, Death
from protocol.entry import EntryLink, split_entry
from protocol.errors import DecodeError
from protocol.event import EventBody, parse_event
from protocol.frame import Frame, Header
from protocol.hello import HELLO, Hello
from protocol.layout import Layout
from protocol.place import EVENT_PLACE, EventPlace
from protocol.receipt import RECEIPT, Receipt
from protocol.result import RESULT, Result
from protocol.sync import SyncBody, parse_sync
from protocol.telemetry import TELEMETRY, Telemetry
from protocol.trust import SIGNED_BUNDLE, SignedBundle

FRAME_SCHEMA: Final = 1
"""Revision of every payload in `PAYLOADS` in protocol version 1."""

Body = (
    Command
    | EventBody
    | Result
    | Telemetry
    | EventPlace
    | Hello
    | Receipt
    | SyncBody
    | SignedBundle
    | Death
)

TYPE_OF_CLASS: Final[dict[FrameClass, FrameType]] = {
    FrameClass.RECEIPT: FrameType.RECEIPT,
    FrameClass.TRUST: FrameType.TRUST,
    FrameClass.RESULT: FrameType.RESULT,
    FrameClass.TELEM: FrameType.TELEMETRY,
    FrameClass.HELLO: FrameType.HELLO,
    FrameClass.DEATH: FrameType.DEATH,
}
"""The usual type of each class that is no command, event or synchronisation."""

PAYLOADS: Final[dict[tuple[FrameClass, int], Layout[Any]]] = {
    (FrameClass.RECEIPT, FrameType.RECEIPT): RECEIPT,
    (FrameClass.TRUST, FrameType.TRUST): SIGNED_BUNDLE,
    (FrameClass.RESULT, FrameType.RESULT): RESULT,
    (FrameClass.TELEM, FrameType.TELEMETRY): TELEMETRY,
    (FrameClass.TELEM, FrameType.PLACE): EVENT_PLACE,
    (FrameClass.HELLO, FrameType.HELLO): HELLO,
    (FrameClass.DEATH, FrameType.DEATH): DEATH,
}
"""The payload of each type of those classes; of a RESULT, what follows its link."""


@dataclass(frozen=True, slots=True)
class Content:
    """The payload of one frame."""

    link: EntryLink | None
    """Its place in the ledger; only events and results have one."""
    body: Body
    """What it says."""


def parse_content(frame: Frame) -> Content:
    """Decode the payload of a frame; verify the frame first and believe it then.

    Raises:
        DecodeError: UNKNOWN_OPCODE or UNSUPPORTED_SCHEMA if this side is older than the
            sender; BAD_LEN, BAD_PARAM or NON_CANONICAL if the payload is wrong.
    """
    header, payload = frame.header, frame.payload
    match header.frame_class:
        case FrameClass.CMD:
            return Content(None, parse_command(header.type, header.schema, payload))
        case FrameClass.SYNC:
            return Content(None, parse_sync(header.type, header.schema, payload))
        case FrameClass.EVENT:
            link, body = split_entry(payload)
            return Content(link, parse_event(header.type, header.schema, body))
        case FrameClass.RESULT:
            link, body = split_entry(payload)
            return Content(link, _parse(header, body))
        case (
            FrameClass.RECEIPT
            | FrameClass.TRUST
            | FrameClass.TELEM
            | FrameClass.HELLO
            | FrameClass.DEATH
        ):
            return Content(None, _parse(header, payload))
        case _:
            assert_never(header.frame_class)


def _parse(header: Header, payload: bytes) -> Body:
    label = header.frame_class.label
    layout = PAYLOADS.get((header.frame_class, header.type))
    if layout is None:
        raise DecodeError(
            Code.UNKNOWN_OPCODE, f"type 0x{header.type:04X} of class {label}"
        )
    if header.schema != FRAME_SCHEMA:
        raise DecodeError(
            Code.UNSUPPORTED_SCHEMA,
            f"schema {header.schema} of class {label}, this reads {FRAME_SCHEMA}",
        )
    body: Body = layout.parse(payload)
    return body
