"""Hypothesis strategies for every record of the protocol, made from its annotations."""

import types
import typing
from dataclasses import fields
from enum import IntEnum
from typing import Any, Final

from hypothesis import strategies as st

from protocol.codes import (
    KNOWN_BITS,
    KNOWN_HELLO_FLAGS,
    Bits,
    FrameClass,
    FrameType,
    HelloFlags,
    Suite,
)
from protocol.command import COMMANDS
from protocol.death import DEATH
from protocol.entry import LINK
from protocol.event import EVENTS, RentalEnded
from protocol.frame import CLASS_LIMITS, OVERHEAD, Header, build_unsigned
from protocol.hello import HELLO, ConfigVersion
from protocol.identity import VehicleId
from protocol.layout import Layout
from protocol.place import EVENT_PLACE, PLACE
from protocol.receipt import RECEIPT, Gap
from protocol.rental_codes import KNOWN_RIGHTS, Rights
from protocol.result import RESULT
from protocol.sealing import SECRETS
from protocol.snapshot import SNAPSHOT
from protocol.sync import SYNCS, Resend
from protocol.telemetry import TELEMETRY
from protocol.trust import BUNDLE, SIGNED_BUNDLE

LAYOUTS: Final[tuple[Layout[Any], ...]] = (
    *(rule.layout for rule in COMMANDS.values()),
    *EVENTS.values(),
    *SYNCS.values(),
    DEATH,
    LINK,
    SNAPSHOT,
    RESULT,
    HELLO,
    RECEIPT,
    TELEMETRY,
    PLACE,
    EVENT_PLACE,
    SECRETS,
    BUNDLE,
    SIGNED_BUNDLE,
)

_BYTES: Final = {
    "ledger_id": 8,
    "previous_ledger_id": 8,
    "key_id": 8,
    "root_key_id": 8,
    "firmware": 4,
    "prev_hash": 32,
    "head_hash": 32,
    "request_hash": 32,
    "previous_head_hash": 32,
    "photo_hash": 32,
    "hash": 32,
    "place_commitment": 32,
    "proof": 64,
    "verifier": 32,
    "sha256": 32,
    "signature": 64,
}
"""Sizes of fields that are not ids of 16 bytes."""

_U8: Final = st.integers(0, 0xFF)
_U16: Final = st.integers(0, 0xFFFF)
_U32: Final = st.integers(0, 0xFFFF_FFFF)
_U64: Final = st.integers(0, 0xFFFF_FFFF_FFFF_FFFF)
_PUBLIC_KEY: Final = st.binary(min_size=32, max_size=33)
_DIGITS: Final = st.text("0123456789", max_size=8)

_TEXT: Final = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]))
"""Text without control characters."""


def _fitting(limit: int) -> st.SearchStrategy[str]:
    """Return text of at most so many bytes."""
    return _TEXT.filter(lambda text: len(text.encode()) <= limit)


_SPECIAL: Final[dict[str, st.SearchStrategy[Any]]] = {
    "part": st.integers(1, 8),
    "parts": st.integers(1, 8),
    "language": st.text("abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=2).map(
        str.encode
    ),
    "currency": st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=3, max_size=3).map(
        str.encode
    ),
    "name": _fitting(32),
    "note": _fitting(200),
    "destination": _fitting(96),
    "arguments": st.lists(_fitting(32), max_size=4).map(tuple),
    "new_key": st.binary(min_size=32, max_size=33),
    "inside": st.integers(1, 5),
    "outside": st.integers(1, 5),
    "pump": _U8,
    "text_key": _U16,
    "distance_m": _U16,
    "fix_age_ds": _U16,
    "sealed": st.binary(max_size=256),
    "fuel_card_pin": _DIGITS.map(lambda pin: pin.encode().ljust(8, b"\0")),
    "cards": st.lists(st.binary(min_size=16, max_size=16), max_size=4).map(tuple),
    "body": st.binary(max_size=3072),
    "opcodes": st.lists(_U16, max_size=64).map(tuple),
    "public_key": _PUBLIC_KEY,
    "roots": st.lists(_PUBLIC_KEY, max_size=8).map(tuple),
    "threshold": st.integers(1, 8),
    "data": st.binary(min_size=1, max_size=800),
    "length": st.integers(1, 262_144),
    "offset": st.integers(0, 262_143),
    "group": _U16,
    "revoked": st.lists(st.binary(min_size=8, max_size=8), max_size=64).map(tuple),
    "memory_kib": st.integers(8, 65_536),
    "passes": st.integers(1, 10),
    "seconds": st.integers(1, 30),
    "version": st.integers(1, 0xFFFF_FFFF),
    "latitude_e7": st.integers(-900_000_000, 900_000_000),
    "longitude_e7": st.integers(-1_800_000_000, 1_800_000_000),
    "heading_deg": st.integers(0, 359),
    "signal_pct": st.integers(0, 100),
    "refuel_gain_pct": _U8,
    "schema": _U8,
    "block": _U8,
    "opcode": _U16,
    "credit": _U16,
    "age_ds": _U16,
}

