"""HELLO: what a car says first in every session.

It tells the fleet the session and the clock that commands must be signed for, which
opcodes this car knows, how far each signer got and how the last commands ended, so that
an outcome that was lost on the way is settled by the next HELLO
(protocol-design.md 1.4).
"""

from dataclasses import dataclass
from typing import Final

import construct as cs

from protocol.codes import KNOWN_HELLO_FLAGS, ClockQuality, Code, HelloFlags, Lane
from protocol.entry import LEDGER_ID_SIZE
from protocol.identity import ID_SIZE, KEY_ID_SIZE
from protocol.layout import (
    HASH,
    ID,
    U8,
    U16,
    U32,
    U64,
    Layout,
    code_of,
    flags_of,
    ranged,
    sequence_of,
)
from protocol.snapshot import SNAPSHOT, Snapshot

CAPABILITIES_LIMIT: Final = 48
LANES_LIMIT: Final = 16
CONFIGS_LIMIT: Final = 8
OUTCOMES_LIMIT: Final = 32
"""The last outcomes that a hello repeats (protocol-design.md 1.4)."""

NO_NONCE: Final = bytes(ID_SIZE)
"""The nonce of a hello that nobody asked for."""


@dataclass(frozen=True, slots=True)
class Capability:
    """One opcode that this car understands."""

    opcode: int
    """A number, since the receiver may be older than the car."""
    schema: int
    """The newest revision of its payload that the car reads."""


@dataclass(frozen=True, slots=True)
class LaneProgress:
    """The last sequence that one key used in one lane of this session."""

    key_id: bytes
    """8 bytes."""
    lane: Lane
    """Which lane."""
    seq: int
    """Later commands must be above it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one of the last commands ended."""

    msg_id: bytes
    """16 bytes: the command's id."""
    code: Code
    """Its code; IN_PROGRESS while it still runs."""


@dataclass(frozen=True, slots=True)
class ConfigVersion:
    """The configuration of one kind that this car acts by."""

    kind: int
    """A number, since the receiver may be older than the car."""
    version: int
    """From 1."""


@dataclass(frozen=True, slots=True)
class Hello:
    """The payload of a HELLO frame."""

    bundle_version: int
    """Trust bundle in use."""
    firmware: bytes
    """4 bytes: major, minor, patch, 0."""
    capabilities: tuple[Capability, ...]
    """What this car understands; a sender uses nothing else."""
    lanes: tuple[LaneProgress, ...]
    """How far each signer got."""
    outcomes: tuple[Outcome, ...]
    """Newest last."""
    ledger_id: bytes
    """8 bytes."""
    head_seq: int
    """Sequence of the newest entry, 0 for an empty ledger."""
    head_hash: bytes
    """32 bytes, zeros for an empty ledger."""
    oldest_unreceipted: int
    """The first entry without a receipt; head_seq + 1 when all have one."""
    storage_free_kib: int
    """Room for the ledger."""
    snapshot: Snapshot
    """The state now."""
    nonce: bytes
    """16 bytes: that of the CHALLENGE it answers, zeros if nobody asked."""
    group: int
    """The group of vehicles it belongs to; 0 for none."""
    flags: HelloFlags
    """What the fleet should notice."""
    clock_quality: ClockQuality
    """How far the frame's wall-clock label can be trusted."""
    trusted_floor_ms: int
    """UTC ms before which it cannot be; 0 if the car knows nothing."""
    configs: tuple[ConfigVersion, ...]
    """The configuration of each kind that it has."""


CAPABILITY: Final = Layout(Capability, "opcode" / U16, "schema" / U8)
LANE_PROGRESS: Final = Layout(
    LaneProgress,
    "key_id" / cs.Bytes(KEY_ID_SIZE),
    "lane" / code_of(U8, Lane),
    "seq" / U64,
)
OUTCOME: Final = Layout(Outcome, "msg_id" / ID, "code" / code_of(U16, Code))
CONFIG_VERSION: Final = Layout(
    ConfigVersion, "kind" / U8, "version" / ranged(U32, 1, 0xFFFF_FFFF)
)
HELLO: Final = Layout(
    Hello,
    "bundle_version" / U32,
    "firmware" / cs.Bytes(4),
    "capabilities" / sequence_of(CAPABILITY.nested(), CAPABILITIES_LIMIT),
    "lanes" / sequence_of(LANE_PROGRESS.nested(), LANES_LIMIT),
    "outcomes" / sequence_of(OUTCOME.nested(), OUTCOMES_LIMIT),
    "ledger_id" / cs.Bytes(LEDGER_ID_SIZE),
    "head_seq" / U64,
    "head_hash" / HASH,
    "oldest_unreceipted" / U64,
    "storage_free_kib" / U32,
    "snapshot" / SNAPSHOT.nested(),
    "nonce" / ID,
    "group" / U16,
    "flags" / flags_of(U8, HelloFlags, KNOWN_HELLO_FLAGS),
    "clock_quality" / code_of(U8, ClockQuality),
    "trusted_floor_ms" / U64,
    "configs" / sequence_of(CONFIG_VERSION.nested(), CONFIGS_LIMIT),
)
