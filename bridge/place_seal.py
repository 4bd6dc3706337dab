"""Sealing a place under a key of its own, so that whoever destroys the key erases it.

A row that is deleted is still in every backup made before. A place is therefore kept
encrypted (AES-256-GCM), and its key in a table that goes into no backup of the store
(`bridge.backup`): a key that is deleted takes the place out of old backups too (K26).

Rule: one place, one key. Places of a rental are erased by deleting their keys; a place
that comes before its entry, when nobody knows the rental yet, has a key all the same.
"""

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from protocol.packed.place import EVENT_PLACE
from protocol.place import EventPlace

KEY_SIZE: Final = 32
NONCE_SIZE: Final = 12
SEALED_SIZE: Final = NONCE_SIZE + 44 + 16
"""Nonce, the payload of a PLACE frame, tag."""


def new_key() -> bytes:
    """Return `KEY_SIZE` random bytes."""
    return secrets.token_bytes(KEY_SIZE)


def seal_place(key: bytes, vehicle: str, told: EventPlace) -> bytes:
    """Return `SEALED_SIZE` bytes that tell the place to who has the key.

    Args:
        key: of this place alone.
        vehicle: whose it is; opens only beside the same vehicle and entry.
        told: the place, with its salt.
    """
    nonce = secrets.token_bytes(NONCE_SIZE)
    bound = _bound(vehicle, told.ledger_id, told.seq)
    return nonce + AESGCM(key).encrypt(nonce, EVENT_PLACE.build(told), bound)


def open_place(
    key: bytes, vehicle: str, ledger_id: bytes, seq: int, sealed: bytes
) -> EventPlace | None:
    """Return the place, or None: it is damaged, another entry's or of another key."""
    nonce, rest = sealed[:NONCE_SIZE], sealed[NONCE_SIZE:]
    try:
        data = AESGCM(key).decrypt(nonce, rest, _bound(vehicle, ledger_id, seq))
    except (InvalidTag, ValueError):
        return None
    return EVENT_PLACE.parse(data)


def _bound(vehicle: str, ledger_id: bytes, seq: int) -> bytes:
    return vehicle.encode() + ledger_id + seq.to_bytes(8)
