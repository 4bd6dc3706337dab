"""The HELLO that opens a session, from what the car knows (protocol-design.md 1.4)."""

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.core.appearance import snapshot_of
from gateway.core.authentication import JournalRecord
from gateway.core.configuration import Active
from gateway.core.known_time import KnownTime
from gateway.core.ledger import LedgerHead
from gateway.core.moment import Moment
from gateway.core.repertoire import REPERTOIRE
from gateway.core.state import State
from protocol.codes import ClockQuality, HelloFlags, Lane
from protocol.command import COMMAND_SCHEMA
from protocol.hello import (
    CONFIGS_LIMIT,
    LANES_LIMIT,
    OUTCOMES_LIMIT,
    Capability,
    ConfigVersion,
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
    nonce: bytes,
    group: int,
    flags: HelloFlags,
    configurations: Sequence[Active],
    time: KnownTime,
    now: Moment,
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
        nonce: 16 bytes: that of the challenge it answers, zeros if nobody asked.
        group: the group of vehicles that it belongs to.
        flags: what the fleet should notice.
        configurations: bodies in force.
        time: what is known about the time.
        now: when.
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
        nonce=nonce,
        group=group,
        flags=flags,
        clock_quality=label_quality(time, now),
        trusted_floor_ms=time.floor(now),
        configs=tuple(
            ConfigVersion(int(each.kind), each.version) for each in configurations
        )[:CONFIGS_LIMIT],
    )


def label_quality(time: KnownTime, now: Moment) -> ClockQuality:
    """Return how far the wall clock of now can be trusted, as far as the car knows.

    A time service is not signed: until the fleet or GNSS has told the time since the
    last power loss, the best is a clock that happens to run (FF-TIM).
    """
    return time.quality if time.is_known else min(now.quality, ClockQuality.RTC)
