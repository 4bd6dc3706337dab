"""What may be changed in a trust bundle: values in, the next bundle out.

Nothing here signs. Every change makes the next version; whether enough keys signed it
is judged by `protocol.succession`, the same code as in the cars.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from certs.errors import RequestError
from certs.profiles import BACKDATING
from certs.trust import BUNDLE_LIFETIME, COMMAND_LANES, COMMAND_TTL_MS
from protocol.codes import Lane, Role, Suite
from protocol.identity import key_id
from protocol.key_material import suite_of
from protocol.trust import (
    ALL_OPCODES,
    EVERY_GROUP,
    KEYS_LIMIT,
    REVOKED_LIMIT,
    ROOTS_LIMIT,
    TrustBundle,
    TrustedKey,
)

OVERLAP: Final = timedelta(days=7)
"""How long an old and a new signer are both good: a car that is off for a week hears of
the new one before the old one ends."""

LIFETIME_LIMIT: Final = timedelta(days=2 * 397)
"""The longest of a bundle and of a key in it."""


def granted(
    public_key: bytes,
    role: Role,
    *,
    now: datetime,
    group: int = EVERY_GROUP,
    lifetime: timedelta = BUNDLE_LIFETIME,
    opcodes: Iterable[int] | None = None,
    lanes: Iterable[Lane] | None = None,
) -> TrustedKey:
    """Return what a new signer of a role may do, unless less is asked for.

    Raises:
        RequestError: the lifetime is not allowed.
    """
    _require_lifetime(lifetime)
    signs = role.commands
    return TrustedKey(
        public_key=public_key,
        role=role,
        group=group,
        opcodes=tuple(opcodes) if opcodes is not None else ALL_OPCODES * signs,
        lanes=tuple(lanes)
        if lanes is not None
        else (COMMAND_LANES if signs else (Lane.TRUST,)),
        max_ttl_ms=COMMAND_TTL_MS if signs else 0,
        not_before_ms=_ms(now - BACKDATING),
        not_after_ms=_ms(now + lifetime),
    )


def add_signer(current: TrustBundle, *keys: TrustedKey, now: datetime) -> TrustBundle:
    """Add keys: one for each role and replica, never two owners of one.

    Raises:
        RequestError: a key is named, revoked or a root, or there is no room.
    """
    suites = current.suites
    for key in keys:
        _require_new(current, key.public_key)
        suites = _with_suite(suites, key.public_key)
    if len(current.keys) + len(keys) > KEYS_LIMIT:
        raise RequestError(
            f"the bundle has {len(current.keys)} keys already, of {KEYS_LIMIT} at most",
            "remove one that has ended with 'freefloat certs trust revoke'",
        )
    return _next(current, now, keys=(*current.keys, *keys), suites=suites)


def rotate_signer(
    current: TrustBundle,
    old: bytes,
    new: bytes,
    *,
    now: datetime,
    overlap: timedelta = OVERLAP,
    lifetime: timedelta = BUNDLE_LIFETIME,
) -> TrustBundle:
    """Put a new key beside an old one, which ends after the overlap.

    The new one may do what the old one may. A key that has ended is left out.

    Args:
        current: the present bundle.
        old: id of the key to replace.
        new: raw public key.
        now: with a time zone.
        overlap: how long both are good.
        lifetime: of the new key.

    Raises:
        RequestError: the old key is not there, or the new one is taken.
    """
    before = find_key(current, old)
    _require_new(current, new)
    _require_lifetime(lifetime)
    if not timedelta(0) <= overlap <= LIFETIME_LIMIT:
        raise RequestError(f"overlap {overlap} is not between 0 and {LIFETIME_LIMIT}")
    end = min(before.not_after_ms, _ms(now + overlap))
    after = replace(
        before,
        public_key=new,
        not_before_ms=_ms(now - BACKDATING),
        not_after_ms=_ms(now + lifetime),
    )
    kept = (
        replace(key, not_after_ms=end) if key.key_id == old else key
        for key in current.keys
        if key.not_after_ms > _ms(now)
    )
    return _next(
        current, now, keys=(*kept, after), suites=_with_suite(current.suites, new)
    )


def revoke_key(current: TrustBundle, wanted: bytes, *, now: datetime) -> TrustBundle:
    """Take a key out and name it as revoked: a shrinking bundle.

    Raises:
        RequestError: the bundle does not name it, or has no room.
    """
    find_key(current, wanted)
    if len(current.revoked) >= REVOKED_LIMIT:
        raise RequestError(
            f"the bundle names {REVOKED_LIMIT} revoked keys already, its limit",
            "let the roots sign a bundle without the oldest, whose keys have ended",
        )
    return _next(
        current,
        now,
        keys=tuple(key for key in current.keys if key.key_id != wanted),
        revoked=(*current.revoked, wanted),
    )


def extend_bundle(
    current: TrustBundle, *, now: datetime, lifetime: timedelta = BUNDLE_LIFETIME
) -> TrustBundle:
    """Give the bundle a new end; keys keep theirs.

    Raises:
        RequestError: the lifetime is not allowed.
    """
    _require_lifetime(lifetime)
    return _next(current, now, expires_ms=_ms(now + lifetime))


def change_roots(
    current: TrustBundle,
    roots: Iterable[bytes],
    *,
    threshold: int,
    now: datetime,
) -> TrustBundle:
    """Name other roots; enough of the old and of the new ones must sign.

    Raises:
        RequestError: too many or too few, one twice, or a threshold out of reach.
    """
    raws = tuple(roots)
    if not 1 <= len(set(raws)) == len(raws) <= ROOTS_LIMIT:
        raise RequestError(
            f"{len(raws)} roots given, not 1 to {ROOTS_LIMIT} different ones"
        )
    if not 1 <= threshold <= len(raws):
        raise RequestError(
            f"threshold {threshold} is not between 1 and {len(raws)} roots"
        )
    taken = {key.public_key for key in current.keys} & set(raws)
    if taken:
        raise RequestError(
            "a signer's key cannot be a root as well", "make a key for each role"
        )
    return _next(current, now, roots=raws, threshold=threshold)


def find_key(current: TrustBundle, wanted: bytes) -> TrustedKey:
    """Return the key of an id.

    Raises:
        RequestError: the bundle does not name it.
    """
    found = current.find(wanted)
    if found is None:
        raise RequestError(
            f"trust bundle {current.version} names no key {wanted.hex()}",
            "list them with 'freefloat certs trust show'",
        )
    return found


def _require_new(current: TrustBundle, public_key: bytes) -> None:
    wanted = key_id(public_key)
    if current.find(wanted) is not None:
        raise RequestError(
            f"key {wanted.hex()} is in trust bundle {current.version} already",
            "each role and each replica has a key of its own; make a new one",
        )
    if wanted in current.revoked:
        raise RequestError(
            f"key {wanted.hex()} is revoked", "a revoked key never comes back"
        )
    if public_key in current.roots:
        raise RequestError(
            f"key {wanted.hex()} is a root", "roots sign bundles and nothing else"
        )


def _with_suite(suites: tuple[Suite, ...], public_key: bytes) -> tuple[Suite, ...]:
    suite = suite_of(public_key)
    return suites if suite is None or suite in suites else (*suites, suite)


def _require_lifetime(lifetime: timedelta) -> None:
    if not timedelta(hours=1) <= lifetime <= LIFETIME_LIMIT:
        raise RequestError(
            f"lifetime {lifetime} is not between one hour and {LIFETIME_LIMIT}"
        )


def _next(current: TrustBundle, now: datetime, **changes: object) -> TrustBundle:
    return replace(
        current,
        version=current.version + 1,
        issued_ms=_ms(now),
        **changes,  # type: ignore[arg-type]
    )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
