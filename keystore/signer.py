"""Opening a key that signs frames, bundles or proofs, wherever it lies."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keystore.private_key import PrivateKey, open_private_key
from protocol.keys import Ed25519SigningKey, P256SigningKey, SigningKey


def open_signing_key(reference: str | Path) -> SigningKey:
    """Open a key by a path, a ``pkcs11:`` URI, or a path of a file that holds a URI.

    Raises:
        KeystoreError: it cannot be used; the message says why and what to do.
    """
    return signing_key(open_private_key(reference))


def signing_key(key: PrivateKey) -> Ed25519SigningKey | P256SigningKey:
    """Return a private key as one of the protocol's, of the suite that it is for."""
    if isinstance(key, Ed25519PrivateKey):
        return Ed25519SigningKey(key)
    return P256SigningKey(key)
