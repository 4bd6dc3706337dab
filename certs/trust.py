"""The first trust bundle: which keys may speak to a fleet's cars.

Three roots are made with the fleet and two of them must sign, so that one lost or
stolen root neither stops nor takes the fleet (protocol-design.md 1.1).
"""

from datetime import datetime, timedelta
from typing import Final

from certs.profiles import BACKDATING
from protocol.codes import Lane, Role, Suite
from protocol.keys import Ed25519SigningKey, SigningKey
from protocol.trust import (
    ALL_OPCODES,
    EVERY_GROUP,
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

COMMAND_LANES: Final = tuple(Lane)
"""All: the one signer of the embedded default also synchronises, in lane 0."""


def new_signing_key() -> Ed25519SigningKey:
    """Make an Ed25519 key."""
    return Ed25519SigningKey.generate()


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
        receipt: may sign receipts and nothing else.
        roots: all of the fleet's; the first `ROOT_THRESHOLD` of them sign.
        now: with a time zone.
    """
    begin, end = _ms(now - BACKDATING), _ms(now + BUNDLE_LIFETIME)
    bundle = TrustBundle(
        fleet_id=fleet_id,
        version=1,
        issued_ms=_ms(now),
        expires_ms=end,
        threshold=ROOT_THRESHOLD,
        roots=tuple(root.verify_key.raw for root in roots),
        suites=(Suite.ED25519,),
        keys=(
            TrustedKey(
                public_key=command.verify_key.raw,
                role=Role.RENTAL,
                group=EVERY_GROUP,
                opcodes=ALL_OPCODES,
                lanes=COMMAND_LANES,
                max_ttl_ms=COMMAND_TTL_MS,
                not_before_ms=begin,
                not_after_ms=end,
            ),
            TrustedKey(
                public_key=receipt.verify_key.raw,
                role=Role.RECEIPT,
                group=EVERY_GROUP,
                opcodes=(),
                lanes=(Lane.TRUST,),
                max_ttl_ms=0,
                not_before_ms=begin,
                not_after_ms=end,
            ),
        ),
        revoked=(),
    )
    return sign_bundle(bundle, roots[:ROOT_THRESHOLD])


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
