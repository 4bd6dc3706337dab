"""Which TRUST frames count: a bundle that takes the place of the one in use (FF-TRU).

The frame is the carrier only: any key of the car's bundle that is not revoked may sign
it, whatever its role and dates, so that a fleet whose signer is lost still reaches its
cars. What decides are the bundle's own signatures and its version, which never goes
back; so a replay changes nothing.
"""

import hashlib
from dataclasses import dataclass

from gateway.core.authentication import (
    Desk,
    Dropped,
    address,
    authenticate,
    is_outdated,
)
from gateway.core.moment import Moment
from protocol.codes import Code, FrameClass, FrameType
from protocol.content import FRAME_SCHEMA
from protocol.errors import AuthenticationError, DecodeError
from protocol.frame import Frame
from protocol.identity import key_id
from protocol.succession import succeed
from protocol.trust import SIGNED_BUNDLE, TrustBundle


@dataclass(frozen=True, slots=True)
class TrustInUse:
    """A bundle with the bytes that prove it."""

    bundle: TrustBundle
    """Who may sign."""
    data: bytes
    """The signed bundle, as it came."""

    @property
    def body_hash(self) -> bytes:
        """32 bytes: SHA-256 of the body that was signed."""
        return hashlib.sha256(SIGNED_BUNDLE.parse(self.data).body).digest()


def judge_trust(data: bytes, desk: Desk, *, now: Moment) -> TrustInUse | Dropped | None:
    """Judge a frame from the trust topic.

    Args:
        data: as received.
        desk: what it is judged by.
        now: when it came.

    Returns:
        The bundle that takes the place of the desk's; None for the one in use.
    """
    try:
        frame = address(data, FrameClass.TRUST, desk)
        authenticate(frame, desk)
        _require_bundle(frame)
        bundle = succeed(desk.bundle, frame.payload, fleet_id=desk.fleet_id)
        _require_dated(frame.payload, desk, now)
    except (DecodeError, AuthenticationError) as error:
        return Dropped(error.code, error.detail)
    if bundle == desk.bundle:
        return None
    return TrustInUse(bundle, frame.payload)


def _require_bundle(frame: Frame) -> None:
    header = frame.header
    if header.type != FrameType.TRUST:
        raise DecodeError(
            Code.UNKNOWN_OPCODE, f"type 0x{header.type:04X} of class trust"
        )
    if header.schema != FRAME_SCHEMA:
        raise DecodeError(
            Code.UNSUPPORTED_SCHEMA,
            f"schema {header.schema} of class trust, this reads {FRAME_SCHEMA}",
        )


def _require_dated(data: bytes, desk: Desk, now: Moment) -> None:
    """Refuse what a revoke key signed after its end, whenever it says it did so."""
    signed_by = {entry.root_key_id for entry in SIGNED_BUNDLE.parse(data).signatures}
    if signed_by & {key_id(root) for root in desk.bundle.roots}:
        return
    for key in desk.bundle.keys:
        if key.key_id in signed_by and is_outdated(key, desk, now=now):
            raise AuthenticationError(
                Code.KEY_EXPIRED, f"revoke key {key.key_id.hex()} is out of its dates"
            )


def newer_trust(found: TrustInUse, kept: TrustInUse | None) -> TrustInUse:
    """Return what a start begins with: the newer of directory and store.

    A directory that was copied back, or by somebody who holds an old one, must not
    bring back the keys of then.

    Args:
        found: in the car's directory, verified against its roots.
        kept: in the store, None if it has none.
    """
    if kept is None or found.bundle.version > kept.bundle.version:
        return found
    return kept
