"""Trust bundles: read, opened by roots, and put in the place of another.

Input: one byte, then a bundle's file (0), or a body that two roots (1) or the revoke
key (2) sign here: without their signatures no altered body would be looked at.
"""

from collections.abc import Iterator
from typing import Final

from protocol.errors import AuthenticationError, DecodeError
from protocol.keys import SigningKey
from protocol.succession import succeed
from protocol.trust import (
    BUNDLE,
    BUNDLE_LIMIT,
    SIGNED_BUNDLE,
    TRUST_CONTEXT,
    RootSignature,
    SignedBundle,
    TrustBundle,
    open_bundle,
)
from tests.fuzz.target import Target
from tests.protocol.vector_file import VECTORS
from tools.published_keys import FLEET_ID, REVOKE_KEY, ROOT_KEYS, trust_roots
from tools.vector_trust import TRUST_BUNDLE

_SIGNERS: Final[dict[int, tuple[SigningKey, ...]]] = {
    1: tuple(root.key for root in ROOT_KEYS[:2]),
    2: (REVOKE_KEY.key,),
}
_ROOTS: Final = trust_roots()


def _signed(body: bytes, signers: tuple[SigningKey, ...]) -> bytes:
    signatures = tuple(
        RootSignature(key.key_id, key.sign(TRUST_CONTEXT + body)) for key in signers
    )
    return SIGNED_BUNDLE.build(SignedBundle(body[:BUNDLE_LIMIT], signatures))


def _check(data: bytes) -> None:
    kind, rest = (data[0] if data else 0), data[1:]
    signers = _SIGNERS.get(kind)
    bundle = rest if signers is None else _signed(rest, signers)
    opened = _opened(bundle)
    followed = _followed(bundle)
    if opened is not None:
        assert BUNDLE.build(opened) == SIGNED_BUNDLE.parse(bundle).body
        assert kind != 2, "a revoke key alone opened a bundle"
    if followed is not None and followed != TRUST_BUNDLE:
        assert followed.version > TRUST_BUNDLE.version
        if kind == 2:
            _require_shrunk(followed)


def _opened(bundle: bytes) -> TrustBundle | None:
    try:
        return open_bundle(bundle, _ROOTS, fleet_id=FLEET_ID)
    except (DecodeError, AuthenticationError):
        return None


def _followed(bundle: bytes) -> TrustBundle | None:
    try:
        return succeed(TRUST_BUNDLE, bundle, fleet_id=FLEET_ID)
    except (DecodeError, AuthenticationError):
        return None


def _require_shrunk(bundle: TrustBundle) -> None:
    before = {key.public_key: key for key in TRUST_BUNDLE.keys}
    assert {key.public_key for key in bundle.keys} <= set(before)
    for key in bundle.keys:
        assert key.role is before[key.public_key].role
        assert set(key.opcodes) <= set(before[key.public_key].opcodes)
        assert key.not_after_ms <= before[key.public_key].not_after_ms
    assert set(TRUST_BUNDLE.revoked) <= set(bundle.revoked)
    assert bundle.trust_roots == TRUST_BUNDLE.trust_roots


def _seeds() -> Iterator[bytes]:
    for vector in VECTORS.values():
        if vector["kind"] in {"bundle", "succession"}:
            bundle = bytes.fromhex(vector["bundle"])
            yield b"\0" + bundle
            for kind in _SIGNERS:
                yield bytes([kind]) + SIGNED_BUNDLE.parse(bundle).body


TARGET: Final = Target(
    _check, _seeds, longest=BUNDLE_LIMIT + 1_000, measured=("protocol",)
)
