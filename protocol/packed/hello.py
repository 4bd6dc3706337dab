"""`protocol.hello` again, by hand: lists and fixed parts in turn."""

import struct
from typing import Final

from protocol.codes import KNOWN_HELLO_FLAGS, ClockQuality, Code, HelloFlags, Lane
from protocol.hello import (
    CAPABILITIES_LIMIT,
    CONFIGS_LIMIT,
    LANES_LIMIT,
    OUTCOMES_LIMIT,
    Capability,
    ConfigVersion,
    Hello,
    LaneProgress,
    Outcome,
)
from protocol.identity import KEY_ID_SIZE
from protocol.packed.record import (
    ID,
    U8,
    U16,
    U64,
    Packed,
    PackedList,
    built,
    exactly,
    member,
    parsed,
    within,
)
from protocol.packed.result import SNAPSHOT

_HEAD: Final = struct.Struct(">I4s")
_TAIL: Final = struct.Struct(">8sQ32sQI")
"""From the ledger's id to the free storage; the snapshot follows."""

_REST: Final = struct.Struct(">16sHBBQ")
"""From the nonce to the trusted time, behind the snapshot."""

_CAPABILITIES: Final = PackedList(Packed(Capability, U16, U8), CAPABILITIES_LIMIT)
_LANES: Final = PackedList(
    Packed(LaneProgress, exactly(KEY_ID_SIZE), member(Lane), U64), LANES_LIMIT
)
_OUTCOMES: Final = PackedList(Packed(Outcome, ID, member(Code, "H")), OUTCOMES_LIMIT)

_CONFIGS: Final = PackedList(
    Packed(ConfigVersion, U8, within("I", 1, 0xFFFF_FFFF)), CONFIGS_LIMIT
)

_SIZES: Final = (4, 8, 32, 16)
"""Bytes of firmware, ledger id, head hash and nonce."""

_FLAGS: Final = {raw: HelloFlags(raw) for raw in range(KNOWN_HELLO_FLAGS + 1)}
_QUALITIES: Final = {int(quality): quality for quality in ClockQuality}


def parse_hello(data: bytes) -> Hello:
    """Decode the payload of a HELLO frame.

    Raises:
        DecodeError: as the layout `protocol.hello.HELLO` raises it.
    """
    return parsed("Hello", _read, data)


def build_hello(hello: Hello) -> bytes:
    """Encode the payload of a HELLO frame.

    Raises:
        EncodeError: a value does not fit its field, or a list is too long.
    """
    return built("Hello", _write, hello)


def _read(data: bytes) -> tuple[Hello, int]:
    bundle_version, firmware = _HEAD.unpack_from(data)
    capabilities, at = _CAPABILITIES.read(data, _HEAD.size)
    lanes, at = _LANES.read(data, at)
    outcomes, at = _OUTCOMES.read(data, at)
    ledger_id, head_seq, head_hash, oldest, free_kib = _TAIL.unpack_from(data, at)
    at += _TAIL.size
    snapshot = SNAPSHOT.read(data, at)
    at += SNAPSHOT.size
    nonce, group, flags, quality, floor_ms = _REST.unpack_from(data, at)
    configs, at = _CONFIGS.read(data, at + _REST.size)
    hello = Hello(
        bundle_version,
        firmware,
        capabilities,
        lanes,
        outcomes,
        ledger_id,
        head_seq,
        head_hash,
        oldest,
        free_kib,
        snapshot,
        nonce,
        group,
        _FLAGS[flags],
        _QUALITIES[quality],
        floor_ms,
        configs,
    )
    return hello, at


def _write(hello: Hello) -> bytes:
    if (
        len(hello.firmware),
        len(hello.ledger_id),
        len(hello.head_hash),
        len(hello.nonce),
    ) != _SIZES:
        raise ValueError("firmware, ledger id, head hash or nonce has another length")
    return b"".join(
        (
            _HEAD.pack(hello.bundle_version, hello.firmware),
            _CAPABILITIES.write(hello.capabilities),
            _LANES.write(hello.lanes),
            _OUTCOMES.write(hello.outcomes),
            _TAIL.pack(
                hello.ledger_id,
                hello.head_seq,
                hello.head_hash,
                hello.oldest_unreceipted,
                hello.storage_free_kib,
            ),
            SNAPSHOT.write(hello.snapshot),
            _REST.pack(
                hello.nonce,
                hello.group,
                # Not by the flag itself: -1 would mean every known one.
                _FLAGS[int(hello.flags)],
                _QUALITIES[hello.clock_quality],
                hello.trusted_floor_ms,
            ),
            _CONFIGS.write(hello.configs),
        )
    )
