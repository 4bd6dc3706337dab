"""The HELLO that opens a session, from what the car knows (protocol-design.md 1.4)."""

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.acceptance import JournalRecord
from gateway.core.appearance import snapshot_of
from gateway.core.ledger import LedgerHead
from gateway.core.repertoire import REPERTOIRE
from gateway.core.state import State
from protocol.codes import ClockQuality, HelloFlags, Lane
from protocol.command import COMMAND_SCHEMA
from protocol.hello import (
    LANES_LIMIT,
    NO_NONCE,
    OUTCOMES_LIMIT,
    Capability,
    Hello,
    LaneProgress,
    Outcome,
)

CAPABILITIES: Final = tuple(
    Capability(int(opcode), COMMAND_SCHEMA) for opcode in REPERTOIRE
)
"""What this agent understands."""


def build_hello(
    state: State,
    *,
    head: LedgerHead,
    receipted: int,
    lanes: Mapping[tuple[bytes, Lane], int],
    journal: Sequence[JournalRecord],
    bundle_version: int,
    firmware: bytes,
    storage_free_kib: int,
    clock_quality: ClockQuality,
) -> Hello:
    """Return the payload of a HELLO.

    Args:
        state: the state of now.
        head: the ledger's newest entry.
        receipted: entries up to here have a receipt.
        lanes: last accepted sequences of this session, empty in a fresh one.
        journal: known commands, oldest first; the last 32 are told.
        bundle_version: trust bundle in use.
        firmware: 4 bytes: major, minor, patch, 0.
        storage_free_kib: room for the ledger.
        clock_quality: how far the wall clock can be trusted now.
    """
    progress = tuple(
        LaneProgress(key_id, lane, seq) for (key_id, lane), seq in lanes.items()
    )
    outcomes = tuple(Outcome(record.msg_id, record.code) for record in journal)
    return Hello(
        bundle_version=bundle_version,
        firmware=firmware,
        capabilities=CAPABILITIES,
        lanes=progress[-LANES_LIMIT:],
        outcomes=outcomes[-OUTCOMES_LIMIT:],
        ledger_id=head.ledger_id,
        head_seq=head.seq,
        head_hash=head.hash,
        oldest_unreceipted=receipted + 1,
        storage_free_kib=storage_free_kib,
        snapshot=snapshot_of(state),
        nonce=NO_NONCE,
        group=0,
        flags=HelloFlags(0),
        clock_quality=clock_quality,
        trusted_floor_ms=0,
        configs=(),
    )
