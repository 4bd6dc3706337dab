"""Keys in a token as `cryptography` key objects: they sign and cannot be read.

They implement the library's own interfaces, so a certificate builder, a request or a
frame is signed by a token without a special case. What would need the private number is
refused, as the token itself refuses it (K2).
"""

import hashlib
from collections.abc import Callable
from typing import Any, Final, NoReturn, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    encode_dss_signature,
)

from keystore.errors import UnfitKeyError

Sign = Callable[[bytes], bytes]
"""Signs in the token; its message is the digest for P-256, all of it for Ed25519."""

_HALF: Final = 32
"""Bytes of r and of s."""


def _refuse() -> NoReturn:
    raise UnfitKeyError(
        "the private key lies in a token and cannot be taken out",
        "sign with it where it is; make a new key if you need one in a file",
    )


class TokenEd25519Key(Ed25519PrivateKey):
    """An Ed25519 key in a token."""

    def __init__(self, public: Ed25519PublicKey, sign: Sign) -> None:
        self._public = public
        self._sign = sign

    def public_key(self) -> Ed25519PublicKey:
        """Return the public half."""
        return self._public

    def sign(self, data: Any) -> bytes:  # noqa: ANN401 - the library's Buffer
        """Return the 64-byte signature.

        Raises:
            TokenError: the token does not answer.
        """
        return self._sign(bytes(data))

    def private_bytes(self, *_arguments: object, **_named: object) -> NoReturn:
        """Refuse."""
        _refuse()

    def private_bytes_raw(self) -> NoReturn:
        """Refuse."""
        _refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        return self


class TokenP256Key(ec.EllipticCurvePrivateKey):
    """A P-256 key in a token."""

    def __init__(self, public: ec.EllipticCurvePublicKey, sign: Sign) -> None:
        self._public = public
        self._sign = sign

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self._public.curve

    @property
    def key_size(self) -> int:
        """Bits."""
        return self._public.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """Return the public half."""
        return self._public

    def sign(
        self,
        data: Any,  # noqa: ANN401 - the library's Buffer
        signature_algorithm: ec.EllipticCurveSignatureAlgorithm,
    ) -> bytes:
        """Return the signature in DER, with a random number of the token's own.

        A wish for a deterministic one (RFC 6979) is left to the token: no verifier can
        tell, and tokens draw their own randomness.

        Raises:
            TokenError: the token does not answer.
            UnfitKeyError: another digest than SHA-256 is wanted.
        """
        wanted = signature_algorithm.algorithm
        digest = wanted._algorithm if isinstance(wanted, Prehashed) else wanted  # noqa: SLF001 - the library shows it nowhere else
        if not isinstance(digest, hashes.SHA256):
            raise UnfitKeyError(
                f"a token's P-256 key signs SHA-256 digests, not {digest.name}"
            )
        plain = bytes(data)
        hashed = (
            plain if isinstance(wanted, Prehashed) else hashlib.sha256(plain).digest()
        )
        raw = self._sign(hashed)
        return encode_dss_signature(
            int.from_bytes(raw[:_HALF], "big"), int.from_bytes(raw[_HALF:], "big")
        )

    def exchange(self, *_arguments: object, **_named: object) -> NoReturn:
        """Refuse: the key signs and does nothing else."""
        _refuse()

    def private_numbers(self) -> NoReturn:
        """Refuse."""
        _refuse()

    def private_bytes(self, *_arguments: object, **_named: object) -> NoReturn:
        """Refuse."""
        _refuse()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        return self
