"""`protocol.frame` again, by hand: the header in one call of `struct`."""

import struct
from functools import lru_cache
from typing import Final

from protocol.codes import Code, FrameClass, Suite
from protocol.errors import DecodeError, EncodeError
from protocol.frame import (
    CLASS_LIMITS,
    CRITICAL_FLAGS,
    FRAME_LIMIT,
    HEADER_SIZE,
    MAGIC,
    OVERHEAD,
    VERSION,
    Frame,
    Header,
)
from protocol.identity import ID_SIZE, KEY_ID_SIZE, NAMES_KEPT, VehicleId
from protocol.keys import SIGNATURE_SIZE
from protocol.packed.drafted import drafted

_HEADER: Final = struct.Struct(">2sBBBBHBBH16s8s16sQQQ16s")
"""docs/protocol.md, section 2: the 92 bytes before the payload."""

_HEADER_OF: Final = drafted(Header)
_FRAME_OF: Final = drafted(Frame)

_SUITES: Final = {int(suite): suite for suite in Suite}
_CLASSES: Final = {int(frame_class): frame_class for frame_class in FrameClass}


@lru_cache(maxsize=NAMES_KEPT)
def _vehicle(raw: bytes) -> VehicleId:
    return VehicleId(raw)


def parse_frame(data: bytes) -> Frame:
    """Read a frame's layout as `protocol.frame.parse_frame` does.

    Raises:
        DecodeError: the same bytes, the same code.
    """
    size = len(data)
    if not OVERHEAD <= size <= FRAME_LIMIT:
        raise DecodeError(
            Code.BAD_LEN, f"{size} bytes, a frame has {OVERHEAD} to {FRAME_LIMIT}"
        )
    (
        magic,
        version,
        suite_number,
        class_number,
        flags,
        frame_type,
        schema,
        lane,
        payload_len,
        vehicle_id,
        key_id,
        session_id,
        seq,
        mono_ms,
        wall_ms,
        msg_id,
    ) = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise DecodeError(Code.BAD_MAGIC, f"begins with {magic.hex()}, not 4646")
    if version != VERSION:
        raise DecodeError(Code.BAD_VERSION, f"version {version}, this is {VERSION}")
    suite = _SUITES.get(suite_number)
    if suite is None:
        raise DecodeError(Code.SUITE_FORBIDDEN, f"unknown suite {suite_number}")
    frame_class = _CLASSES.get(class_number)
    if frame_class is None:
        raise DecodeError(Code.BAD_CLASS, f"unknown class 0x{class_number:02X}")
    if flags & CRITICAL_FLAGS:
        raise DecodeError(Code.CRITICAL_FLAG, f"unknown critical flags 0x{flags:02X}")
    if payload_len != size - OVERHEAD:
        raise DecodeError(
            Code.BAD_LEN,
            f"payload length {payload_len}, but {size - OVERHEAD} came",
        )
    limit = CLASS_LIMITS[frame_class]
    if size > limit:
        raise DecodeError(
            Code.BAD_LEN,
            f"a {frame_class.label} frame of {size} bytes, limit {limit}",
        )
    header = _HEADER_OF(
        suite,
        frame_class,
        flags,
        frame_type,
        schema,
        lane,
        _vehicle(vehicle_id),
        key_id,
        session_id,
        seq,
        mono_ms,
        wall_ms,
        msg_id,
    )
    return _FRAME_OF(
        header, data[HEADER_SIZE:-SIGNATURE_SIZE], data[-SIGNATURE_SIZE:], data
    )


def build_unsigned(header: Header, payload: bytes) -> bytes:
    """Return header and payload as `protocol.frame.build_unsigned` does.

    Raises:
        EncodeError: a value does not fit its field, the flags hold a critical one, or
            the frame would be larger than its class allows.
    """
    if header.flags & CRITICAL_FLAGS:
        raise EncodeError(f"critical flags 0x{header.flags:02X}, version 1 has none")
    size = len(payload) + OVERHEAD
    limit = CLASS_LIMITS[header.frame_class]
    if size > limit:
        raise EncodeError(
            f"a {header.frame_class.label} frame of {size} bytes, limit {limit}"
        )
    # struct would cut or fill bytes of another length.
    if (len(header.key_id), len(header.session_id), len(header.msg_id)) != (
        KEY_ID_SIZE,
        ID_SIZE,
        ID_SIZE,
    ):
        raise EncodeError("key id, session id or message id has another length")
    try:
        packed = _HEADER.pack(
            MAGIC,
            VERSION,
            Suite(header.suite),
            header.frame_class,
            header.flags,
            header.type,
            header.schema,
            header.lane,
            len(payload),
            header.vehicle_id.raw,
            header.key_id,
            header.session_id,
            header.seq,
            header.mono_ms,
            header.wall_ms,
            header.msg_id,
        )
    except (struct.error, ValueError) as error:
        raise EncodeError(f"header: {error}") from error
    return packed + payload
