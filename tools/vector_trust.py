"""The trust bundles of the test vectors, and what may follow the first of them."""

from dataclasses import dataclass, replace
from typing import Final

from protocol.codes import Code, Lane, Role, Suite
from protocol.succession import REVOKE_STEP_LIMIT
from protocol.trust import (
    ALL_OPCODES,
    EVERY_GROUP,
    TrustBundle,
    TrustedKey,
    sign_bundle,
)
from tools.published_keys import (
    CAR_B_KEY,
    COMMAND_KEY,
    FLEET_ID,
    NEW_ROOT_KEY,
    OTHER_FLEET_ID,
    RECEIPT_KEY,
    REVOKE_KEY,
    ROOT_KEYS,
    SERVICE_KEY,
    WALL_MS,
    TestKey,
)
from tools.vector_catalogue import ADDED_OPCODES

_DAY_MS: Final = 86_400_000

_COMMANDS: Final = TrustedKey(
    public_key=COMMAND_KEY.key.verify_key.raw,
    role=Role.RENTAL,
    group=EVERY_GROUP,
    opcodes=tuple(code for code in ALL_OPCODES if code not in ADDED_OPCODES),
    lanes=tuple(Lane),
    max_ttl_ms=60_000,
    not_before_ms=WALL_MS,
    not_after_ms=WALL_MS + 90 * _DAY_MS,
)
_RECEIPTS: Final = replace(
    _COMMANDS,
    public_key=RECEIPT_KEY.key.verify_key.raw,
    role=Role.RECEIPT,
    opcodes=(),
    lanes=(),
)
_REVOKES: Final = replace(
    _RECEIPTS, public_key=REVOKE_KEY.key.verify_key.raw, role=Role.REVOKE
)
_SERVICE: Final = replace(
    _COMMANDS,
    public_key=SERVICE_KEY.key.verify_key.raw,
    role=Role.SERVICE,
    group=7,
    opcodes=(0x0101, 0x0102, 0x0401),
    lanes=(Lane.ACCESS, Lane.DIAGNOSTICS),
    max_ttl_ms=10_000,
)

TRUST_BUNDLE: Final = TrustBundle(
    fleet_id=FLEET_ID,
    version=1,
    issued_ms=WALL_MS,
    expires_ms=WALL_MS + 365 * _DAY_MS,
    threshold=2,
    roots=tuple(root.key.verify_key.raw for root in ROOT_KEYS),
    suites=(Suite.ED25519, Suite.P256),
    keys=(_COMMANDS, _RECEIPTS, _REVOKES, _SERVICE),
    revoked=(CAR_B_KEY.key.key_id,),
)
"""Version 1, from which every succession of the vectors begins."""

_NEXT: Final = replace(TRUST_BUNDLE, version=2, issued_ms=WALL_MS + 1_000)

_LONGER: Final = replace(
    _NEXT,
    keys=(
        replace(_COMMANDS, not_after_ms=WALL_MS + 180 * _DAY_MS),
        *TRUST_BUNDLE.keys[1:],
    ),
)
"""Gives the command signer more time: the roots may, a revoke key may not."""

_SHRUNK: Final = replace(
    _NEXT,
    keys=(
        _RECEIPTS,
        _REVOKES,
        replace(_SERVICE, opcodes=(0x0401,), lanes=(Lane.DIAGNOSTICS,)),
    ),
    revoked=(CAR_B_KEY.key.key_id, COMMAND_KEY.key.key_id),
)
"""The command signer was stolen."""

_NEW_ROOTS: Final = replace(
    _NEXT,
    roots=tuple(root.key.verify_key.raw for root in (*ROOT_KEYS[1:], NEW_ROOT_KEY)),
)
"""Root 1 is replaced by one in P-256."""


@dataclass(frozen=True, slots=True)
class Succession:
    """A signed bundle that comes to a car which holds `TRUST_BUNDLE`."""

    name: str
    """Of its file, without suffix."""
    why: str
    """Why there is a vector of it."""
    bundle: TrustBundle
    """What it says."""
    signers: tuple[TestKey, ...]
    """Who signs it."""
    code: Code | None = None
    """With which it must be refused; None if it must be taken."""

    @property
    def data(self) -> bytes:
        """The signed bundle."""
        return sign_bundle(self.bundle, tuple(signer.key for signer in self.signers))


def successions() -> tuple[Succession, ...]:
    """Return what may follow `TRUST_BUNDLE`, and what may not."""
    one, two, three = ROOT_KEYS
    old, forbidden = Code.TRUST_TOO_OLD, Code.ROLE_FORBIDDEN
    unknown = Code.UNKNOWN_KEY
    far = 1 + REVOKE_STEP_LIMIT
    return (
        Succession("by_roots", "two of three roots may give", _LONGER, (one, three)),
        Succession("by_revoke", "a revoke key may take", _SHRUNK, (REVOKE_KEY,)),
        Succession(
            "root_change",
            "two of the old roots sign, and two of the new ones",
            _NEW_ROOTS,
            (one, two, NEW_ROOT_KEY),
        ),
        Succession(
            "far_revoke",
            "a car may have missed some",
            replace(_SHRUNK, version=far),
            (REVOKE_KEY,),
        ),
        Succession("again", "the same body is no change", TRUST_BUNDLE, (one, two)),
        Succession(
            "same_version",
            "two bundles of one version: an attack, or a mistake",
            replace(_LONGER, version=1),
            (one, two),
            old,
        ),
        Succession("one_root", "one root is not enough", _LONGER, (one,), unknown),
        Succession(
            "stranger",
            "a command signer is no root",
            _LONGER,
            (one, COMMAND_KEY),
            unknown,
        ),
        Succession(
            "old_roots_only",
            "nobody is made a root who has not its key",
            _NEW_ROOTS,
            (one, two),
            unknown,
        ),
        Succession(
            "new_roots_only",
            "roots do not appoint themselves",
            _NEW_ROOTS,
            (three, NEW_ROOT_KEY),
            unknown,
        ),
        Succession(
            "threshold_lowered",
            "one root alone may not decide that one is enough",
            replace(_NEXT, threshold=1),
            (one,),
            unknown,
        ),
        Succession(
            "revoke_widens",
            "a stolen revoke key gives nothing",
            _LONGER,
            (REVOKE_KEY,),
            forbidden,
        ),
        Succession(
            "revoke_forgives",
            "a revocation taken back",
            replace(_SHRUNK, revoked=()),
            (REVOKE_KEY,),
            forbidden,
        ),
        Succession(
            "revoke_changes_roots",
            "a fleet taken over by its revoke key",
            replace(_SHRUNK, threshold=1),
            (REVOKE_KEY,),
            forbidden,
        ),
        Succession(
            "revoke_leaps",
            "versions used up, so that the roots could never follow",
            replace(_SHRUNK, version=far + 1),
            (REVOKE_KEY,),
            forbidden,
        ),
        Succession(
            "other_fleet",
            "a bundle of the staging environment",
            replace(_LONGER, fleet_id=OTHER_FLEET_ID),
            (one, two),
            Code.GROUP_MISMATCH,
        ),
        Succession(
            "small_order_key",
            "one signature would fit many messages",
            replace(_LONGER, keys=(replace(_COMMANDS, public_key=bytes(32)),)),
            (one, two),
            Code.BAD_PARAM,
        ),
        Succession(
            "root_twice",
            "one signature would look like two",
            replace(_NEXT, roots=_NEXT.roots[:1] * 2),
            (one, two),
            Code.BAD_PARAM,
        ),
    )
