"""SYNC: what the fleet asks of a car beside commands, and what it tells it.

Nothing here moves a car or is answered by a result. A frame that is refused is dropped
and counted, and what came twice asks for nothing twice: the number of a key in lane 0
rises strictly inside a session (protocol-design.md 1.2).
"""

from dataclasses import dataclass
from typing import Any, Final

import construct as cs

from protocol.codes import ClockQuality, Code, ConfigKind, SyncType
from protocol.entry import FIRST_SEQ, LEDGER_ID_SIZE
from protocol.errors import DecodeError
from protocol.layout import (
    HASH,
    ID,
    U8,
    U32,
    U64,
    Layout,
    bytes_up_to,
    code_of,
    ranged,
    reserved,
)

SYNC_SCHEMA: Final = 1
"""Revision of every payload in protocol version 1."""

SYNC_TTL_LIMIT_MS: Final = 30_000
"""A not-after further ahead than this is refused, whatever the key allows."""

CONFIG_LIMIT: Final = 262_144
"""Bytes of a configuration: stations of a country, or all damage of a car."""

CHUNK_LIMIT: Final = 800
"""Bytes of one chunk: it fits a SYNC frame and one TCP segment."""


@dataclass(frozen=True, slots=True)
class Resend:
    """Asks for entries that the fleet has not got; the same bytes come again."""

    ledger_id: bytes
    """8 bytes: which ledger."""
    first: int
    """Sequence of the first wanted entry, from 1."""
    last: int
    """Sequence of the last, not below the first."""


@dataclass(frozen=True, slots=True)
class ConfigOffer:
    """Announces a configuration; its bytes follow in chunks."""

    kind: ConfigKind
    """What it is about."""
    version: int
    """From 1, rising for each kind."""
    length: int
    """Bytes of the whole, 1 to 262144."""
    sha256: bytes
    """32 bytes: hash of the whole; it is activated whole or not at all."""


@dataclass(frozen=True, slots=True)
class ConfigChunk:
    """A piece of a configuration that was announced."""

    kind: ConfigKind
    """What it is about."""
    version: int
    """Of the announcement."""
    offset: int
    """Where in the whole it belongs."""
    data: bytes
    """1 to 800 bytes."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Asks for a hello that carries this nonce: proof that the car speaks now."""

    nonce: bytes
    """16 random bytes of the fleet."""


@dataclass(frozen=True, slots=True)
class FleetTime:
    """Tells the time: it is the frame's `wall_ms`."""

    quality: ClockQuality
    """How far the fleet trusts it."""


SyncBody = Resend | ConfigOffer | ConfigChunk | Challenge | FleetTime

_VERSION: Final = ranged(U32, 1, 0xFFFF_FFFF)

SYNCS: Final[dict[SyncType, Layout[Any]]] = {
    SyncType.RESEND: Layout(
        Resend,
        "ledger_id" / cs.Bytes(LEDGER_ID_SIZE),
        "first" / ranged(U64, FIRST_SEQ, 0xFFFF_FFFF_FFFF_FFFF),
        "last" / U64,
        cs.Check(cs.this.first <= cs.this.last),
    ),
    SyncType.CONFIG: Layout(
        ConfigOffer,
        "kind" / code_of(U8, ConfigKind),
        reserved(3),
        "version" / _VERSION,
        "length" / ranged(U32, 1, CONFIG_LIMIT),
        "sha256" / HASH,
    ),
    SyncType.CONFIG_CHUNK: Layout(
        ConfigChunk,
        "kind" / code_of(U8, ConfigKind),
        reserved(3),
        "version" / _VERSION,
        "offset" / ranged(U32, 0, CONFIG_LIMIT - 1),
        "data" / bytes_up_to(CHUNK_LIMIT, at_least=1),
    ),
    SyncType.CHALLENGE: Layout(Challenge, "nonce" / ID),
    SyncType.TIME: Layout(
        FleetTime, "quality" / code_of(U8, ClockQuality), reserved(7)
    ),
}
"""Every type of SYNC in version 1."""

SYNC_TYPE_OF: Final[dict[type[Any], SyncType]] = {
    layout.record: sync_type for sync_type, layout in SYNCS.items()
}
"""The type of each record."""


def parse_sync(sync_type: int, schema: int, payload: bytes) -> SyncBody:
    """Decode a verified SYNC frame's payload.

    Raises:
        DecodeError: UNKNOWN_OPCODE, UNSUPPORTED_SCHEMA, BAD_PARAM or NON_CANONICAL.
    """
    try:
        layout = SYNCS[SyncType(sync_type)]
    except ValueError:
        raise DecodeError(
            Code.UNKNOWN_OPCODE, f"type 0x{sync_type:04X} of class sync"
        ) from None
    if schema != SYNC_SCHEMA:
        raise DecodeError(
            Code.UNSUPPORTED_SCHEMA,
            f"schema {schema} of class sync, this reads {SYNC_SCHEMA}",
        )
    body: SyncBody = layout.parse(payload)
    return body


def build_sync(body: SyncBody) -> bytes:
    """Encode the payload of a SYNC frame.

    Raises:
        EncodeError: a value does not fit its field.
    """
    return SYNCS[SYNC_TYPE_OF[type(body)]].build(body)
