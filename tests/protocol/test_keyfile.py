"""Private keys in files; their messages never quote what was read."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from protocol.errors import DecodeError
from protocol.keyfile import build_key, parse_sealing_key, parse_signing_key

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
