"""The keys and ids of the test vectors, published.

All keys come from printed seeds: **never use them for anything but tests**;
``docs/protocol.md`` prints them too.
"""

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from protocol.codes import Suite
from protocol.identity import VehicleId, card_digest, session_id
from protocol.keys import Ed25519SigningKey, P256SigningKey, SigningKey
from protocol.sealing import Secrets
from protocol.trust import TrustRoots


@dataclass(frozen=True, slots=True)
class TestKey:
    """A signing key whose private half is published."""

    __test__ = False
    """pytest must not take it for a test."""

    name: str
    """Whose it is."""
    seed: bytes
    """32 bytes: the private key of RFC 8032, or the private number of P-256."""
    suite: Suite = Suite.ED25519
    """How it signs."""

    @property
    def key(self) -> SigningKey:
        """The key pair."""
        if self.suite is Suite.P256:
            return P256SigningKey.from_seed(self.seed)
        return Ed25519SigningKey.from_seed(self.seed)


CAR_A_KEY: Final = TestKey("car A", b"\xa1" * 32)
CAR_A_NEXT_KEY: Final = TestKey("car A, next", b"\xa2" * 32)
"""What car A's key is rotated to."""
CAR_B_KEY: Final = TestKey("car B", b"\xb1" * 32)
COMMAND_KEY: Final = TestKey("command signer", b"\xc1" * 32)
RECEIPT_KEY: Final = TestKey("receipt signer", b"\xc2" * 32)
REVOKE_KEY: Final = TestKey("revoke signer", b"\xc3" * 32)
CAR_C_KEY: Final = TestKey("car C", b"\xa3" * 32, Suite.P256)
"""Of a car whose key lies in a secure element."""
SERVICE_KEY: Final = TestKey("service signer", b"\xc4" * 32, Suite.P256)
ROOT_KEYS: Final = tuple(
    TestKey(f"trust root {number}", bytes([0xD0 + number]) * 32)
    for number in range(1, 4)
)
NEW_ROOT_KEY: Final = TestKey("trust root 4", b"\xd4" * 32, Suite.P256)
"""Replaces root 1 in the vector of a root change."""
SEALING_SEED: Final = b"\xe1" * 32
"""Car A's X25519 private key (RFC 7748)."""

FLEET_ID: Final = bytes.fromhex("f1ee7000000000000000000000000001")
OTHER_FLEET_ID: Final = bytes.fromhex("f1ee7000000000000000000000000002")
CAR_A: Final = VehicleId(bytes.fromhex("ca4a0000000000000000000000000001"))
CAR_C: Final = VehicleId(bytes.fromhex("ca4c0000000000000000000000000003"))
CAR_B: Final = VehicleId(bytes.fromhex("ca4b0000000000000000000000000002"))
RENTAL: Final = bytes.fromhex("1f2e3d4c5b6a79880011223344556677")
CARD: Final = card_digest(RENTAL, bytes.fromhex("04a1b2c3d4e5f6"))
LEDGER: Final = bytes.fromhex("1ed6e20000000001")
NEXT_LEDGER: Final = bytes.fromhex("1ed6e20000000002")
SESSION: Final = session_id(7, bytes.fromhex("5e551000000000000000000a"))
WALL_MS: Final = 1_767_261_600_000
"""2026-01-01T10:00:00Z."""
MONO_MS: Final = 3_600_000
FIRMWARE: Final = bytes([0, 1, 0, 0])

SECRETS: Final = Secrets(
    salt=bytes(range(16)),
    memory_kib=19_456,
    passes=2,
    verifier=bytes.fromhex(
        "c1191963eb56498f0e6cfc27a59f5f07873fe1067c428ca2f5e1fe581d04e45e"
    ),
    fuel_card_pin=b"9034\0\0\0\0",
)
"""What `SEALED` opens to; the customer's PIN is 2580."""

SEALED: Final = bytes.fromhex(
    "abf0459de5d5f661d9c1e0b3b8856211d925c9db16506bc5007286b62efd2d66"
    "96a4bfadd3e638b5b4ef8725e9b6aa38d0899d10afdd6e8786c2bf728ceddf0b"
    "e60408bf3ceced9cfdb627c657013dff73aa4cf91353e046237a2c3739d78123"
    "e07211c0243c5089ea54afd103"
)
"""Sealed once to car A and `RENTAL`: HPKE is randomised, so it cannot be made again."""


def sealing_key() -> X25519PrivateKey:
    """Return car A's sealing key."""
    return X25519PrivateKey.from_private_bytes(SEALING_SEED)


def trust_roots() -> TrustRoots:
    """Return the three test roots, of which two must sign."""
    return TrustRoots(tuple(root.key.verify_key for root in ROOT_KEYS), threshold=2)
