from dataclasses import replace

import pytest

from protocol.codes import Code, Opcode, SyncType
from protocol.errors import AuthenticationError, DecodeError, EncodeError
from protocol.keys import SigningKey
from protocol.trust import (
    ALL_OPCODES,
    BUNDLE,
    SIGNED_BUNDLE,
    RootSignature,
    SignedBundle,
    TrustBundle,
    open_bundle,
    sign_bundle,
)
from tests.depth import some
from tools.published_keys import (
    CAR_B_KEY,
    COMMAND_KEY,
    FLEET_ID,
    OTHER_FLEET_ID,
    ROOT_KEYS,
    trust_roots,
)
from tools.vector_trust import TRUST_BUNDLE

ROOTS = tuple(root.key for root in ROOT_KEYS)
STRANGER = CAR_B_KEY.key


def _open(data: bytes) -> TrustBundle:
    return open_bundle(data, trust_roots(), fleet_id=FLEET_ID)


@pytest.mark.parametrize("signers", [ROOTS[:2], ROOTS[1:], ROOTS, ROOTS[::-1]])
def test_any_two_of_three_roots_are_enough(signers: tuple[SigningKey, ...]) -> None:
    # FF-TRU-01.
    assert _open(sign_bundle(TRUST_BUNDLE, signers)) == TRUST_BUNDLE


@pytest.mark.parametrize(
    "signers",
    [(), ROOTS[:1], (ROOTS[0], ROOTS[0]), (ROOTS[0], STRANGER), (STRANGER,) * 3],
    ids=["none", "one", "one twice", "one and a stranger", "strangers"],
)
def test_fewer_than_two_different_roots_are_not_enough(
    signers: tuple[SigningKey, ...],
) -> None:
    # FF-TRU-01.
    with pytest.raises(AuthenticationError, match="of the needed 2") as caught:
        _open(sign_bundle(TRUST_BUNDLE, signers))

    assert caught.value.code is Code.UNKNOWN_KEY


def test_a_root_that_this_car_does_not_know_yet_does_no_harm() -> None:
    # FF-TRU-02.
    # A change of roots is signed by the old and the new ones (protocol-design.md 1.1).
    assert _open(sign_bundle(TRUST_BUNDLE, (STRANGER, *ROOTS[:2]))) == TRUST_BUNDLE


def test_a_wrong_signature_of_a_root_is_refused_beside_two_good_ones() -> None:
    # FF-TRU-03.
    signed = SIGNED_BUNDLE.parse(sign_bundle(TRUST_BUNDLE, ROOTS))
    bad = replace(signed.signatures[2], signature=bytes(64))
    forged = replace(signed, signatures=(*signed.signatures[:2], bad))

    with pytest.raises(AuthenticationError) as caught:
        _open(SIGNED_BUNDLE.build(forged))

    assert caught.value.code is Code.BAD_SIGNATURE


def test_every_flipped_bit_of_a_bundle_is_refused() -> None:
    # K11
    data = bytearray(sign_bundle(TRUST_BUNDLE, ROOTS[:2]))
    unnoticed = []

    for position in some(range(8 * len(data)), one_in=7):
        data[position // 8] ^= 1 << position % 8
        try:
            _open(bytes(data))
            unnoticed.append(position)
        except (DecodeError, AuthenticationError):
            pass
        data[position // 8] ^= 1 << position % 8

    assert unnoticed == []


def test_an_altered_body_is_refused() -> None:
    # FF-SIG-15.
    signed = SIGNED_BUNDLE.parse(sign_bundle(TRUST_BUNDLE, ROOTS))
    body = BUNDLE.build(replace(TRUST_BUNDLE, version=2))

    with pytest.raises(AuthenticationError):
        _open(SIGNED_BUNDLE.build(SignedBundle(body, signed.signatures)))


def test_a_bundle_of_another_fleet_is_refused_though_its_roots_are_ours() -> None:
    # FF-TRU-04.
    data = sign_bundle(replace(TRUST_BUNDLE, fleet_id=OTHER_FLEET_ID), ROOTS)

    with pytest.raises(AuthenticationError) as caught:
        _open(data)

    assert caught.value.code is Code.GROUP_MISMATCH
    assert OTHER_FLEET_ID.hex() in caught.value.detail


def test_a_weak_key_is_refused_though_the_roots_signed_it() -> None:
    # FF-KEY-10.
    weak = replace(TRUST_BUNDLE.keys[0], public_key=bytes(32))

    with pytest.raises(AuthenticationError, match="small order"):
        _open(sign_bundle(replace(TRUST_BUNDLE, keys=(weak,)), ROOTS))


def test_a_key_that_stands_in_a_bundle_twice_is_refused() -> None:
    # FF-TRU-05.
    keys = (*TRUST_BUNDLE.keys, replace(TRUST_BUNDLE.keys[0], max_ttl_ms=1))

    with pytest.raises(DecodeError, match="twice"):
        _open(sign_bundle(replace(TRUST_BUNDLE, keys=keys), ROOTS))


def test_signed_bytes_that_are_no_bundle_are_refused() -> None:
    body = b"not a bundle"
    signatures = tuple(
        RootSignature(root.key_id, root.sign(b"ff-trust-v1\0" + body)) for root in ROOTS
    )

    with pytest.raises(DecodeError):
        _open(SIGNED_BUNDLE.build(SignedBundle(body, signatures)))


def test_version_0_does_not_exist() -> None:
    with pytest.raises(EncodeError, match="version"):
        sign_bundle(replace(TRUST_BUNDLE, version=0), ROOTS)


def test_a_trusted_key_is_named_as_frames_name_it() -> None:
    assert TRUST_BUNDLE.keys[0].key_id == COMMAND_KEY.key.key_id
    assert set(ALL_OPCODES) == {*map(int, Opcode), *map(int, SyncType)}


@pytest.mark.parametrize("threshold", [4, 8])
def test_a_threshold_that_its_roots_cannot_reach_is_refused(threshold: int) -> None:
    # FF-TRU-06: nothing could follow such a bundle.
    with pytest.raises(DecodeError, match=f"threshold {threshold} of 3"):
        _open(sign_bundle(replace(TRUST_BUNDLE, threshold=threshold), ROOTS))


def test_a_threshold_of_none_is_refused() -> None:
    # FF-TRU-06: anybody's bundle would follow.
    body = bytearray(BUNDLE.build(TRUST_BUNDLE))
    body[36] = 0

    with pytest.raises(DecodeError, match="threshold"):
        BUNDLE.parse(bytes(body))
