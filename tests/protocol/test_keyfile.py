"""Private keys in files; their messages never quote what was read."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from protocol.codes import Suite
from protocol.errors import DecodeError
from protocol.keyfile import (
    build_key,
    parse_sealing_key,
    parse_signing_key,
    raw_public_key,
)
from protocol.keys import VerifyKey

SIGNING = Ed25519PrivateKey.from_private_bytes(bytes(32))
SEALING = X25519PrivateKey.from_private_bytes(bytes(32))

ENCRYPTED = SIGNING.private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
)


def test_a_signing_key_is_read_back() -> None:
    key = parse_signing_key(build_key(SIGNING), name="signing.key")

    assert key.verify_key.raw == SIGNING.public_key().public_bytes_raw()


def test_a_sealing_key_is_read_back() -> None:
    key = parse_sealing_key(build_key(SEALING), name="sealing.key")

    assert key.public_key() == SEALING.public_key()


def test_a_key_of_the_other_kind_is_refused_by_name() -> None:
    with pytest.raises(DecodeError, match=r"signing\.key holds no Ed25519 and no"):
        parse_signing_key(build_key(SEALING), name="signing.key")
    with pytest.raises(DecodeError, match=r"sealing\.key holds no X25519 key"):
        parse_sealing_key(build_key(SIGNING), name="sealing.key")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a key",
        ENCRYPTED,
        build_key(SIGNING)[:-40],
        build_key(SIGNING).replace(b"MC4CAQAwBQ", b"MC4CAQAwBA"),
        b"-" * 4097,
    ],
)
def test_what_is_no_key_is_refused_without_being_quoted(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        parse_signing_key(data, name="signing.key")

    message = str(caught.value)
    assert message.startswith("signing.key")
    assert "MC4CAQ" not in message
    assert caught.value.__cause__ is None


def test_a_p256_signing_key_is_read_back() -> None:
    handle = ec.derive_private_key(7, ec.SECP256R1())

    key = parse_signing_key(build_key(handle), name="signing.key")

    assert key.suite is Suite.P256
    assert key.verify_key.handle == handle.public_key()


def test_a_key_of_another_curve_is_refused_by_name() -> None:
    other = ec.derive_private_key(7, ec.SECP384R1())

    with pytest.raises(DecodeError, match=r"signing\.key holds no Ed25519 and no"):
        parse_signing_key(build_key(other), name="signing.key")
    with pytest.raises(DecodeError, match="root holds no Ed25519 and no P-256 key"):
        raw_public_key(other.public_key(), name="root")


@pytest.mark.parametrize("key", [SIGNING, ec.derive_private_key(7, ec.SECP256R1())])
def test_a_public_key_s_raw_bytes_are_those_that_load_it(
    key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey,
) -> None:
    raw = raw_public_key(key.public_key(), name="root")

    assert VerifyKey.load(raw).handle == key.public_key()
