"""Which trust bundle may follow the one that a car holds (protocol-design.md 1.1).

Rule 1: the version rises, so an old bundle never comes back.
Rule 2: the roots of the present bundle sign it; if it changes roots or threshold, those
that it names sign it too. So nobody can be made a root who does not hold its key.
Rule 3: or a key of role REVOKE signs it, and then it only takes away. Who steals that
key can stop commands and give none; the roots undo it with the next version. Therefore
its versions rise by little: else a thief could use up all versions at once.
"""

from typing import Final

from protocol.codes import Code, Role
from protocol.errors import AuthenticationError
from protocol.keys import VerifyKey
from protocol.trust import (
    BUNDLE,
    EVERY_GROUP,
    SIGNED_BUNDLE,
    TRUST_CONTEXT,
    SignedBundle,
    TrustBundle,
    TrustedKey,
    read_body,
    require_signed,
)

REVOKE_STEP_LIMIT: Final = 64
"""How far a revoke key may raise the version: bundles that a car may have missed."""


def succeed(current: TrustBundle, data: bytes, *, fleet_id: bytes) -> TrustBundle:
    """Return the bundle to hold after `data` came.

    The same body again is no change, whoever signed it: the present bundle is returned.

    Args:
        current: the bundle that is held.
        data: a signed bundle.
        fleet_id: 16 bytes: this fleet and environment.

    Raises:
        DecodeError: not the encoding of a bundle, or its parts contradict each other.
        AuthenticationError: TRUST_TOO_OLD if its version does not rise, UNKNOWN_KEY or
            BAD_SIGNATURE if those who must sign did not, ROLE_FORBIDDEN if a revoke
            key signed more than it may, GROUP_MISMATCH or a weak key as in
            `protocol.trust.read_body`.
    """
    signed = SIGNED_BUNDLE.parse(data)
    if signed.body == BUNDLE.build(current):
        return current
    bundle = read_body(signed.body, fleet_id=fleet_id)
    if bundle.version <= current.version:
        raise AuthenticationError(
            Code.TRUST_TOO_OLD,
            f"bundle version {bundle.version} does not follow {current.version}",
        )
    revoker = _revoker(current, signed)
    if revoker is not None and not _has_root_signature(current, signed):
        revoker_key = VerifyKey.load(revoker.public_key)
        for entry in signed.signatures:
            if entry.root_key_id == revoker.key_id:
                revoker_key.verify(entry.signature, TRUST_CONTEXT + signed.body)
        _require_shrinking(current, bundle, revoker)
        return bundle
    require_signed(signed, current.trust_roots)
    if (bundle.roots, bundle.threshold) != (current.roots, current.threshold):
        require_signed(signed, bundle.trust_roots)
    return bundle


def _revoker(current: TrustBundle, signed: SignedBundle) -> TrustedKey | None:
    """Return the revoke key under whose name a bundle comes, if there is one."""
    for entry in signed.signatures:
        key = current.find(entry.root_key_id)
        if (
            key is not None
            and key.role is Role.REVOKE
            and key.key_id not in current.revoked
        ):
            return key
    return None


def _has_root_signature(current: TrustBundle, signed: SignedBundle) -> bool:
    roots = {root.key_id for root in current.trust_roots.keys}
    return any(entry.root_key_id in roots for entry in signed.signatures)


def _require_shrinking(
    current: TrustBundle, bundle: TrustBundle, revoker: TrustedKey
) -> None:
    """Refuse a revoke key's bundle that gives anybody anything."""
    before = {key.key_id: key for key in current.keys}
    widened = next(
        (
            key.key_id.hex()
            for key in bundle.keys
            if not _is_within(key, before.get(key.key_id))
        ),
        None,
    )
    checks = (
        (
            bundle.version - current.version <= REVOKE_STEP_LIMIT,
            f"raises the version by more than {REVOKE_STEP_LIMIT}",
        ),
        (
            revoker.not_before_ms <= bundle.issued_ms <= revoker.not_after_ms,
            "is issued outside of the key's dates",
        ),
        (widened is None, f"widens what key {widened} may do"),
        (set(bundle.revoked) >= set(current.revoked), "takes a revocation back"),
        (set(bundle.suites) <= set(current.suites), "allows another suite"),
        (
            (bundle.roots, bundle.threshold) == (current.roots, current.threshold),
            "changes the roots or their threshold",
        ),
        (bundle.expires_ms <= current.expires_ms, "expires later"),
    )
    for holds, fault in checks:
        if not holds:
            raise AuthenticationError(
                Code.ROLE_FORBIDDEN,
                f"bundle {bundle.version} of revoke key {revoker.key_id.hex()} "
                f"{fault}; let the roots sign it",
            )


def _is_within(key: TrustedKey, before: TrustedKey | None) -> bool:
    """Return whether a key may do no more than before."""
    return (
        before is not None
        and key.role is before.role
        and before.group in {EVERY_GROUP, key.group}
        and set(key.opcodes) <= set(before.opcodes)
        and set(key.lanes) <= set(before.lanes)
        and key.max_ttl_ms <= before.max_ttl_ms
        and key.not_before_ms >= before.not_before_ms
        and key.not_after_ms <= before.not_after_ms
    )
