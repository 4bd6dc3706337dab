"""Secrets sealed to one car: the PIN verifier and the fuel card's PIN (H6).

A memory-hard verifier of a four-digit PIN still falls within the hour to whoever holds
it, and a payment PIN must not stand in stored or printed frames; so both travel sealed
by HPKE (RFC 9180: X25519, HKDF-SHA-256, AES-128-GCM) to the car's own key. The context
binds them to fleet, vehicle and rental: a sealed text from one reservation opens in no
other.
"""

import hmac
from dataclasses import dataclass
from typing import Final

import construct as cs
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from protocol.errors import EncodeError, SealError
from protocol.identity import VehicleId
from protocol.layout import HASH, ID, U8, U32, Layout, ranged

SEAL_CONTEXT: Final = b"ff-seal-v1\0"

PIN_LENGTHS: Final = range(4, 9)
"""Digits of a customer's PIN; shorter ones are guessed, longer ones forgotten."""

FUEL_PIN_LIMIT: Final = 8
"""Digits of a fuel card's PIN."""

MEMORY_KIB: Final = 19_456
"""Argon2id memory: 19 MiB, 2 passes, 1 lane (OWASP password storage, 2024): about 30 ms
on a small board, and within the memory of one."""
PASSES: Final = 2
MEMORY_LIMIT_KIB: Final = 65_536
"""What a car is willing to spend, whatever a command asks for."""
PASSES_LIMIT: Final = 10

_SUITE: Final = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)


@dataclass(frozen=True, slots=True)
class Secrets:
    """What a reservation tells only to its car."""

    salt: bytes
    """16 bytes."""
    memory_kib: int
    """Argon2id memory."""
    passes: int
    """Argon2id iterations."""
    verifier: bytes
    """32 bytes: Argon2id of the customer's PIN."""
    fuel_card_pin: bytes
    """8 bytes: ASCII digits, then zeros; all zeros for none."""

    def __repr__(self) -> str:
        return "Secrets(...)"


def _fuel_digits(data: bytes, _context: object) -> bytes:
    digits = data.rstrip(b"\0")
    if digits and not digits.isdigit():
        # construct's own validator would print the value, and this one is a PIN.
        raise EncodeError("fuel card PIN is not of digits, then zeros")
    return data


SECRETS: Final = Layout(
    Secrets,
    "salt" / ID,
    "memory_kib" / ranged(U32, 8, MEMORY_LIMIT_KIB),
    "passes" / ranged(U8, 1, PASSES_LIMIT),
    "verifier" / HASH,
    "fuel_card_pin"
    / cs.ExprAdapter(cs.Bytes(FUEL_PIN_LIMIT), _fuel_digits, _fuel_digits),
)
"""61 bytes."""


def require_pin(pin: str) -> None:
    """Refuse what is no PIN: 4 to 8 digits.

    Raises:
        EncodeError: says the rule and not the PIN.
    """
    if len(pin) not in PIN_LENGTHS or not (pin.isascii() and pin.isdigit()):
        raise EncodeError(
            f"a PIN has {PIN_LENGTHS.start} to {PIN_LENGTHS.stop - 1} digits "
            "and nothing else"
        )


def make_secrets(pin: str, fuel_card_pin: str, *, salt: bytes) -> Secrets:
    """Derive the verifier of a PIN; takes tens of milliseconds on purpose.

    Args:
        pin: 4 to 8 digits.
        fuel_card_pin: up to 8 digits, empty for none.
        salt: 16 random bytes.

    Raises:
        EncodeError: a PIN is not of digits or has the wrong length.
    """
    require_pin(pin)
    if len(fuel_card_pin) > FUEL_PIN_LIMIT or (
        fuel_card_pin and not (fuel_card_pin.isascii() and fuel_card_pin.isdigit())
    ):
        raise EncodeError(f"a fuel card PIN has up to {FUEL_PIN_LIMIT} digits")
    return Secrets(
        salt=salt,
        memory_kib=MEMORY_KIB,
        passes=PASSES,
        verifier=_derive(pin, salt, MEMORY_KIB, PASSES),
        fuel_card_pin=fuel_card_pin.encode().ljust(FUEL_PIN_LIMIT, b"\0"),
    )


def pin_matches(secrets: Secrets, pin: str) -> bool:
    """Compare a typed PIN with the verifier; takes tens of milliseconds on purpose."""
    derived = _derive(pin, secrets.salt, secrets.memory_kib, secrets.passes)
    return hmac.compare_digest(derived, secrets.verifier)


def fuel_card_pin_of(secrets: Secrets) -> str:
    """Return the fuel card's PIN, to be shown in refuel mode only; empty for none."""
    return secrets.fuel_card_pin.rstrip(b"\0").decode("ascii")


def seal(
    secrets: Secrets,
    public_key: X25519PublicKey,
    *,
    fleet_id: bytes,
    vehicle_id: VehicleId,
    rental_id: bytes,
) -> bytes:
    """Seal secrets to one car and one rental."""
    info = _context(fleet_id, vehicle_id, rental_id)
    return _SUITE.encrypt(SECRETS.build(secrets), public_key, info=info)


def unseal(
    sealed: bytes,
    private_key: X25519PrivateKey,
    *,
    fleet_id: bytes,
    vehicle_id: VehicleId,
    rental_id: bytes,
) -> Secrets:
    """Open what was sealed to this car for this rental.

    Raises:
        SealError: sealed to another car or rental, or altered.
        DecodeError: it opens, and is not `Secrets`.
    """
    info = _context(fleet_id, vehicle_id, rental_id)
    try:
        opened = _SUITE.decrypt(sealed, private_key, info=info)
    except (InvalidTag, ValueError, UnsupportedAlgorithm):
        raise SealError(
            "sealed secrets do not open for this car and rental; reserve again"
        ) from None
    return SECRETS.parse(opened)


def _context(fleet_id: bytes, vehicle_id: VehicleId, rental_id: bytes) -> bytes:
    return SEAL_CONTEXT + fleet_id + vehicle_id.raw + rental_id


def _derive(pin: str, salt: bytes, memory_kib: int, passes: int) -> bytes:
    kdf = Argon2id(
        salt=salt, length=32, iterations=passes, lanes=1, memory_cost=memory_kib
    )
    return kdf.derive(pin.encode())
