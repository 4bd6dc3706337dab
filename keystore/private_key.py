"""Opening a private key by the name that a setting gives: a file, or a token's URI.

Three forms are one to whoever signs: a PEM file, a ``pkcs11:`` URI, and a file that
holds such a URI and nothing else. The last lets a key move into a token while every
path in every setting stays.
"""

import stat
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from keystore.errors import UnfitKeyError
from keystore.token import load_token_key
from keystore.uri import SCHEME, TokenUri, is_token_uri

PrivateKey = ec.EllipticCurvePrivateKey | Ed25519PrivateKey
"""A key that signs; it may lie in a token and then cannot be read."""

FILE_LIMIT: Final = 4_096
"""Bytes of a key file; a curve key takes 119 to 241, a URI a few hundred."""

_OPEN_TO_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def open_private_key(reference: str | Path) -> PrivateKey:
    """Open a key that signs.

    Args:
        reference: a path, or a ``pkcs11:`` URI.

    Raises:
        UriError: the URI names no key.
        TokenError: module, token or PIN does not work.
        UnfitKeyError: missing, open to others, or neither P-256 nor Ed25519.
    """
    if isinstance(reference, str) and is_token_uri(reference):
        return load_token_key(TokenUri.parse(reference))
    path = Path(reference)
    return parse_private_key(_read(path), name=str(path))


def parse_private_key(data: bytes, *, name: str) -> PrivateKey:
    """Read a key file: PEM, or a URI that is followed.

    Args:
        data: the file's bytes.
        name: the file's name, for the message.

    Raises:
        UriError, TokenError, UnfitKeyError: as `open_private_key`.
    """
    if data.startswith(SCHEME.encode()):
        text = data.decode("utf-8", "replace").strip()
        return load_token_key(TokenUri.parse(text))
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's sentence is dropped: it could quote what it read.
        raise UnfitKeyError(
            f"{name} is neither an unencrypted private key in PEM nor a pkcs11: URI",
            "check the path, or bring the file back from a backup",
        ) from None
    if isinstance(key, Ed25519PrivateKey) or (
        isinstance(key, ec.EllipticCurvePrivateKey)
        and isinstance(key.curve, ec.SECP256R1)
    ):
        return key
    raise UnfitKeyError(
        f"{name} holds neither an Ed25519 nor a P-256 key",
        "make one with `freefloat certs new-key`",
    )


def _read(path: Path) -> bytes:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except OSError as error:
        raise UnfitKeyError(
            f"key {path} cannot be read ({(error.strerror or 'failed').lower()})",
            "check the path, or bring it back from where it is kept offline",
        ) from None
    if mode & _OPEN_TO_OTHERS:
        raise UnfitKeyError(
            f"key {path} can be read by others (mode {mode:04o})",
            f"if nobody did, close it: chmod 600 {path}; otherwise replace the key",
        )
    if len(data) > FILE_LIMIT:
        raise UnfitKeyError(f"{path} has more than {FILE_LIMIT} bytes, so is no key")
    return data
