"""Ed25519 keys: loading them, and refusing those that prove nothing.

The attacker considered: someone who enrols a weak public key. With a small-order key
one signature fits many messages (protocol-design.md 7: 64 of 64 verified with the
identity point), so a "signed" rental report would prove nothing. OpenSSL loads all such
encodings, therefore they are refused here, where every public key enters.
"""

from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from protocol.codes import Code
from protocol.errors import AuthenticationError
from protocol.identity import key_id

PUBLIC_KEY_SIZE: Final = 32
"""Bytes of a raw Ed25519 public key (RFC 8032, 5.1.5)."""

SIGNATURE_SIZE: Final = 64
"""Bytes of a signature in both suites (protocol-design.md 1)."""

FIELD_PRIME: Final = 2**255 - 19
"""The field of the curve (RFC 8032, 5.1)."""

_SIGN_BIT: Final = 1 << 255

_ORDER_8_Y: Final = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
"""y of two points of order 8; the other two have p - y."""

SMALL_ORDER_Y: Final = frozenset(
    {0, 1, FIELD_PRIME - 1, _ORDER_8_Y, FIELD_PRIME - _ORDER_8_Y}
)
"""y of the eight points whose order divides 8 (eprint 2020/823, table 6)."""

_CURVE_D: Final = -121665 * pow(121666, -1, FIELD_PRIME) % FIELD_PRIME
"""d of the curve -x^2 + y^2 = 1 + d x^2 y^2 (RFC 8032, 5.1)."""


def require_strong_public_key(raw: bytes) -> None:
    """Refuse a public key that is not canonical, has small order or is no point.

    OpenSSL loads half of all other 32-byte strings too, and then no signature ever
    holds under them: a car enrolled with one would be refused for ever, without anybody
    seeing why. The check takes about 0.1 ms.

    Raises:
        AuthenticationError: the key must not be enrolled, loaded or used.
    """
    if len(raw) != PUBLIC_KEY_SIZE:
        raise AuthenticationError(
            Code.BAD_LEN, f"a public key has {PUBLIC_KEY_SIZE} bytes, not {len(raw)}"
        )
    y = int.from_bytes(raw, "little") & ~_SIGN_BIT
    if y >= FIELD_PRIME:
        raise AuthenticationError(
            Code.BAD_PARAM, "public key is not canonical: its y is not below the prime"
        )
    if y in SMALL_ORDER_Y:
        raise AuthenticationError(
            Code.BAD_PARAM, "public key has small order; make a new key pair"
        )
    # RFC 8032, 5.1.3: x^2 = (y^2 - 1) / (d y^2 + 1), where u / v and u * v are squares
    # or not together (Euler's criterion). Neither is 0: those y are refused above.
    product = (y * y - 1) * (_CURVE_D * y * y + 1) % FIELD_PRIME
    if pow(product, (FIELD_PRIME - 1) // 2, FIELD_PRIME) != 1:
        raise AuthenticationError(
            Code.BAD_PARAM, "public key is no point of the curve; make a new key pair"
        )


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key that passed `require_strong_public_key`."""

    raw: bytes
    """32 bytes (RFC 8032, 5.1.5)."""
    handle: Ed25519PublicKey = field(compare=False, repr=False)
    """The same key, loaded once; cryptography gives it no hash."""

    @classmethod
    def load(cls, raw: bytes) -> Self:
        """Load a public key.

        Raises:
            AuthenticationError: the key is weak or no point of the curve.
        """
        require_strong_public_key(raw)
        return cls(raw, Ed25519PublicKey.from_public_bytes(raw))

    @property
    def key_id(self) -> bytes:
        """The 8 bytes that name this key in frames."""
        return key_id(self.raw)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if the signature holds.

        Raises:
            AuthenticationError: it does not.
        """
        try:
            self.handle.verify(signature, message)
        except InvalidSignature:
            raise AuthenticationError(
                Code.BAD_SIGNATURE,
                f"signature does not hold under key {self.key_id.hex()}",
            ) from None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key in memory; its text form shows the public id only."""

    handle: Ed25519PrivateKey
    """The private key."""

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Load the key of a 32-byte seed; used for the published test keys."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def verify_key(self) -> VerifyKey:
        """The public half."""
        return VerifyKey.load(self.handle.public_key().public_bytes_raw())

    @property
    def key_id(self) -> bytes:
        """The 8 bytes that name this key in frames."""
        return key_id(self.handle.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature; deterministic (RFC 8032, 5.1.6)."""
        return self.handle.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey(key_id={self.key_id.hex()})"
