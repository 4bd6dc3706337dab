"""The frame: a fixed header, a payload and a signature (protocol-design.md 1).

All integers are big-endian and at fixed offsets, so that a receiver finds the key and
checks the signature without reading the payload. Parsing here is step 1 of the
acceptance pipeline: size, magic, version, class and length; nothing is trusted yet.
"""

from dataclasses import dataclass
from typing import Final

import construct as cs

from protocol.codes import Code, FrameClass, Suite
from protocol.errors import DecodeError, EncodeError
from protocol.identity import ID_SIZE, KEY_ID_SIZE, VehicleId
from protocol.keys import SIGNATURE_SIZE
from protocol.layout import U8, U16, U64, Layout, code_of

MAGIC: Final = b"FF"
VERSION: Final = 1
HEADER_SIZE: Final = 92
OVERHEAD: Final = HEADER_SIZE + SIGNATURE_SIZE
"""156 bytes: what a frame costs beside its payload."""

FRAME_LIMIT: Final = 4096
"""Largest frame of any class in bytes, checked before anything is parsed."""

CLASS_LIMITS: Final = {
    FrameClass.CMD: 1024,
    FrameClass.RECEIPT: 1024,
    FrameClass.SYNC: 1024,
    FrameClass.TRUST: FRAME_LIMIT,
    FrameClass.RESULT: 1024,
    FrameClass.EVENT: 1024,
    # One TCP segment with TLS and MQTT around it.
    FrameClass.TELEM: 1200,
    FrameClass.HELLO: 2048,
    FrameClass.DEATH: 1024,
}
"""Largest frame per class in bytes (protocol-design.md 1.6)."""

_SUITES: Final = frozenset(int(suite) for suite in Suite)
_CLASSES: Final = frozenset(int(frame_class) for frame_class in FrameClass)

FLAG_HISTORICAL: Final = 0x01
"""Advisory: a stored sample, sent after the link came back."""

CRITICAL_FLAGS: Final = 0xF0
"""Flags that a receiver must know or refuse the frame."""


@dataclass(frozen=True, slots=True)
class Header:
    """The signed header without magic, version and length, which are given."""

    suite: Suite
    """How the frame is signed."""
    frame_class: FrameClass
    """What kind of frame, and which direction."""
    flags: int
    """High nibble critical, low nibble advisory."""
    type: int
    """Opcode, event type or frame type; a number, since a receiver may be older."""
    schema: int
    """Revision of that type's payload, from 1."""
    lane: int
    """Ordering lane of a command, else 0."""
    vehicle_id: VehicleId
    """The vehicle that signs, or that is addressed."""
    key_id: bytes
    """8 bytes: which key signed."""
    session_id: bytes
    """16 bytes: the car's session, u32 boot counter and 96 random bits."""
    seq: int
    """u64; per key, session and lane for commands, the ledger's for entries."""
    mono_ms: int
    """u64 ms on the car's boot clock: a command's not-after, else the signer's now."""
    wall_ms: int
    """u64 UTC ms: a label; no command is accepted or refused by it."""
    msg_id: bytes
    """16 bytes: the id of this command, event or report."""


@dataclass(frozen=True, slots=True)
class _WireHeader:
    magic: bytes
    version: int
    suite: Suite
    frame_class: FrameClass
    flags: int
    type: int
    schema: int
    lane: int
    payload_len: int
    vehicle_id: bytes
    key_id: bytes
    session_id: bytes
    seq: int
    mono_ms: int
    wall_ms: int
    msg_id: bytes


HEADER: Final = Layout(
    _WireHeader,
    "magic" / cs.Bytes(2),
    "version" / U8,
    "suite" / code_of(U8, Suite),
    "frame_class" / code_of(U8, FrameClass),
    "flags" / U8,
    "type" / U16,
    "schema" / U8,
    "lane" / U8,
    "payload_len" / U16,
    "vehicle_id" / cs.Bytes(ID_SIZE),
    "key_id" / cs.Bytes(KEY_ID_SIZE),
    "session_id" / cs.Bytes(ID_SIZE),
    "seq" / U64,
    "mono_ms" / U64,
    "wall_ms" / U64,
    "msg_id" / cs.Bytes(ID_SIZE),
)
"""The 92 bytes before the payload."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame whose layout holds; whether it is authentic is another question."""

    header: Header
    """What the first 92 bytes say."""
    payload: bytes
    """Unparsed: only a verified payload is worth reading."""
    signature: bytes
    """64 bytes."""
    data: bytes
    """The whole frame as received; the signature is checked over these bytes."""