_LIMITS: Final = {
    "capabilities": 48,
    "lines": 6,
    "lanes": 5,
    "outcomes": 32,
    "gaps": 16,
    "rejects": 32,
    "samples": 30,
    "suites": 2,
    "keys": 32,
    "signatures": 8,
    "configs": 8,
}

_KNOWN_FLAGS: Final[dict[type[Any], int]] = {
    Bits: KNOWN_BITS,
    Rights: KNOWN_RIGHTS,
    HelloFlags: KNOWN_HELLO_FLAGS,
}

_SHORT: Final = frozenset(
    {
        "boot_counter",
        "state_version",
        "expected_version",
        "bundle_version",
        "storage_free_kib",
        "driving_min",
        "parking_min",
        "max_ttl_ms",
        "station_id",
        "amount_minor",
        "old_version",
        "new_version",
    }
)
"""Numbers of 32 bits; every other plain number has 64."""


def records(record: type[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for one record type; only values that fit its layout."""
    if record is Gap:
        ends = st.tuples(_U64, _U64).map(sorted)
        return ends.map(lambda pair: Gap(pair[0], pair[1]))
    if record is Resend:
        ends = st.tuples(_U64, _U64).map(sorted)
        ledger_id = st.binary(min_size=8, max_size=8)
        return st.builds(
            lambda ledger, pair: Resend(ledger, max(1, pair[0]), max(1, pair[1])),
            ledger_id,
            ends,
        )
    hints = typing.get_type_hints(record)
    # The report names a command by its hash, every other event by its id.
    special: dict[str, st.SearchStrategy[Any]] = {}
    if record is RentalEnded:
        special["authority"] = st.binary(min_size=32, max_size=32)
    if record is ConfigVersion:
        special["kind"] = _U8
    return st.builds(
        record,
        **{name: _value(name, hint) for name, hint in hints.items()} | special,
    )


def _value(name: str, hint: Any) -> st.SearchStrategy[Any]:
    if isinstance(hint, types.UnionType):
        return st.none() | _measured(name)
    if name in _SPECIAL:
        return _SPECIAL[name]
    if typing.get_origin(hint) is tuple:
        item = _value("", typing.get_args(hint)[0])
        return st.lists(item, max_size=_LIMITS[name]).map(tuple)
    if hint is bytes:
        size = _BYTES.get(name, 16)
        return st.binary(min_size=size, max_size=size)
    return _scalar(name, hint)


def _scalar(name: str, hint: Any) -> st.SearchStrategy[Any]:
    if hint is bool:
        return st.booleans()
    if hint in _KNOWN_FLAGS:
        return st.integers(0, _KNOWN_FLAGS[hint]).map(hint)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return st.sampled_from(list(hint))
    if hint is int:
        return _measured(name) if name.endswith("_pct") else _number(name)
    return records(hint)


def _number(name: str) -> st.SearchStrategy[int]:
    return _U32 if name in _SHORT else _U64


def _measured(name: str) -> st.SearchStrategy[Any]:
    """Return what was measured; the reserved number is left out."""
    if name in _SPECIAL:
        return _SPECIAL[name]
    if name.endswith("_pct"):
        return st.integers(0, 100)
    if name.endswith("_m"):
        return st.integers(0, 0xFFFF_FFFE)
    return st.integers(0, 0xFFFE)


HEADERS: Final = st.builds(
    Header,
    suite=st.sampled_from(Suite),
    frame_class=st.sampled_from(FrameClass),
    flags=st.integers(0, 0x0F),
    type=_U16,
    schema=_U8,
    lane=_U8,
    vehicle_id=st.binary(min_size=16, max_size=16).map(VehicleId),
    key_id=st.binary(min_size=8, max_size=8),
    session_id=st.binary(min_size=16, max_size=16),
    seq=_U64,
    mono_ms=_U64,
    wall_ms=_U64,
    msg_id=st.binary(min_size=16, max_size=16),
)


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Return bytes whose header is in order, whatever stands behind it.

    Types and schemas are mostly known ones, so that payloads are reached.
    """
    header = draw(HEADERS)
    known: dict[FrameClass, list[int]] = {
        FrameClass.CMD: [int(opcode) for opcode in COMMANDS],
        FrameClass.EVENT: [int(event_type) for event_type in EVENTS],
        FrameClass.SYNC: [int(sync_type) for sync_type in SYNCS],
    }
    types_of = known.get(header.frame_class, [int(kind) for kind in FrameType])
    kind = draw(st.sampled_from(types_of) | _U16)
    schema = draw(st.just(1) | _U8)
    limit = CLASS_LIMITS[header.frame_class] - OVERHEAD
    payload = draw(st.binary(max_size=limit))
    changed = Header(
        **{
            field.name: getattr(header, field.name)
            for field in fields(Header)
            if field.name not in {"type", "schema"}
        },
        type=kind,
        schema=schema,
    )
    return build_unsigned(changed, payload) + bytes(64)
