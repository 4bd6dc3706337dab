"""Opening key files by name."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from keystore.errors import UnfitKeyError, UriError
from keystore.private_key import open_private_key
from keystore.signer import open_signing_key
from protocol.codes import Suite
from protocol.keyfile import build_key
from protocol.keys import Ed25519SigningKey, P256SigningKey


def write(path: Path, data: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("kind", [Ed25519SigningKey, P256SigningKey])
def test_a_pem_file_of_either_suite_signs(
    kind: type[Ed25519SigningKey | P256SigningKey], tmp_path: Path
) -> None:
    key = kind.generate()

    read = open_signing_key(write(tmp_path / "a.key", build_key(key.handle)))

    assert (read.suite, read.key_id) == (key.suite, key.key_id)
    read.verify_key.verify(read.sign(b"m"), b"m")
    assert read.suite in set(Suite)


@pytest.mark.parametrize(
    ("data", "mode", "reason"),
    [
        (build_key(Ed25519SigningKey.generate().handle), 0o640, "read by others"),
        (b"-----BEGIN", 0o600, "neither an unencrypted private key"),
        (b"x" * 5_000, 0o600, "more than 4096 bytes"),
        (build_key(X25519PrivateKey.generate()), 0o600, "neither an Ed25519 nor"),
        (
            build_key(ec.generate_private_key(ec.SECP384R1())),
            0o600,
            "neither an Ed25519 nor",
        ),
    ],
)
def test_a_file_that_holds_no_fit_key_is_refused_and_not_quoted(
    data: bytes, mode: int, reason: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.key", data, mode)

    with pytest.raises(UnfitKeyError, match=reason) as caught:
        open_private_key(path)
    assert data[:60].decode("ascii", "replace") not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnfitKeyError, match=r"gone\.key cannot be read"):
        open_private_key(tmp_path / "gone.key")


def test_a_file_with_a_damaged_uri_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UriError):
        open_private_key(write(tmp_path / "a.key", b"pkcs11:token=a\n"))
