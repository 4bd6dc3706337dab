"""Whether a car signed a frame, asked first of the library that answers soonest.

The attacker considered: a car that signs so that two libraries disagree, and with it
the bridge and whoever examines the entry years later. Libraries differ at the edges of
Ed25519: some refuse an R of small order that OpenSSL takes, and some multiply by the
cofactor, which makes more signatures hold (eprint 2020/823).

Rule: vodozemac (curve25519-dalek, a third of OpenSSL's time) can only say yes. Whatever
it does not hold `protocol.signing` judges, as it does everywhere else, and so every
frame of a P-256 key. What it does hold, OpenSSL holds too: the tests sign with every
kind of odd point and fail with a library for which that is no longer so.
"""

from base64 import b64encode
from functools import lru_cache
from typing import Final, NamedTuple

from vodozemac import (
    Ed25519PublicKey,
    Ed25519Signature,
    KeyException,
    SignatureException,
)

from protocol import signing
from protocol.codes import Suite
from protocol.frame import Frame
from protocol.keys import SIGNATURE_SIZE, VerifyKey

KEYS_KEPT: Final = 32_768
"""Keys that are kept as points of the curve, 200 bytes each: those of a large fleet."""

# A member of an enumeration is a property in Python 3.11, which takes its time.
_ED25519: Final = Suite.ED25519


class Claim(NamedTuple):
    """That an Ed25519 key signed a message."""

    key: bytes
    """32 bytes."""
    signature: bytes
    """64 bytes."""
    message: bytes
    """What is signed; no frame's is longer than `protocol.frame.FRAME_LIMIT` + 64."""


def claim_of(frame: Frame, *, fleet_id: bytes, key: VerifyKey) -> Claim | None:
    """Return what a frame claims if `key` signed it; None unless both are Ed25519."""
    header = frame.header
    if header.suite is not _ED25519 or key.suite is not _ED25519:
        return None
    if header.key_id != key.key_id:
        return None
    unsigned = frame.data[:-SIGNATURE_SIZE]
    message = signing.to_be_signed(header.frame_class, fleet_id, unsigned)
    return Claim(key.raw, frame.signature, message)


def holds(claim: Claim) -> bool:
    """Return whether vodozemac says that the signature holds.

    False is no refusal: the signature may hold all the same.
    """
    signature = b64encode(claim.signature).decode()
    try:
        # It takes base64 without filling.
        key = _point(claim.key)
        key.verify_signature(
            claim.message, Ed25519Signature.from_base64(signature.rstrip("="))
        )
    except (KeyException, SignatureException):
        return False
    return True


@lru_cache(maxsize=KEYS_KEPT)
def _point(raw: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_base64(b64encode(raw).decode().rstrip("="))


def verify_frame(
    frame: Frame, *, fleet_id: bytes, key: VerifyKey, proved: Claim | None = None
) -> None:
    """Return if `key` signed this frame for this fleet.

    Args:
        frame: as received.
        fleet_id: 16 bytes, part of what is signed.
        key: who should have signed it.
        proved: the claim of this very frame, if `holds` has said yes to it.

    Raises:
        AuthenticationError: as `protocol.signing.verify_frame` raises it.
    """
    if proved is not None and proved.key == key.raw:
        return
    claim = claim_of(frame, fleet_id=fleet_id, key=key)
    if claim is not None and holds(claim):
        return
    signing.verify_frame(frame, fleet_id=fleet_id, key=key)
