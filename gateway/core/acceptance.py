"""The acceptance pipeline: which commands count (protocol-design.md 1.2).

The order of the steps is part of the specification. Steps 1 to 5 are those of every
class (`gateway.core.authentication`) and fail without an answer; from step 6 on every
refusal is signed. Steps 11 and 12, the car's state and the journal, are
`gateway.core.orders` and the store's.
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
from gateway.core.events import CommandReceived
from gateway.core.moment import Moment
from gateway.core.state import Request
from protocol.codes import Code, Executed, FrameClass, FrameType, Lane, Opcode, Role
from protocol.command import COMMANDS, parse_command
from protocol.content import FRAME_SCHEMA
from protocol.errors import AuthenticationError, DecodeError
from protocol.frame import Frame, Header
from protocol.receipt import RECEIPT, Receipt
from protocol.signing import request_hash
from protocol.trust import TrustedKey


@dataclass(frozen=True, slots=True)
class Repeated:
    """The same command again: nothing is executed."""

    result_frame: bytes | None
    """The stored result to send again; None while the command still runs."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Authentic, and refused with a signed answer."""

    request: Request
    """Which command."""
    code: Code
    """Why."""
    executed: Executed
    """NO where the car can know it, else MAYBE."""


Verdict = Dropped | Repeated | Refused | CommandReceived


def judge(  # noqa: PLR0911 - one return for each step
    data: bytes, *, retained: bool, desk: Desk, now: Moment
) -> Verdict:
    """Judge a frame from the command topic by steps 1 to 10.

    Args:
        data: as received.
        retained: whether the broker had kept it; such a command is never fresh (L9).
        desk: what it is judged by.
        now: when it came.
    """
    try:
        frame = address(data, FrameClass.CMD, desk)
        key = authenticate(frame, desk)
    except (DecodeError, AuthenticationError) as error:
        return Dropped(error.code, error.detail)
    request = Request(frame.header.msg_id, request_hash(data))
    known = desk.journal(request.msg_id)
    if known is not None:
        if known.request_hash == request.request_hash:
            return Repeated(known.result_frame)
        return Refused(request, Code.ID_REUSED, Executed.NO)
    if frame.header.session_id != desk.session_id:
        # It may have run in its own session, and be forgotten since.
        return Refused(request, Code.SESSION_STALE, Executed.MAYBE)
    code = _why_not(frame.header, key, retained=retained, desk=desk, now=now)
    if code is not None:
        return Refused(request, code, _executed(frame.header, desk))
    try:
        command = parse_command(frame.header.type, frame.header.schema, frame.payload)
    except DecodeError as error:
        return Refused(request, error.code, Executed.NO)
    return CommandReceived(
        command=command,
        msg_id=request.msg_id,
        request_hash=request.request_hash,
        key_id=frame.header.key_id,
        lane=Lane(frame.header.lane),
        seq=frame.header.seq,
    )


def open_receipt(data: bytes, desk: Desk, *, now: Moment) -> Receipt | Dropped:
    """Judge a frame from the receipt topic; what it frees is the ledger's to say."""
    try:
        frame = address(data, FrameClass.RECEIPT, desk)
        key = authenticate(frame, desk)
        if key.role is not Role.RECEIPT:
            return Dropped(
                Code.ROLE_FORBIDDEN, f"role {key.role.name} signs no receipts"
            )
        if is_outdated(key, desk, now=now):
            return Dropped(
                Code.KEY_EXPIRED, f"key {key.key_id.hex()} is out of its dates"
            )
        if not is_of_group(key, desk):
            return Dropped(
                Code.GROUP_MISMATCH,
                f"key {key.key_id.hex()} is for group {key.group}, not {desk.group}",
            )
        return _parse_receipt(frame)
    except (DecodeError, AuthenticationError) as error:
        return Dropped(error.code, error.detail)


def _parse_receipt(frame: Frame) -> Receipt:
    """Read a verified receipt; refused whole when the fleet is newer than this car."""
    header = frame.header
    if header.type != FrameType.RECEIPT:
        raise DecodeError(
            Code.UNKNOWN_OPCODE, f"type 0x{header.type:04X} of class receipt"
        )
    if header.schema != FRAME_SCHEMA:
        raise DecodeError(
            Code.UNSUPPORTED_SCHEMA,
            f"schema {header.schema} of class receipt, this reads {FRAME_SCHEMA}",
        )
    return RECEIPT.parse(frame.payload)


def _executed(header: Header, desk: Desk) -> Executed:
    """Return whether a command of this session that is in no journal can have run.

    NO if the journal holds all that the session has accepted, or if the command is
    above all of it; else it may have run, and be forgotten since.
    """
    last_seq = max(
        (seq for (key_id, _), seq in desk.lanes.items() if key_id == header.key_id),
        default=0,
    )
    known = desk.journal_is_complete or header.seq > last_seq
    return Executed.NO if known else Executed.MAYBE


def _why_not(
    header: Header, key: TrustedKey, *, retained: bool, desk: Desk, now: Moment
) -> Code | None:
    """Rights of the key, then steps 8 and 9, in order; None when all hold."""
    try:
        opcode = Opcode(header.type)
    except ValueError:
        return Code.UNKNOWN_OPCODE
    rule = COMMANDS[opcode]
    lane_matches = header.lane == rule.lane
    left_ms = header.mono_ms - now.boot_ms
    last_seq = desk.lanes.get((header.key_id, rule.lane), 0)
    checks = (
        (retained, Code.RETAINED),
        (not key.role.commands, Code.ROLE_FORBIDDEN),
        (is_outdated(key, desk, now=now), Code.KEY_EXPIRED),
        (not is_of_group(key, desk), Code.GROUP_MISMATCH),
        (opcode not in key.opcodes, Code.OPCODE_FORBIDDEN),
        (not lane_matches, Code.BAD_PARAM),
        (rule.lane not in key.lanes, Code.OPCODE_FORBIDDEN),
        (left_ms <= 0, Code.EXPIRED),
        (left_ms > min(rule.ttl_limit_ms, key.max_ttl_ms), Code.TTL_TOO_LONG),
        (header.seq <= last_seq, Code.SUPERSEDED),
    )
    return next((code for fails, code in checks if fails), None)
