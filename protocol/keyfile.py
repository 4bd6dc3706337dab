"""Private keys as they lie in files: PKCS #8 in PEM, unencrypted (RFC 5958, RFC 8410).

Only bytes are handled here. Whoever writes them sees to mode 0600; whoever reads them
never puts them, or an excerpt, into a message.
"""

from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from protocol.codes import Code
from protocol.errors import DecodeError
from protocol.keys import Ed25519SigningKey, P256SigningKey, SigningKey
from protocol.p256 import compressed

KEY_FILE_LIMIT: Final = 4_096
"""Bytes of a key file; a curve key takes 119 to 241."""


def build_key(key: PrivateKeyTypes) -> bytes:
    """Return a private key's PEM text; write it with mode 0600 and nowhere else."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def parse_signing_key(data: bytes, *, name: str) -> SigningKey:
    """Read a key of either suite: a car's ``signing.key``, a command or receipt signer.

    Args:
        data: the file's bytes.
        name: the file's name, for the message.

    Raises:
        DecodeError: not an unencrypted Ed25519 or P-256 key in PEM.
    """
    key = _parse(data, name)
    if isinstance(key, Ed25519PrivateKey):
        return Ed25519SigningKey(key)
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return P256SigningKey(key)
    raise DecodeError(Code.BAD_PARAM, f"{name} holds no Ed25519 and no P-256 key")


def raw_public_key(key: object, *, name: str) -> bytes:
    """Return the raw bytes of a public key that a file or a certificate holds.

    Args:
        key: as cryptography loaded it.
        name: of the file or certificate, for the message.

    Raises:
        DecodeError: neither an Ed25519 nor a P-256 key.
    """
    if isinstance(key, Ed25519PublicKey):
        return key.public_bytes_raw()
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return compressed(key)
    raise DecodeError(Code.BAD_PARAM, f"{name} holds no Ed25519 and no P-256 key")


def parse_sealing_key(data: bytes, *, name: str) -> X25519PrivateKey:
    """Read a car's ``sealing.key``, an X25519 key.

    Raises:
        DecodeError: not an unencrypted X25519 key in PEM.
    """
    key = _parse(data, name)
    if not isinstance(key, X25519PrivateKey):
        raise DecodeError(Code.BAD_PARAM, f"{name} holds no X25519 key")
    return key


def _parse(data: bytes, name: str) -> PrivateKeyTypes:
    if len(data) > KEY_FILE_LIMIT:
        raise DecodeError(
            Code.TOO_LARGE, f"{name} has {len(data)} bytes, limit {KEY_FILE_LIMIT}"
        )
    try:
        return load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's sentence is dropped: it could quote what it read.
        raise DecodeError(
            Code.BAD_PARAM, f"{name} is not an unencrypted private key in PEM"
        ) from None
