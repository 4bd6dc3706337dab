"""Which SYNC frames count: what the fleet asks or tells beside commands (FF-SYN).

Such a frame moves nothing and is never answered by a result; one that is refused is
dropped and counted. What a replay asks for has been asked for before: its session must
be that of now and its number above the last one of its key in lane 0, which commands of
that lane share.
"""

from dataclasses import dataclass

from gateway.core.authentication import (
    Desk,
    Dropped,
    address,
    authenticate,
    is_of_group,
    is_outdated,
)
from gateway.core.moment import Moment
from protocol.codes import Code, FrameClass, Lane
from protocol.errors import AuthenticationError, DecodeError
from protocol.frame import Header
from protocol.sync import SYNC_TTL_LIMIT_MS, SyncBody, parse_sync
from protocol.trust import TrustedKey


@dataclass(frozen=True, slots=True)
class SyncReceived:
    """What the fleet asks or tells; note its sequence, then do it."""

    body: SyncBody
    """What."""
    key_id: bytes
    """8 bytes: who signed."""
    seq: int
    """Its place in lane 0."""
    wall_ms: int
    """UTC ms on the signer's clock."""


def judge_sync(
    data: bytes, *, retained: bool, desk: Desk, now: Moment
) -> SyncReceived | Dropped:
    """Judge a frame from the sync topic.

    Args:
        data: as received.
        retained: whether the broker had kept it; it is then never fresh (L9).
        desk: what it is judged by.
        now: when it came.
    """
    try:
        frame = address(data, FrameClass.SYNC, desk)
        key = authenticate(frame, desk)
        code = _why_not(frame.header, key, retained=retained, desk=desk, now=now)
        if code is not None:
            return Dropped(code, f"type 0x{frame.header.type:04X} of class sync")
        body = parse_sync(frame.header.type, frame.header.schema, frame.payload)
    except (DecodeError, AuthenticationError) as error:
        return Dropped(error.code, error.detail)
    header = frame.header
    return SyncReceived(body, header.key_id, header.seq, header.wall_ms)


def _why_not(
    header: Header, key: TrustedKey, *, retained: bool, desk: Desk, now: Moment
) -> Code | None:
    """Rights and freshness, in the order of commands; None when all hold."""
    left_ms = header.mono_ms - now.boot_ms
    last_seq = desk.lanes.get((header.key_id, Lane.TRUST), 0)
    checks = (
        (header.session_id != desk.session_id, Code.SESSION_STALE),
        (retained, Code.RETAINED),
        (not key.role.commands, Code.ROLE_FORBIDDEN),
        (is_outdated(key, desk, now=now), Code.KEY_EXPIRED),
        (not is_of_group(key, desk), Code.GROUP_MISMATCH),
        (header.type not in key.opcodes, Code.OPCODE_FORBIDDEN),
        (header.lane != Lane.TRUST, Code.BAD_PARAM),
        (Lane.TRUST not in key.lanes, Code.OPCODE_FORBIDDEN),
        (left_ms <= 0, Code.EXPIRED),
        (left_ms > min(SYNC_TTL_LIMIT_MS, key.max_ttl_ms), Code.TTL_TOO_LONG),
        (header.seq <= last_seq, Code.SUPERSEDED),
    )
    return next((code for fails, code in checks if fails), None)
