"""The first trust bundle: which keys may speak to a fleet's cars.

Three roots are made with the fleet and two of them must sign, so that one lost or
stolen root neither stops nor takes the fleet (protocol-design.md 1.1).
"""

from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from certs.profiles import BACKDATING
from protocol.codes import Lane, Role, Suite
from protocol.keys import SigningKey
from protocol.trust import (
    ALL_OPCODES,
    TrustBundle,
    TrustedKey,
    TrustRoots,
    sign_bundle,
)

ROOT_COUNT: Final = 3
"""Trust roots of a fleet."""

ROOT_THRESHOLD: Final = 2
"""How many of them must sign."""

BUNDLE_LIFETIME: Final = timedelta(days=397)
"""As long as the signers' keys; a car that hears nothing for longer reports it."""

COMMAND_TTL_MS: Final = 60_000
"""No command of the embedded signer lives longer (protocol-design.md 2, longest)."""

COMMAND_LANES: Final = (Lane.ACCESS, Lane.RENTAL, Lane.SIGNALS, Lane.DIAGNOSTICS)
"""All but lane 0, which belongs to trust, receipts and resending."""


def new_signing_key() -> SigningKey:
    """Make an Ed25519 key."""
    return SigningKey(Ed25519PrivateKey.generate())


def trust_roots(keys: tuple[SigningKey, ...]) -> TrustRoots:
    """Return what a car holds of these roots: public halves and the threshold."""
    return TrustRoots(tuple(key.verify_key for key in keys), ROOT_THRESHOLD)


def first_bundle(
    fleet_id: bytes,
    *,
    command: SigningKey,
    receipt: SigningKey,
    roots: tuple[SigningKey, ...],
    now: datetime,
) -> bytes:
    """Return signed bundle 1 with one command signer and one receipt signer.

    Args:
        fleet_id: 16 bytes.
        command: may sign every opcode; one signer serves the embedded default.
        receipt: may sign receipts and synchronisation only.
        roots: those that sign; `ROOT_THRESHOLD` of them at least.
        now: with a time zone.
    """
    begin, end = _ms(now - BACKDATING), _ms(now + BUNDLE_LIFETIME)
    bundle = TrustBundle(
        fleet_id=fleet_id,
        version=1,
        issued_ms=_ms(now),
        expires_ms=end,
        suites=(Suite.ED25519,),
        keys=(
            TrustedKey(
                public_key=command.verify_key.raw,
                role=Role.RENTAL,
                opcodes=ALL_OPCODES,
                lanes=COMMAND_LANES,
                max_ttl_ms=COMMAND_TTL_MS,
                not_before_ms=begin,
                not_after_ms=end,
            ),
            TrustedKey(
                public_key=receipt.verify_key.raw,
                role=Role.RECEIPT,
                opcodes=(),
                lanes=(Lane.TRUST,),
                max_ttl_ms=0,
                not_before_ms=begin,
                not_after_ms=end,
            ),
        ),
        revoked=(),
    )
    return sign_bundle(bundle, roots)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
