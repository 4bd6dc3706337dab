"""ECDSA on P-256 with SHA-256, in the one form that version 1 takes.

For cars whose key lives in a TPM or a secure element without Ed25519. ECDSA as such has
two signatures for every one, (r, s) and (r, n - s), several encodings of both, and a
private key that leaks when its random number repeats. Here there is one form of each:
r and s as 32 bytes big-endian, s in the lower half, public keys compressed, and the
number derived from key and message (RFC 6979).
"""

from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from protocol.codes import Code
from protocol.errors import AuthenticationError

FIELD_PRIME: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
"""The field of the curve (FIPS 186-5; SP 800-186, 3.2.1.3)."""

GROUP_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""n, a prime and the number of all points: there is no point of small order."""

KEYS_KEPT: Final = 4_096
"""Loaded keys that are remembered: those of a trust bundle, or of a busy fleet."""

_NUMBER_SIZE: Final = 32
_SIGNATURE_SIZE: Final = 2 * _NUMBER_SIZE
_SIGNED_WITH: Final = ECDSA(SHA256())
_SIGNS_WITH: Final = ECDSA(SHA256(), deterministic_signing=True)


@lru_cache(maxsize=KEYS_KEPT)
def load_p256(raw: bytes) -> EllipticCurvePublicKey:
    """Load a compressed point; the same bytes a second time cost nothing.

    Raises:
        AuthenticationError: another prefix than 02 and 03, an x that is not below the
            prime, or one that no point of the curve has.
    """
    if raw[0] not in {2, 3}:
        raise AuthenticationError(
            Code.BAD_PARAM,
            f"a P-256 public key begins with 02 or 03, not {raw[0]:02x}",
        )
    if int.from_bytes(raw[1:], "big") >= FIELD_PRIME:
        raise AuthenticationError(
            Code.BAD_PARAM, "public key is not canonical: its x is not below the prime"
        )
    try:
        return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), raw)
    except ValueError:
        raise AuthenticationError(
            Code.BAD_PARAM, "public key is no point of P-256; make a new key pair"
        ) from None


def compressed(key: EllipticCurvePublicKey) -> bytes:
    """Return the 33 bytes of a public key (SEC 1, 2.3.3)."""
    return key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


def holds(key: EllipticCurvePublicKey, signature: bytes, message: bytes) -> bool:
    """Return whether this is the one form of a signature, and it holds."""
    if len(signature) != _SIGNATURE_SIZE:
        return False
    r = int.from_bytes(signature[:_NUMBER_SIZE], "big")
    s = int.from_bytes(signature[_NUMBER_SIZE:], "big")
    if not 1 <= r < GROUP_ORDER or not 1 <= s <= GROUP_ORDER // 2:
        return False
    try:
        key.verify(encode_dss_signature(r, s), message, _SIGNED_WITH)
    except InvalidSignature:
        return False
    return True


def sign(key: EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return the 64 bytes of r and s, s in the lower half; deterministic (RFC 6979)."""
    r, s = decode_dss_signature(key.sign(message, _SIGNS_WITH))
    return r.to_bytes(_NUMBER_SIZE, "big") + min(s, GROUP_ORDER - s).to_bytes(
        _NUMBER_SIZE, "big"
    )
