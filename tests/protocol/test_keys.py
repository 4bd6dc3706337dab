from typing import Final

import nacl.bindings
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from protocol.codes import Code
from protocol.ed25519 import FIELD_PRIME
from protocol.errors import AuthenticationError, DecodeError
from protocol.keyfile import (
    KEY_FILE_LIMIT,
    build_key,
    parse_sealing_key,
    parse_signing_key,
)
from protocol.keys import Ed25519SigningKey, VerifyKey
from tools.published_keys import CAR_A_KEY, CAR_B_KEY, SEALING_SEED, sealing_key

_ORDER_8: Final = (
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
)

SMALL_ORDER: Final = tuple(
    bytes([*raw[:31], raw[31] | sign])
    for raw in (
        bytes(32),
        (1).to_bytes(32, "little"),
        (FIELD_PRIME - 1).to_bytes(32, "little"),
        FIELD_PRIME.to_bytes(32, "little"),
        (FIELD_PRIME + 1).to_bytes(32, "little"),
        *(bytes.fromhex(text) for text in _ORDER_8),
    )
    for sign in (0x00, 0x80)
)
"""The 14 encodings of points whose order divides 8 (eprint 2020/823, table 6)."""


def test_there_are_14_encodings_and_the_library_loads_them_all() -> None:
    # Why we check at all: with one of these keys one signature fits many messages.
    assert len(set(SMALL_ORDER)) == 14
    for raw in SMALL_ORDER:
        assert Ed25519PublicKey.from_public_bytes(raw).public_bytes_raw() == raw


