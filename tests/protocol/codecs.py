"""Both codecs over whole frames: what each makes of the same bytes.

Shared by the differential tests and the fuzzer's target.
"""

from collections.abc import Callable
from typing import Any

from protocol import frame
from protocol.codes import Code, FrameClass, FrameType
from protocol.content import Content, parse_content
from protocol.entry import EntryLink
from protocol.errors import DecodeError
from protocol.frame import Frame, Header
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
from protocol.trust import SIGNED_BUNDLE


def outcome_of(parse: Callable[[Any], object], data: object) -> object:
    """Return what a decoder makes of some bytes: a record or a code."""
    try:
        return parse(data)
    except DecodeError as error:
        return error.code


def packed_content(  # noqa: PLR0911 - one for each class
    read: Frame,
) -> tuple[EntryLink | None, object]:
    """Read a payload as `parse_content` does, with the packed decoders."""
    header, payload = read.header, read.payload
    kind, schema = header.type, header.schema
    match header.frame_class:
        case FrameClass.CMD:
            return None, packed_command.parse_command(kind, schema, payload)
        case FrameClass.EVENT:
            link, body = packed_entry.split_entry(payload)
            return link, packed_event.parse_event(kind, schema, body)
        case FrameClass.RESULT:
            link, body = packed_entry.split_entry(payload)
            _require(header, FrameType.RESULT)
            return link, packed_result.RESULT.parse(body)
        case FrameClass.TELEM if kind == FrameType.PLACE:
            _require(header, FrameType.PLACE)
            return None, packed_place.EVENT_PLACE.parse(payload)
        case FrameClass.TELEM:
            _require(header, FrameType.TELEMETRY)
            return None, packed_telemetry.parse_telemetry(payload)
        case FrameClass.HELLO:
            _require(header, FrameType.HELLO)
            return None, packed_hello.parse_hello(payload)
        case FrameClass.RECEIPT:
            _require(header, FrameType.RECEIPT)
            return None, packed_receipt.parse_receipt(payload)
        case FrameClass.SYNC:
            return None, packed_sync.parse_sync(kind, schema, payload)
        case FrameClass.DEATH:
            _require(header, FrameType.DEATH)
            return None, packed_sync.DEATH.parse(payload)
        case _:
            # Bundles are rare and go through the declarations everywhere.
            _require(header, FrameType.TRUST)
            return None, SIGNED_BUNDLE.parse(payload)


def _require(header: Header, kind: FrameType) -> None:
    if header.type != kind:
        raise DecodeError(Code.UNKNOWN_OPCODE, "type")
    if header.schema != 1:
        raise DecodeError(Code.UNSUPPORTED_SCHEMA, "schema")


def read_declared(data: bytes) -> object:
    read = frame.parse_frame(data)
    return read, *parts_of(parse_content(read))


def read_packed(data: bytes) -> object:
    read = packed_frame.parse_frame(data)
    return read, *packed_content(read)


def parts_of(content: Content) -> tuple[EntryLink | None, object]:
    return content.link, content.body
