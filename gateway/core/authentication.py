"""Who signed a frame, and for whom: steps 1 to 5 of acceptance, for every class.

The attackers considered: the broker, which can replay, hold back, reorder, retain and
alter; another fleet, environment or vehicle; the holder of a stolen or outdated key.
What fails here gets no answer, since answering the unauthenticated helps forgers and
amplifies floods (FF-AUTH; protocol-design.md 1.2).

Step 3, the token bucket, stands between `address` and `authenticate`: whatever is not
even meant for this car must not use up what bounds the signature checks.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.core.known_time import KnownTime
from gateway.core.moment import Moment
from protocol.codes import Code, FrameClass, Lane
from protocol.errors import AuthenticationError, DecodeError
from protocol.frame import Frame, parse_frame
from protocol.identity import VehicleId
from protocol.keys import VerifyKey
from protocol.signing import verify_frame
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
    journal_is_complete: bool = False
    """Whether the journal holds every command that this session has accepted."""
    group: int = 0
    """The group of vehicles that this one belongs to; 0 for none."""
    time: KnownTime = field(default_factory=KnownTime)
    """By what the dates of keys are judged."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """Not even answered: count it."""

    code: Code
    """Why."""
    detail: str
    """One sentence."""


def address(data: bytes, frame_class: FrameClass, desk: Desk) -> Frame:
    """Read a frame that is meant for this car: steps 1 and 2.

    Raises:
        DecodeError: it is no frame, of another class, or for another vehicle.
        AuthenticationError: its suite is not allowed.
    """
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
    return frame


def authenticate(frame: Frame, desk: Desk) -> TrustedKey:
    """Return the key of the bundle that signed an addressed frame: steps 4 and 5.

    Raises:
        AuthenticationError: the key is revoked or unknown, or did not sign this.
    """
    key_id = frame.header.key_id
    if key_id in desk.bundle.revoked:
        raise AuthenticationError(Code.REVOKED, f"key {key_id.hex()} is revoked")
    for key in desk.bundle.keys:
        if key.key_id == key_id:
            break
    else:
        raise AuthenticationError(
            Code.UNKNOWN_KEY, f"key {key_id.hex()} is not in the trust bundle"
        )
    verify_frame(frame, fleet_id=desk.fleet_id, key=VerifyKey.load(key.public_key))
    return key


def is_of_group(key: TrustedKey, desk: Desk) -> bool:
    """Return whether a key's vehicles include this one; group 0 has them all."""
    return key.group in {0, desk.group}


def is_outdated(key: TrustedKey, desk: Desk, *, now: Moment) -> bool:
    """Return whether it is certain that a key is out of its dates (FF-TIM)."""
    return desk.time.is_outside(key.not_before_ms, key.not_after_ms, now=now)