@pytest.mark.parametrize("raw", SMALL_ORDER, ids=bytes.hex)
def test_eight_times_such_a_point_is_the_identity(raw: bytes) -> None:
    # The list itself is proved by the group law (RFC 8032, 5.1.4).
    d = -121665 * pow(121666, -1, FIELD_PRIME) % FIELD_PRIME
    y = (int.from_bytes(raw, "little") & ~(1 << 255)) % FIELD_PRIME
    x_squared = (y * y - 1) * pow(d * y * y + 1, -1, FIELD_PRIME) % FIELD_PRIME
    x = pow(x_squared, (FIELD_PRIME + 3) // 8, FIELD_PRIME)
    if x * x % FIELD_PRIME != x_squared:
        x = x * pow(2, (FIELD_PRIME - 1) // 4, FIELD_PRIME) % FIELD_PRIME
    assert x * x % FIELD_PRIME == x_squared

    for _ in range(3):
        product = d * x * x * y * y % FIELD_PRIME
        x, y = (
            2 * x * y * pow(1 + product, -1, FIELD_PRIME) % FIELD_PRIME,
            (y * y + x * x) * pow(1 - product, -1, FIELD_PRIME) % FIELD_PRIME,
        )

    assert (x, y) == (0, 1)


@pytest.mark.parametrize("raw", SMALL_ORDER, ids=bytes.hex)
def test_a_small_order_key_is_refused(raw: bytes) -> None:
    # FF-KEY-04.
    with pytest.raises(AuthenticationError) as caught:
        VerifyKey.load(raw)

    assert caught.value.code is Code.BAD_PARAM


@pytest.mark.parametrize("offset", range(19))
def test_a_y_that_is_not_below_the_prime_is_refused(offset: int) -> None:
    # FF-KEY-03.
    raw = (FIELD_PRIME + offset).to_bytes(32, "little")

    with pytest.raises(AuthenticationError, match="not canonical"):
        VerifyKey.load(raw)


def _refusal(raw: bytes) -> str | None:
    try:
        VerifyKey.load(raw)
    except AuthenticationError as error:
        return error.detail
    return None


@pytest.mark.parametrize("sign", [0x00, 0x80])
def test_a_point_is_taken_exactly_when_libsodium_finds_it_of_prime_order(
    sign: int,
) -> None:
    # FF-KEY-05, FF-KEY-06
    different = []
    for y in range(2, 102):
        raw = bytes([*y.to_bytes(31, "little"), sign])
        taken = _refusal(raw) is None
        if taken != nacl.bindings.crypto_core_ed25519_is_valid_point(raw):
            different.append(y)

    assert different == []


def test_of_all_strings_half_are_no_point_and_seven_of_eight_points_are_mixed() -> None:
    found = [_refusal(y.to_bytes(32, "little")) or "taken" for y in range(2, 202)]

    assert 70 < sum("no point of the curve" in detail for detail in found) < 130
    assert 60 < sum("mixed order" in detail for detail in found) < 115
    assert 4 < found.count("taken") < 25


@pytest.mark.parametrize("size", [0, 31, 34, 65])
def test_a_public_key_of_another_length_is_refused(size: int) -> None:
    # FF-KEY-02.
    with pytest.raises(AuthenticationError) as caught:
        VerifyKey.load(bytes(size))

    assert caught.value.code is Code.BAD_LEN


def test_equal_keys_are_equal_and_can_be_looked_up() -> None:
    one = CAR_A_KEY.key.verify_key
    again = VerifyKey.load(one.raw)

    assert {one: "car A"}[again] == "car A"
    assert one != CAR_B_KEY.key.verify_key


def test_a_signature_of_another_length_does_not_hold() -> None:
    with pytest.raises(AuthenticationError) as caught:
        CAR_A_KEY.key.verify_key.verify(b"short", b"message")

    assert caught.value.code is Code.BAD_SIGNATURE


def test_a_signature_with_s_above_the_group_order_does_not_hold() -> None:
    # FF-SIG-09.
    # RFC 8032, 5.1.7: else every signature has a second form.
    order = 2**252 + 27742317777372353535851937790883648493
    signature = CAR_A_KEY.key.sign(b"message")
    s = int.from_bytes(signature[32:], "little") + order
    again = signature[:32] + s.to_bytes(32, "little")

    with pytest.raises(AuthenticationError):
        CAR_A_KEY.key.verify_key.verify(again, b"message")


def test_a_private_key_shows_its_public_id_only() -> None:
    # FF-SEC-03.
    key = CAR_A_KEY.key

    assert repr(key) == f"Ed25519SigningKey(key_id={key.key_id.hex()})"
    assert CAR_A_KEY.seed.hex() not in f"{key} {key.verify_key!r}"


def test_key_files_hold_the_key_they_were_made_of() -> None:
    signing = Ed25519PrivateKey.from_private_bytes(CAR_A_KEY.seed)

    read = parse_signing_key(build_key(signing), name="signing.key")
    sealing = parse_sealing_key(build_key(sealing_key()), name="sealing.key")

    assert read.key_id == CAR_A_KEY.key.key_id
    assert sealing.private_bytes_raw() == SEALING_SEED


def test_a_key_file_of_the_other_kind_is_refused() -> None:
    signing = build_key(Ed25519SigningKey.from_seed(CAR_A_KEY.seed).handle)

    with pytest.raises(DecodeError, match=r"sealing\.key holds no X25519 key"):
        parse_sealing_key(signing, name="sealing.key")
    with pytest.raises(DecodeError, match=r"signing\.key holds no Ed25519 and no"):
        parse_signing_key(build_key(sealing_key()), name="signing.key")


def test_what_is_no_key_file_is_refused_without_quoting_it() -> None:
    encrypted = X25519PrivateKey.from_private_bytes(SEALING_SEED).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )

    for data in (b"", b"seed 4711", encrypted):
        with pytest.raises(DecodeError, match="not an unencrypted") as caught:
            parse_sealing_key(data, name="sealing.key")
        assert "4711" not in str(caught.value)


def test_a_key_file_beyond_the_limit_is_refused_unread() -> None:
    with pytest.raises(DecodeError) as caught:
        parse_signing_key(bytes(KEY_FILE_LIMIT + 1), name="signing.key")

    assert caught.value.code is Code.TOO_LARGE
