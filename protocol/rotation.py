"""Key rotation: how a vehicle hands over from one signing key to the next.

The entry KEY_ROTATED is the last that the old key signs; it names the new key and
carries a proof that the vehicle holds it, bound to this very place of the ledger, so
that a proof from elsewhere is worth nothing (protocol-design.md 1.1, FF-ENR).
"""

from typing import Final

from protocol.codes import Code
from protocol.errors import AuthenticationError
from protocol.identity import VehicleId
from protocol.keys import VerifyKey
from protocol.vehicle_event import KeyRotated

ROTATION_CONTEXT: Final = b"ff-rotate-v1\0"
"""Separates these proofs from everything else that a vehicle's key signs."""


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
