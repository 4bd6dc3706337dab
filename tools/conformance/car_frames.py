"""Frames as the kit sends them to a car: right ones, and wrong ones on purpose.

Written by the tables of docs/protocol.md, section 2, apart from `protocol.frame`, which
would refuse to build what a receiver must refuse to take.
"""

import struct
from dataclasses import dataclass, replace
from typing import Final

from protocol.codes import FrameClass
from protocol.keys import SigningKey
from protocol.signing import SIGNATURE_CONTEXT

_HEADER: Final = struct.Struct(">2sBBBBHBBH16s8s16sQQQ16s")

LABELS: Final = {int(one): one.label for one in FrameClass}
"""The label in the signed bytes of each class."""


@dataclass(frozen=True, slots=True)
class Draft:
    """All fields of a frame, none of them checked."""

    frame_class: int
    """Byte 4."""
    type: int
    """Opcode or type."""
    payload: bytes
    """As it is."""
    vehicle_id: bytes
    """16 bytes."""
    key_id: bytes
    """8 bytes."""
    session_id: bytes
    """16 bytes."""
    seq: int
    """u64."""
    mono_ms: int
    """u64, the instant from which it is void."""
    wall_ms: int
    """u64."""
    msg_id: bytes
    """16 bytes."""
    lane: int = 0
    """u8."""
    schema: int = 1
    """u8."""
    suite: int = 1
    """u8."""
    flags: int = 0
    """u8."""
    version: int = 1
    """u8."""
    magic: bytes = b"FF"
    """2 bytes."""
    length: int | None = None
    """`payload_len`; None for the true one."""

    def with_(self, **changes: object) -> "Draft":
        """Return it with other fields."""
        return replace(self, **changes)  # type: ignore[arg-type]

    @property
    def unsigned(self) -> bytes:
        """Header and payload."""
        header = _HEADER.pack(
            self.magic,
            self.version,
            self.suite,
            self.frame_class,
            self.flags,
            self.type,
            self.schema,
            self.lane,
            len(self.payload) if self.length is None else self.length,
            self.vehicle_id,
            self.key_id,
            self.session_id,
            self.seq,
            self.mono_ms,
            self.wall_ms,
            self.msg_id,
        )
        return header + self.payload

    def signed(
        self, key: SigningKey, *, fleet_id: bytes, label: str | None = None
    ) -> bytes:
        """Return the frame, signed under the label of its class or under another."""
        name = label or LABELS.get(self.frame_class, "cmd")
        unsigned = self.unsigned
        prefix = SIGNATURE_CONTEXT + name.encode() + b"\0" + fleet_id
        return unsigned + key.sign(prefix + unsigned)


def flipped(data: bytes, bit: int) -> bytes:
    """Return bytes with one bit changed, counted from the first byte's highest."""
    changed = bytearray(data)
    changed[bit // 8] ^= 0x80 >> bit % 8
    return bytes(changed)
