"""Key rotation: how a vehicle hands over from one signing key to the next.

The entry KEY_ROTATED is the last that the old key signs; it names the new key and
carries a proof that the vehicle holds it, bound to this very place of the ledger, so
that a proof from elsewhere is worth nothing (protocol-design.md 1.1, FF-ENR).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from protocol.codes import Code, EventType, FrameClass
from protocol.content import parse_content
from protocol.entry import EntryLink
from protocol.errors import AuthenticationError, DecodeError
from protocol.frame import Frame, parse_frame
from protocol.identity import VehicleId
from protocol.keys import VerifyKey
from protocol.signing import verify_frame
from protocol.vehicle_event import KeyRotated

ROTATION_CONTEXT: Final = b"ff-rotate-v1\0"
"""Separates these proofs from everything else that a vehicle's key signs."""


@dataclass(frozen=True, slots=True)
class Handover:
    """One change of a vehicle's key, proved by a KEY_ROTATED entry."""

    ledger_id: bytes
    """8 bytes: the ledger that says so."""
    seq: int
    """The entry: the last that the old key signs."""
    old_key: VerifyKey
    """Valid up to it."""
    new_key: VerifyKey
    """Valid behind it."""


def rotation_message(
    *,
    fleet_id: bytes,
    vehicle_id: VehicleId,
    old_key_id: bytes,
    ledger_id: bytes,
    seq: int,
) -> bytes:
    """Return the bytes that the new key signs as its proof.

    Args:
        fleet_id: 16 bytes.
        vehicle_id: whose keys these are.
        old_key_id: 8 bytes: the key that signs the entry.
        ledger_id: 8 bytes: where the entry stands.
        seq: its sequence.
    """
    return (
        ROTATION_CONTEXT
        + fleet_id
        + vehicle_id.raw
        + old_key_id
        + ledger_id
        + seq.to_bytes(8, "big")
    )


def verify_rotation(
    rotated: KeyRotated,
    *,
    fleet_id: bytes,
    vehicle_id: VehicleId,
    old_key: VerifyKey,
    ledger_id: bytes,
    seq: int,
) -> VerifyKey:
    """Return the new key of a KEY_ROTATED entry whose frame `old_key` signed.

    Raises:
        AuthenticationError: the new key is weak or is the old one, or the proof does
            not hold for this place.
    """
    new_key = VerifyKey.load(rotated.new_key)
    if new_key.raw == old_key.raw:
        raise AuthenticationError(
            Code.BAD_PARAM, "a key cannot be rotated to itself; make a new key pair"
        )
    new_key.verify(
        rotated.proof,
        rotation_message(
            fleet_id=fleet_id,
            vehicle_id=vehicle_id,
            old_key_id=old_key.key_id,
            ledger_id=ledger_id,
            seq=seq,
        ),
    )
    return new_key


def rotated_key(frame: bytes) -> bytes:
    """Return the raw key that a KEY_ROTATED frame names; nothing is verified.

    Raises:
        DecodeError: it is no frame, or no KEY_ROTATED.
    """
    return _rotation_of(parse_frame(frame))[1].new_key


def _rotation_of(frame: Frame) -> tuple[EntryLink, KeyRotated]:
    if frame.header.frame_class is FrameClass.EVENT:
        content = parse_content(frame)
        if content.link is not None and isinstance(content.body, KeyRotated):
            return content.link, content.body
    raise DecodeError(
        Code.BAD_PARAM,
        f"rotations: a {frame.header.frame_class.label} of type "
        f"0x{frame.header.type:04X}, not {EventType.KEY_ROTATED}",
    )


def follow_rotations(
    frames: Iterable[bytes], first: VerifyKey, *, fleet_id: bytes, vehicle_id: VehicleId
) -> tuple[Handover, ...]:
    """Verify KEY_ROTATED entries, each signed by the key that the one before named.

    Args:
        frames: whole frames, oldest first.
        first: the key that signs the first of them.
        fleet_id: 16 bytes.
        vehicle_id: whose.

    Raises:
        DecodeError: a frame is none, or no KEY_ROTATED.
        AuthenticationError: one is of another vehicle, is not signed by the key of its
            place, its proof does not hold, or a key that was replaced comes back.
    """
    key, handovers = first, list[Handover]()
    seen = {first.key_id}
    for data in frames:
        frame = parse_frame(data)
        if frame.header.vehicle_id != vehicle_id:
            raise AuthenticationError(
                Code.WRONG_VEHICLE, f"rotations: a frame of {frame.header.vehicle_id}"
            )
        verify_frame(frame, fleet_id=fleet_id, key=key)
        link, rotated = _rotation_of(frame)
        ledger_id, seq = link.ledger_id, frame.header.seq
        successor = verify_rotation(
            rotated,
            fleet_id=fleet_id,
            vehicle_id=vehicle_id,
            old_key=key,
            ledger_id=ledger_id,
            seq=seq,
        )
        if successor.key_id in seen:
            raise AuthenticationError(
                Code.BAD_PARAM, "rotations: a key comes back that had been replaced"
            )
        seen.add(successor.key_id)
        handovers.append(Handover(ledger_id, seq, key, successor))
        key = successor
    return tuple(handovers)
