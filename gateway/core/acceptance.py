"""The acceptance pipeline: which frames from the fleet count (protocol-design.md 1.2).

The attackers considered: the broker, which can replay, hold back, reorder, retain and
alter; another fleet, environment or vehicle; the holder of a stolen or outdated key.
The order of the steps is part of the specification. Steps 1 to 5 fail without an
answer, since answering the unauthenticated helps forgers and amplifies floods; from
step 6 on every refusal is signed.

Step 3, the token bucket, is `Bucket`: the caller takes a token before it calls `judge`.
Steps 11 and 12, the car's state and the journal, are `gateway.core.orders` and the
store's.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from gateway.core.events import CommandReceived
from gateway.core.moment import Moment
from gateway.core.state import Request
from protocol.codes import Code, Executed, FrameClass, FrameType, Lane, Opcode, Role
from protocol.command import COMMANDS, parse_command
from protocol.content import FRAME_SCHEMA
from protocol.errors import AuthenticationError, DecodeError
from protocol.frame import Frame, Header, parse_frame
from protocol.identity import VehicleId
from protocol.keys import VerifyKey
from protocol.receipt import RECEIPT, Receipt
from protocol.signing import request_hash, verify_frame
from protocol.trust import TrustBundle, TrustedKey

BUCKET_SIZE: Final = 60
"""Frames that may come at once: every lane's commands and a burst of receipts."""
BUCKET_REFILL_PER_S: Final = 30
"""Frames a second that are worth verifying: six commands a second with their receipts,
where a real car gets a few a minute; 30 checks cost a small board 3 % of a core."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Bounds how many frames cost a signature check (K23)."""

    tokens_milli: int = BUCKET_SIZE * 1000
    """Thousandths of a frame."""
    at_ms: int = 0
    """Boot clock of the last refill."""

    def take(self, *, now: Moment) -> tuple["Bucket", bool]:
        """Return the bucket after one frame, and whether the frame may be judged."""
        elapsed_ms = max(0, now.boot_ms - self.at_ms)
        refilled = self.tokens_milli + elapsed_ms * BUCKET_REFILL_PER_S
        tokens = min(BUCKET_SIZE * 1000, refilled)
        if tokens < 1000:  # noqa: PLR2004 - one whole frame in thousandths
            return replace(self, tokens_milli=tokens, at_ms=now.boot_ms), False
        return replace(self, tokens_milli=tokens - 1000, at_ms=now.boot_ms), True


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """What the journal knows of one command."""

    msg_id: bytes
    """16 bytes."""
    request_hash: bytes
    """32 bytes."""
    result_frame: bytes | None
    """The signed RESULT; None while it runs."""
    code: Code
    """Its code; IN_PROGRESS while it runs."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What frames are judged by."""

    vehicle_id: VehicleId
    """This vehicle."""
    fleet_id: bytes
    """16 bytes: fleet and environment."""
    session_id: bytes
    """16 bytes: the session of now."""
    bundle: TrustBundle
    """Who may sign."""
    lanes: Mapping[tuple[bytes, Lane], int]
    """The last accepted sequence of each key and lane in this session."""
    journal: Callable[[bytes], JournalRecord | None]
    """Looks a message id up."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Not even answered: count it."""

    code: Code
    """Why."""
    detail: str
    """One sentence."""


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
        frame, key = _authenticate(data, FrameClass.CMD, desk)
    except (DecodeError, AuthenticationError) as error:
        return Dropped(error.code, error.detail)
    request = Request(frame.header.msg_id, request_hash(data))
    known = desk.journal(request.msg_id)
    if known is not None:
        if known.request_hash == request.request_hash:
            return Repeated(known.result_frame)
        return Refused(request, Code.ID_REUSED, Executed.NO)
    if frame.header.session_id != desk.session_id:
        # An older session's journal may have been outlived: it could have run.
        return Refused(request, Code.SESSION_STALE, Executed.MAYBE)
    code = _why_not(frame.header, key, retained=retained, desk=desk, now=now)
    if code is not None:
        return Refused(request, code, Executed.NO)
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
        frame, key = _authenticate(data, FrameClass.RECEIPT, desk)
        if key.role is not Role.RECEIPT:
            return Dropped(
                Code.ROLE_FORBIDDEN, f"role {key.role.name} signs no receipts"
            )
        if _is_outdated(key, now):
            return Dropped(
                Code.KEY_EXPIRED, f"key {key.key_id.hex()} is out of its dates"
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


def _authenticate(
    data: bytes, frame_class: FrameClass, desk: Desk
) -> tuple[Frame, TrustedKey]:
    """Steps 1, 2, 4 and 5."""
    frame = parse_frame(data)
    header = frame.header
    if header.frame_class is not frame_class:
        raise DecodeError(
            Code.WRONG_DIRECTION,
            f"class {header.frame_class.label} where {frame_class.label} is expected",
        )
    if header.vehicle_id != desk.vehicle_id:
        raise DecodeError(Code.WRONG_VEHICLE, f"meant for {header.vehicle_id}")
    if header.suite not in desk.bundle.suites:
        raise AuthenticationError(
            Code.SUITE_FORBIDDEN, f"suite {header.suite} is not in the trust bundle"
        )
    if header.key_id in desk.bundle.revoked:
        raise AuthenticationError(Code.REVOKED, f"key {header.key_id.hex()} is revoked")
    for key in desk.bundle.keys:
        if key.key_id == header.key_id:
            break
    else:
        raise AuthenticationError(
            Code.UNKNOWN_KEY, f"key {header.key_id.hex()} is not in the trust bundle"
        )
    verify_frame(frame, fleet_id=desk.fleet_id, key=VerifyKey.load(key.public_key))
    return frame, key


def _is_outdated(key: TrustedKey, now: Moment) -> bool:
    """Return whether a clock that can be trusted finds the key out of its dates."""
    valid = key.not_before_ms <= now.wall_ms <= key.not_after_ms
    return now.quality.trusted and not valid


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
        (key.role is Role.RECEIPT or key.role is Role.MONITOR, Code.ROLE_FORBIDDEN),
        (_is_outdated(key, now), Code.KEY_EXPIRED),
        (opcode not in key.opcodes, Code.OPCODE_FORBIDDEN),
        (not lane_matches, Code.BAD_PARAM),
        (rule.lane not in key.lanes, Code.OPCODE_FORBIDDEN),
        (left_ms <= 0, Code.EXPIRED),
        (left_ms > min(rule.ttl_limit_ms, key.max_ttl_ms), Code.TTL_TOO_LONG),
        (header.seq <= last_seq, Code.SUPERSEDED),
    )
    return next((code for fails, code in checks if fails), None)
