"""Ledger entries: what every event and every stored result begins with.

An entry names its ledger and the hash of the entry before it, inside the signature, so
that nobody, the vehicle's owner included, can take one out, put one in or change the
order afterwards without showing it (protocol-design.md 3, invariant I-27).
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import construct as cs

from protocol.codes import ClockQuality, Code
from protocol.errors import DecodeError
from protocol.layout import HASH, U8, Layout, code_of, reserved

LEDGER_ID_SIZE: Final = 8
"""Bytes of a ledger id: random, new after flash loss."""

GENESIS: Final = bytes(32)
"""The previous hash of a ledger's first entry."""

FIRST_SEQ: Final = 1
"""Sequence of a ledger's first entry; 0 marks a result that is in no ledger."""


@dataclass(frozen=True, slots=True)
class EntryLink:
    """Where an entry stands in its ledger."""

    ledger_id: bytes
    """8 bytes."""
    prev_hash: bytes
    """32 bytes: `entry_hash` of the entry before, or `GENESIS`."""
    clock_quality: ClockQuality
    """How far the frame's wall-clock label can be trusted."""


LINK: Final = Layout(
    EntryLink,
    "ledger_id" / cs.Bytes(LEDGER_ID_SIZE),
    "prev_hash" / HASH,
    "clock_quality" / code_of(U8, ClockQuality),
    reserved(3),
)

LINK_SIZE: Final = LEDGER_ID_SIZE + 32 + 4
"""44 bytes."""


def entry_hash(frame_data: bytes) -> bytes:
    """Return the 32 bytes by which the next entry names this one."""
    return hashlib.sha256(b"ff-entry-v1\0" + frame_data).digest()


def split_entry(payload: bytes) -> tuple[EntryLink, bytes]:
    """Split an event's or result's payload into link and body.

    Raises:
        DecodeError: shorter than a link, or no canonical link.
    """
    if len(payload) < LINK_SIZE:
        raise DecodeError(
            Code.BAD_LEN,
            f"an entry of {len(payload)} bytes, its link alone has {LINK_SIZE}",
        )
    return LINK.parse(payload[:LINK_SIZE]), payload[LINK_SIZE:]


def event_id(vehicle_id: bytes, ledger_id: bytes, seq: int) -> bytes:
    """Return an entry's id, a UUID of version 8 made from its place.

    Consumers drop duplicates by it, and it is the same however often the entry is
    sent (protocol-design.md 3).
    """
    place = vehicle_id + ledger_id + seq.to_bytes(8, "big")
    raw = bytearray(hashlib.sha256(b"ff-event-id-v1\0" + place).digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)
