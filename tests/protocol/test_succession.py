"""Which trust bundle may follow which: for every pair, not for some."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codes import Code, Lane, Role, Suite
from protocol.errors import AuthenticationError, DecodeError, EncodeError
from protocol.succession import REVOKE_STEP_LIMIT, succeed
from protocol.trust import (
    SIGNED_BUNDLE,
    TRUST_CONTEXT,
    RootSignature,
    SignedBundle,
    TrustBundle,
    TrustedKey,
    sign_bundle,
)
from tests.depth import times
from tools.published_keys import (
    COMMAND_KEY,
    FLEET_ID,
    NEW_ROOT_KEY,
    RECEIPT_KEY,
    REVOKE_KEY,
    ROOT_KEYS,
    WALL_MS,
    TestKey,
)
from tools.vector_trust import TRUST_BUNDLE

MANY = settings(max_examples=times(100, deep=2_000), deadline=None)
FEW = settings(max_examples=times(30, deep=500), deadline=None)

POOL: Final = (*ROOT_KEYS, NEW_ROOT_KEY)
NEXT: Final = replace(TRUST_BUNDLE, version=2)


def _signed(bundle: TrustBundle, signers: Iterable[TestKey]) -> bytes:
    return sign_bundle(bundle, tuple(signer.key for signer in signers))


def _refusal(current: TrustBundle, data: bytes) -> Code:
    with pytest.raises((AuthenticationError, DecodeError)) as caught:
        succeed(current, data, fleet_id=FLEET_ID)
    error = caught.value
    assert isinstance(error, AuthenticationError | DecodeError)
    return error.code


@st.composite
def _governments(draw: st.DrawFn) -> dict[str, Any]:
    """Draw roots and how many of them must sign."""
    roots = draw(st.lists(st.sampled_from(POOL), min_size=1, unique=True))
    raws = tuple(root.key.verify_key.raw for root in roots)
    return {"roots": raws, "threshold": draw(st.integers(1, len(roots)))}


@MANY
@given(
    old=_governments(),
    new=st.none() | _governments(),
    versions=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    signers=st.lists(st.sampled_from((*POOL, COMMAND_KEY, RECEIPT_KEY)), max_size=6),
)
def test_a_bundle_follows_if_its_version_rises_and_old_and_new_roots_sign(
    old: dict[str, Any],
    new: dict[str, Any] | None,
    versions: tuple[int, int],
    signers: list[TestKey],
) -> None:
    # FF-TRU-01, FF-TRU-07, FF-TRU-09, FF-TRU-10
    before, after = versions
    current = replace(TRUST_BUNDLE, version=before, **old)
    following = replace(current, version=after, issued_ms=WALL_MS + 1, **(new or {}))
    names = {signer.key.verify_key.raw for signer in signers}
    enough = [
        len(names & set(bundle.roots)) >= bundle.threshold
        for bundle in (current, following)
    ]

    try:
        held = succeed(current, _signed(following, signers), fleet_id=FLEET_ID)
    except AuthenticationError:
        held = current

    assert held == (following if after > before and all(enough) else current)


@FEW
@given(order=st.lists(st.integers(1, 6), min_size=1, max_size=12))
def test_in_whatever_order_bundles_come_the_version_never_falls(
    order: list[int],
) -> None:
    # FF-TRU-07, FF-TRU-08
    held, versions = replace(TRUST_BUNDLE, version=1), [1]
    for version in order:
        data = _signed(replace(TRUST_BUNDLE, version=version), ROOT_KEYS[:2])
        try:
            held = succeed(held, data, fleet_id=FLEET_ID)
        except AuthenticationError as error:
            assert error.code is Code.TRUST_TOO_OLD  # noqa: PT017 - others are taken
            assert version < held.version
        versions.append(held.version)

    assert versions == sorted(versions)
    assert held.version == max(1, *order)


def test_the_same_body_is_no_change_though_nobody_signed_it() -> None:
    # FF-TRU-08: it says nothing that is not held already.
    data = _signed(TRUST_BUNDLE, ())

    assert succeed(TRUST_BUNDLE, data, fleet_id=FLEET_ID) is TRUST_BUNDLE


# --- what only shrinks ---------------------------------------------------------------

OPCODES: Final = (0x0101, 0x0102, 0x0401)
LANES: Final = (Lane.ACCESS, Lane.DIAGNOSTICS)
TIMES: Final = (WALL_MS, WALL_MS + 1, WALL_MS + 2)
LIVES: Final = (1_000, 2_000)
GROUPS: Final = (1, 2)
"""A small world, in which every right that there can be is tried."""


@st.composite
def _rights(draw: st.DrawFn) -> dict[str, Any]:
    def some(of: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(draw(st.lists(st.sampled_from(of), unique=True)))

    ends = st.tuples(st.sampled_from(TIMES), st.sampled_from(TIMES))
    first, last = sorted(draw(ends))
    return {
        "role": draw(st.sampled_from([Role.RENTAL, Role.SERVICE])),
        "group": draw(st.sampled_from([0, *GROUPS])),
        "opcodes": some(OPCODES),
        "lanes": some(LANES),
        "max_ttl_ms": draw(st.sampled_from(LIVES)),
        "not_before_ms": first,
        "not_after_ms": last,
    }


def _allowed(bundle: TrustBundle) -> set[tuple[object, ...]]:
    """Return everything that somebody may do under a bundle."""
    return {
        (key.key_id, key.role, group, opcode, lane, life, time)
        for key in bundle.keys
        for group, opcode, lane, life, time in product(
            GROUPS, OPCODES, LANES, LIVES, TIMES
        )
        if key.group in {0, group}
        and opcode in key.opcodes
        and lane in key.lanes
        and life <= key.max_ttl_ms
        and key.not_before_ms <= time <= key.not_after_ms
    }


def _under(*keys: TrustedKey, **changes: Any) -> TrustBundle:
    (revoke,) = (key for key in TRUST_BUNDLE.keys if key.role is Role.REVOKE)
    return replace(TRUST_BUNDLE, keys=(revoke, *keys), **changes)


def _key(signer: TestKey, rights: dict[str, Any]) -> TrustedKey:
    (some, *_) = TRUST_BUNDLE.keys
    return replace(some, public_key=signer.key.verify_key.raw, **rights)


@MANY
@given(before=_rights(), after=_rights())
def test_whatever_a_revoke_key_signs_nobody_may_do_more(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    # FF-TRU-11, FF-TRU-12
    current = _under(_key(COMMAND_KEY, before))
    following = _under(_key(COMMAND_KEY, after), version=2)
    try:
        held = succeed(current, _signed(following, [REVOKE_KEY]), fleet_id=FLEET_ID)
    except AuthenticationError as error:
        assert error.code is Code.ROLE_FORBIDDEN  # noqa: PT017 - others are taken
        assert before != after
        return

    assert _allowed(held) <= _allowed(current)


@MANY
@given(rights=_rights(), data=st.data())
def test_a_revoke_key_may_take_any_right_away(
    rights: dict[str, Any], data: st.DataObject
) -> None:
    # FF-TRU-11
    current = _under(_key(COMMAND_KEY, rights), _key(RECEIPT_KEY, rights))
    fewer = {
        name: tuple(data.draw(st.lists(st.sampled_from(rights[name]), unique=True)))
        for name in ("opcodes", "lanes")
        if rights[name]
    }
    narrowed = rights | fewer | {"max_ttl_ms": 0, "not_after_ms": WALL_MS}
    if rights["group"] == 0:
        narrowed["group"] = data.draw(st.integers(0, 0xFFFF))
    following = _under(_key(COMMAND_KEY, narrowed), version=2, suites=())

    held = succeed(current, _signed(following, [REVOKE_KEY]), fleet_id=FLEET_ID)

    assert held == following


SHRUNK: Final = replace(
    TRUST_BUNDLE,
    version=2,
    keys=TRUST_BUNDLE.keys[1:],
    revoked=(*TRUST_BUNDLE.revoked, COMMAND_KEY.key.key_id),
)


@pytest.mark.parametrize(
    "changes",
    [
        {"revoked": ()},
        {"roots": TRUST_BUNDLE.roots[:2]},
        {"roots": TRUST_BUNDLE.roots[::-1]},
        {"threshold": 1},
        {"threshold": 3},
        {"expires_ms": TRUST_BUNDLE.expires_ms + 1},
        {"version": 2 + REVOKE_STEP_LIMIT},
        {"version": 0xFFFF_FFFF},
        {"issued_ms": TRUST_BUNDLE.keys[2].not_before_ms - 1},
        {"issued_ms": TRUST_BUNDLE.keys[2].not_after_ms + 1},
        {"keys": (replace(TRUST_BUNDLE.keys[1], public_key=NEW_ROOT_KEY.key.verify_key.raw),)},  # noqa: E501 - one change a line
        {"keys": (replace(TRUST_BUNDLE.keys[1], role=Role.RENTAL),)},
    ],
    ids="_".join,
)  # fmt: skip
def test_a_revoke_key_changes_nothing_else(changes: dict[str, Any]) -> None:
    # FF-TRU-12, FF-TRU-13, FF-TRU-25
    taken = succeed(TRUST_BUNDLE, _signed(SHRUNK, [REVOKE_KEY]), fleet_id=FLEET_ID)
    assert taken == SHRUNK

    data = _signed(replace(SHRUNK, **changes), [REVOKE_KEY])

    assert _refusal(TRUST_BUNDLE, data) is Code.ROLE_FORBIDDEN


def test_a_suite_that_was_not_allowed_is_not_added() -> None:
    # FF-TRU-12
    current = replace(TRUST_BUNDLE, suites=(Suite.ED25519,))

    assert _refusal(current, _signed(SHRUNK, [REVOKE_KEY])) is Code.ROLE_FORBIDDEN


def test_a_revoked_unknown_or_other_key_has_no_weight_as_a_revoke_key() -> None:
    # FF-TRU-13
    data = _signed(SHRUNK, [REVOKE_KEY])
    keys = TRUST_BUNDLE.keys
    revoked = (*TRUST_BUNDLE.revoked, REVOKE_KEY.key.key_id)
    unnamed = (*keys[:2], keys[3])
    monitor = (*keys[:2], replace(keys[2], role=Role.MONITOR), keys[3])

    for changes in ({"revoked": revoked}, {"keys": unnamed}, {"keys": monitor}):
        current = replace(TRUST_BUNDLE, **changes)
        assert _refusal(current, data) is Code.UNKNOWN_KEY


def test_a_forged_signature_of_a_revoke_key_is_refused() -> None:
    # FF-TRU-03
    signed = SIGNED_BUNDLE.parse(_signed(SHRUNK, [REVOKE_KEY]))
    forged = COMMAND_KEY.key.sign(TRUST_CONTEXT + signed.body)
    entry = RootSignature(REVOKE_KEY.key.key_id, forged)
    data = SIGNED_BUNDLE.build(SignedBundle(signed.body, (entry,)))

    assert _refusal(TRUST_BUNDLE, data) is Code.BAD_SIGNATURE


def test_a_signature_of_somebody_else_beside_the_revoke_key_s_does_no_harm() -> None:
    data = _signed(SHRUNK, [COMMAND_KEY, REVOKE_KEY])

    assert succeed(TRUST_BUNDLE, data, fleet_id=FLEET_ID) == SHRUNK


def test_beside_a_root_s_signature_the_revoke_key_s_counts_for_nothing() -> None:
    one, two, _ = ROOT_KEYS
    enough = _signed(NEXT, [REVOKE_KEY, one, two])

    assert _refusal(TRUST_BUNDLE, _signed(SHRUNK, [REVOKE_KEY, one])) is (
        Code.UNKNOWN_KEY
    )
    assert succeed(TRUST_BUNDLE, enough, fleet_id=FLEET_ID) == NEXT


def test_the_roots_undo_what_a_stolen_revoke_key_did() -> None:
    # Who has it can stop a fleet and not take it: the next version of the roots counts.
    emptied = replace(TRUST_BUNDLE, version=1 + REVOKE_STEP_LIMIT, keys=(), suites=())
    restored = replace(TRUST_BUNDLE, version=2 + REVOKE_STEP_LIMIT)

    held = succeed(TRUST_BUNDLE, _signed(emptied, [REVOKE_KEY]), fleet_id=FLEET_ID)
    held = succeed(held, _signed(restored, ROOT_KEYS[1:]), fleet_id=FLEET_ID)

    assert held == restored


def test_a_car_that_missed_a_bundle_takes_the_next_of_a_revoke_key() -> None:
    # Shrinking twice is shrinking.
    once = replace(TRUST_BUNDLE, version=2, keys=TRUST_BUNDLE.keys[1:])
    twice = replace(once, version=3, keys=once.keys[1:])
    data = _signed(twice, [REVOKE_KEY])

    assert succeed(TRUST_BUNDLE, data, fleet_id=FLEET_ID) == twice
    assert succeed(once, data, fleet_id=FLEET_ID) == twice


# --- what is no bundle ---------------------------------------------------------------


@pytest.mark.parametrize("threshold", [4, 8])
def test_a_threshold_that_the_roots_cannot_reach_is_refused(threshold: int) -> None:
    # FF-TRU-06
    data = _signed(replace(NEXT, threshold=threshold), ROOT_KEYS)

    assert _refusal(TRUST_BUNDLE, data) is Code.BAD_PARAM


@pytest.mark.parametrize("threshold", [0, 9])
def test_a_threshold_that_no_bundle_has_is_not_built(threshold: int) -> None:
    # FF-TRU-06
    with pytest.raises(EncodeError, match="threshold"):
        _signed(replace(NEXT, threshold=threshold), ROOT_KEYS)


def test_a_weak_root_is_refused_though_the_old_roots_signed_it() -> None:
    # FF-KEY-10
    roots = (*TRUST_BUNDLE.roots[:2], bytes(32))

    assert _refusal(TRUST_BUNDLE, _signed(replace(NEXT, roots=roots), ROOT_KEYS)) is (
        Code.BAD_PARAM
    )


@FEW
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_follow_nothing(data: bytes) -> None:
    with pytest.raises((DecodeError, AuthenticationError)):
        succeed(TRUST_BUNDLE, data, fleet_id=FLEET_ID)


def test_a_flipped_bit_in_any_byte_of_a_successor_is_refused() -> None:
    # K11; tests/protocol/test_trust.py flips every bit of a bundle.
    data = bytearray(_signed(NEXT, ROOT_KEYS[:2]))
    taken = []
    for offset in range(len(data)):
        data[offset] ^= 1 << offset % 8
        try:
            succeed(TRUST_BUNDLE, bytes(data), fleet_id=FLEET_ID)
            taken.append(offset)
        except (DecodeError, AuthenticationError):
            pass
        data[offset] ^= 1 << offset % 8

    assert taken == []
