"""ECDSA on P-256: one form of every key and signature (suite 2)."""

from collections.abc import Iterator
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codes import Code, Suite
from protocol.errors import AuthenticationError, EncodeError
from protocol.keys import Ed25519SigningKey, P256SigningKey, VerifyKey
from protocol.p256 import FIELD_PRIME, GROUP_ORDER
from tests.protocol import plain_p256
from tests.protocol.plain_p256 import BASE, B, N, P
from tools.published_keys import CAR_C_KEY, SERVICE_KEY

KEY: Final = CAR_C_KEY.key
RAW: Final = KEY.verify_key.raw
MESSAGE: Final = b"a rental report"
SIGNATURE: Final = KEY.sign(MESSAGE)
R, S = (int.from_bytes(part, "big") for part in (SIGNATURE[:32], SIGNATURE[32:]))

RFC_6979_SECRET: Final = 0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721  # fmt: skip # noqa: E501 - one number
RFC_6979: Final = {
    b"sample": (
        0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
        0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
    ),
    b"test": (
        0xF1ABB023518351CD71D881567B1EA663ED3EFCF6C5132B354F28D3B0B7D38367,
        0x019F4113742A2B14BD25926B49C649155F267E60D3814B4C0CC84250E46F0083,
    ),
}
"""RFC 6979, A.2.5, SHA-256: s as it comes, before the lower one is chosen."""


def _signature(r: int, s: int) -> bytes:
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _holds(signature: bytes, message: bytes = MESSAGE, raw: bytes = RAW) -> bool:
    try:
        VerifyKey.load(raw).verify(signature, message)
    except AuthenticationError as error:
        assert error.code is Code.BAD_SIGNATURE  # noqa: PT017 - the others hold
        return False
    return True


def test_the_numbers_are_those_of_the_second_implementation() -> None:
    assert (FIELD_PRIME, GROUP_ORDER) == (P, N)
    assert plain_p256.times(N, BASE) is None


@pytest.mark.parametrize("message", RFC_6979)
def test_signatures_are_those_of_rfc_6979_with_the_lower_s(message: bytes) -> None:
    # FF-SIG-10, FF-SIG-11, FF-SIG-14
    r, s = RFC_6979[message]
    key = P256SigningKey.from_seed(RFC_6979_SECRET.to_bytes(32, "big"))

    assert plain_p256.sign(RFC_6979_SECRET, message) == (r, s)
    assert key.sign(message) == _signature(r, min(s, N - s))


@settings(max_examples=25, deadline=None)
@given(secret=st.integers(1, N - 1), message=st.binary(max_size=200))
def test_any_key_signs_as_the_second_implementation_does(
    secret: int, message: bytes
) -> None:
    # FF-SIG-10, FF-SIG-11, FF-SIG-14
    key = P256SigningKey.from_seed(secret.to_bytes(32, "big"))
    r, s = plain_p256.sign(secret, message)

    signature = key.sign(message)

    assert signature == _signature(r, min(s, N - s))
    assert plain_p256.holds(key.verify_key.raw, signature, message)
    assert _holds(signature, message, key.verify_key.raw)
    assert key.verify_key.raw == plain_p256.compress(plain_p256.times(secret, BASE))


def test_the_other_signature_of_a_pair_does_not_hold() -> None:
    # FF-SIG-12: ECDSA itself holds for both.
    assert _holds(_signature(R, S))
    assert not _holds(_signature(R, N - S))
    handle = KEY.verify_key.handle
    assert isinstance(handle, ec.EllipticCurvePublicKey)
    handle.verify(encode_dss_signature(R, N - S), MESSAGE, ec.ECDSA(SHA256()))


@pytest.mark.parametrize(
    ("r", "s"),
    [
        (0, S), (R, 0), (0, 0), (N, S), (R, N), (N - 1, N), (2**256 - 1, S),
        (R, 2**256 - 1), (R, N // 2 + 1), (1, 1), (R, 1), (1, S), (R, N // 2),
        ((R + N) % 2**256, S), (S, R % (N // 2)),
    ],
)  # fmt: skip
def test_numbers_out_of_range_and_wrong_ones_do_not_hold(r: int, s: int) -> None:
    # FF-SIG-12, FF-SIG-13
    assert not _holds(_signature(r, s))
    assert not plain_p256.holds(RAW, _signature(r, s), MESSAGE)


@pytest.mark.parametrize("size", [0, 1, 32, 63, 65, 72])
def test_a_signature_of_another_length_does_not_hold(size: int) -> None:
    assert not _holds((SIGNATURE + bytes(8))[:size])


def test_a_signature_in_der_does_not_hold() -> None:
    # Its 64-byte form is the only one.
    assert not _holds(encode_dss_signature(R, S))


def test_every_flipped_bit_of_a_signature_is_refused() -> None:
    # K11
    flipped = (int.from_bytes(SIGNATURE, "big") ^ 1 << bit for bit in range(512))

    assert not any(_holds(number.to_bytes(64, "big")) for number in flipped)


def _refusal(raw: bytes) -> str:
    with pytest.raises(AuthenticationError) as caught:
        VerifyKey.load(raw)
    assert caught.value.code is Code.BAD_PARAM
    return caught.value.detail


@pytest.mark.parametrize("prefix", [0, 1, 4, 5, 6, 7, 0x82, 0xFF])
def test_another_prefix_is_refused(prefix: int) -> None:
    # FF-KEY-07: 00 is the point at infinity, 04 uncompressed, 06 and 07 hybrid.
    assert "begins with 02 or 03" in _refusal(bytes([prefix]) + RAW[1:])


def _xs_of_no_point() -> Iterator[int]:
    for x in range(64):
        if pow(x**3 - 3 * x + B, (P - 1) // 2, P) == P - 1:
            yield x


@pytest.mark.parametrize("prefix", [2, 3])
def test_an_x_that_no_point_has_is_refused(prefix: int) -> None:
    # FF-KEY-08
    xs = list(_xs_of_no_point())
    assert 16 < len(xs) < 48

    for x in range(64):
        raw = bytes([prefix]) + x.to_bytes(32, "big")
        if x in xs:
            assert "no point of P-256" in _refusal(raw)
        else:
            assert VerifyKey.load(raw).suite is Suite.P256


@pytest.mark.parametrize("offset", [0, 1, 5, 2**256 - 1 - P])
def test_an_x_that_is_not_below_the_prime_is_refused(offset: int) -> None:
    # FF-KEY-08: 5 and others are the x of points, and would have a second encoding.
    raw = b"\2" + (P + offset).to_bytes(32, "big")

    assert "not canonical" in _refusal(raw)


def test_a_key_on_another_curve_cannot_sign() -> None:
    other = ec.generate_private_key(ec.SECP256K1())

    with pytest.raises(EncodeError, match="not of secp256k1"):
        P256SigningKey(other)


def test_new_keys_differ_and_name_their_suite() -> None:
    one, other = P256SigningKey.generate(), P256SigningKey.generate()
    plain = Ed25519SigningKey.generate()

    assert one.key_id != other.key_id
    assert (one.suite, one.verify_key.suite) == (Suite.P256, Suite.P256)
    assert (plain.suite, plain.verify_key.suite) == (Suite.ED25519, Suite.ED25519)
    assert one.key_id == one.verify_key.key_id


def test_a_private_key_shows_its_public_id_only() -> None:
    key = SERVICE_KEY.key

    assert repr(key) == f"P256SigningKey(key_id={key.key_id.hex()})"
    assert SERVICE_KEY.seed.hex() not in f"{key} {key.verify_key!r}"
