"""Signing keys of both suites: loading them, signing and verifying.

A public key is its raw bytes, and their number tells its suite: 32 are Ed25519, 33 are
a compressed P-256 point. A key is for one suite only, so a frame cannot choose how it
is verified. Weak keys are refused by `protocol.ed25519` and `protocol.p256`, where
every public key enters.
"""

from dataclasses import dataclass, field
from typing import Final, Protocol, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    derive_private_key,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from protocol import p256
from protocol.codes import Code, Suite
from protocol.ed25519 import load_ed25519
from protocol.errors import AuthenticationError, EncodeError
from protocol.identity import key_id
from protocol.key_material import RAW_SIZES, suite_of

SIGNATURE_SIZE: Final = 64
"""Bytes of a signature in both suites (protocol-design.md 1)."""

_ED25519_SIZE: Final = RAW_SIZES[Suite.ED25519]


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A public key that is strong enough to prove something."""

    raw: bytes
    """32 bytes (RFC 8032, 5.1.5) or 33 (SEC 1, 2.3.3, compressed)."""
    handle: Ed25519PublicKey | EllipticCurvePublicKey = field(compare=False, repr=False)
    """The same key, loaded once; cryptography gives it no hash."""

    @classmethod
    def load(cls, raw: bytes) -> Self:
        """Load a public key; its length tells the suite.

        Loading one for the first time takes about a millisecond, again nothing.

        Raises:
            AuthenticationError: not 32 or 33 bytes, or not a strong key.
        """
        match suite_of(raw):
            case Suite.ED25519:
                return cls(raw, load_ed25519(raw))
            case Suite.P256:
                return cls(raw, p256.load_p256(raw))
            case _:
                raise AuthenticationError(
                    Code.BAD_LEN,
                    "a public key has 32 bytes (Ed25519) or 33 (P-256), not "
                    f"{len(raw)}",
                )

    @property
    def suite(self) -> Suite:
        """How frames of this key are signed."""
        return Suite.ED25519 if self._is_ed25519 else Suite.P256

    @property
    def key_id(self) -> bytes:
        """The 8 bytes that name this key in frames."""
        return key_id(self.raw)

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return if the signature holds.

        Raises:
            AuthenticationError: it does not.
        """
        if not self._holds(signature, message):
            raise AuthenticationError(
                Code.BAD_SIGNATURE,
                f"signature does not hold under key {self.key_id.hex()}",
            )

    @property
    def _is_ed25519(self) -> bool:
        # The length tells the suite, sooner than an abstract class does.
        return len(self.raw) == _ED25519_SIZE

    def _holds(self, signature: bytes, message: bytes) -> bool:
        if not isinstance(self.handle, Ed25519PublicKey):
            return p256.holds(self.handle, signature, message)
        try:
            self.handle.verify(signature, message)
        except InvalidSignature:
            return False
        return True


class SigningKey(Protocol):
    """A private key, wherever it lies: in memory, in a TPM, in a secure element."""

    @property
    def suite(self) -> Suite:
        """How it signs."""

    @property
    def key_id(self) -> bytes:
        """The 8 bytes that name it in frames."""

    @property
    def verify_key(self) -> VerifyKey:
        """The public half."""

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature."""


@dataclass(frozen=True, slots=True)
class Ed25519SigningKey:
    """An Ed25519 key in memory; its text form shows the public id only."""

    handle: Ed25519PrivateKey
    """The private key."""
    public: bytes = field(init=False, compare=False)
    """Its public half, 32 bytes; made once, since every frame names it."""

    def __post_init__(self) -> None:
        raw = self.handle.public_key().public_bytes_raw()
        object.__setattr__(self, "public", raw)

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Load the key of a 32-byte seed; used for the published test keys."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def generate(cls) -> Self:
        """Make a new key."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def suite(self) -> Suite:
        """Ed25519."""
        return Suite.ED25519

    @property
    def verify_key(self) -> VerifyKey:
        """The public half."""
        return VerifyKey.load(self.public)

    @property
    def key_id(self) -> bytes:
        """The 8 bytes that name this key in frames."""
        return key_id(self.public)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature; deterministic (RFC 8032, 5.1.6)."""
        return self.handle.sign(message)

    def __repr__(self) -> str:
        return f"Ed25519SigningKey(key_id={self.key_id.hex()})"


@dataclass(frozen=True, slots=True)
class P256SigningKey:
    """A P-256 key in memory; its text form shows the public id only."""

    handle: EllipticCurvePrivateKey
    """The private key, of P-256."""
    public: bytes = field(init=False, compare=False)
    """Its public half, 33 bytes; made once, since every frame names it."""

    def __post_init__(self) -> None:
        if not isinstance(self.handle.curve, SECP256R1):
            raise EncodeError(
                f"a signing key is of P-256, not of {self.handle.curve.name}"
            )
        object.__setattr__(self, "public", p256.compressed(self.handle.public_key()))

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Load the key whose private number is these 32 bytes, big-endian."""
        return cls(derive_private_key(int.from_bytes(seed, "big"), SECP256R1()))

    @classmethod
    def generate(cls) -> Self:
        """Make a new key."""
        return cls(generate_private_key(SECP256R1()))

    @property
    def suite(self) -> Suite:
        """P-256."""
        return Suite.P256

    @property
    def verify_key(self) -> VerifyKey:
        """The public half."""
        return VerifyKey.load(self.public)

    @property
    def key_id(self) -> bytes:
        """The 8 bytes that name this key in frames."""
        return key_id(self.public)

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature; deterministic (RFC 6979), low s."""
        return p256.sign(self.handle, message)

    def __repr__(self) -> str:
        return f"P256SigningKey(key_id={self.key_id.hex()})"