def build_unsigned(header: Header, payload: bytes) -> bytes:
    """Return header and payload: everything of a frame but its signature.

    Raises:
        EncodeError: a value does not fit its field, the flags hold a critical one
            that version 1 does not know, or the frame would be larger than its class
            allows.
    """
    if header.flags & CRITICAL_FLAGS:
        raise EncodeError(f"critical flags 0x{header.flags:02X}, version 1 has none")
    size = len(payload) + OVERHEAD
    limit = CLASS_LIMITS[header.frame_class]
    if size > limit:
        raise EncodeError(
            f"a {header.frame_class.label} frame of {size} bytes, limit {limit}"
        )
    wire = _WireHeader(
        magic=MAGIC,
        version=VERSION,
        suite=header.suite,
        frame_class=header.frame_class,
        flags=header.flags,
        type=header.type,
        schema=header.schema,
        lane=header.lane,
        payload_len=len(payload),
        vehicle_id=header.vehicle_id.raw,
        key_id=header.key_id,
        session_id=header.session_id,
        seq=header.seq,
        mono_ms=header.mono_ms,
        wall_ms=header.wall_ms,
        msg_id=header.msg_id,
    )
    return HEADER.build(wire) + payload


def parse_frame(data: bytes) -> Frame:
    """Read a frame's layout; verify it before believing any of it.

    Raises:
        DecodeError: size, magic, version, class, flags or length are not allowed. The
            code is a local one: a frame that is not even a frame gets no answer.
    """
    if not OVERHEAD <= len(data) <= FRAME_LIMIT:
        raise DecodeError(
            Code.BAD_LEN,
            f"{len(data)} bytes, a frame has {OVERHEAD} to {FRAME_LIMIT}",
        )
    if data[:2] != MAGIC:
        raise DecodeError(Code.BAD_MAGIC, f"begins with {data[:2].hex()}, not 4646")
    if data[2] != VERSION:
        raise DecodeError(Code.BAD_VERSION, f"version {data[2]}, this is {VERSION}")
    if data[3] not in _SUITES:
        raise DecodeError(Code.SUITE_FORBIDDEN, f"unknown suite {data[3]}")
    if data[4] not in _CLASSES:
        raise DecodeError(Code.BAD_CLASS, f"unknown class 0x{data[4]:02X}")
    wire = HEADER.parse(data[:HEADER_SIZE])
    if wire.flags & CRITICAL_FLAGS:
        raise DecodeError(
            Code.CRITICAL_FLAG, f"unknown critical flags 0x{wire.flags:02X}"
        )
    payload_len = len(data) - OVERHEAD
    if wire.payload_len != payload_len:
        raise DecodeError(
            Code.BAD_LEN, f"payload length {wire.payload_len}, but {payload_len} came"
        )
    limit = CLASS_LIMITS[wire.frame_class]
    if len(data) > limit:
        raise DecodeError(
            Code.BAD_LEN,
            f"a {wire.frame_class.label} frame of {len(data)} bytes, limit {limit}",
        )
    header = Header(
        suite=wire.suite,
        frame_class=wire.frame_class,
        flags=wire.flags,
        type=wire.type,
        schema=wire.schema,
        lane=wire.lane,
        vehicle_id=VehicleId(wire.vehicle_id),
        key_id=wire.key_id,
        session_id=wire.session_id,
        seq=wire.seq,
        mono_ms=wire.mono_ms,
        wall_ms=wire.wall_ms,
        msg_id=wire.msg_id,
    )
    return Frame(
        header=header,
        payload=data[HEADER_SIZE:-SIGNATURE_SIZE],
        signature=data[-SIGNATURE_SIZE:],
        data=data,
    )
