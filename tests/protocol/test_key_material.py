"""Public keys inside records: 34 bytes for either suite, one encoding of each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.codes import Code, Suite
from protocol.errors import DecodeError, EncodeError
from protocol.key_material import MATERIAL_SIZE, read_material, suite_of, write_material
from tools.published_keys import CAR_A_KEY, CAR_C_KEY

ED25519, P256 = (key.key.verify_key.raw for key in (CAR_A_KEY, CAR_C_KEY))


def test_material_is_suite_and_key_and_a_zero_behind_the_shorter_one() -> None:
    assert write_material(ED25519) == b"\1" + ED25519 + b"\0"
    assert write_material(P256) == b"\2" + P256
    assert (suite_of(ED25519), suite_of(P256)) == (Suite.ED25519, Suite.P256)


@given(raw=st.binary(min_size=32, max_size=33))
def test_what_was_written_is_read_back(raw: bytes) -> None:
    assert read_material(write_material(raw)) == raw


@given(material=st.binary(min_size=MATERIAL_SIZE, max_size=MATERIAL_SIZE))
def test_what_is_read_has_one_encoding(material: bytes) -> None:
    try:
        raw = read_material(material)
    except DecodeError as error:
        assert error.code is Code.BAD_PARAM  # noqa: PT017 - the others are read
        return

    assert write_material(raw) == material


@pytest.mark.parametrize("suite", [0, 3, 255])
def test_an_unknown_suite_is_refused(suite: int) -> None:
    # FF-KEY-09
    with pytest.raises(DecodeError, match=f"suite {suite}"):
        read_material(bytes([suite]) + P256)


@pytest.mark.parametrize("last", [1, 128, 255])
def test_a_byte_behind_an_ed25519_key_is_refused(last: int) -> None:
    # FF-KEY-09: else one key would have 256 encodings.
    with pytest.raises(DecodeError, match="not zero"):
        read_material(b"\1" + ED25519 + bytes([last]))


@pytest.mark.parametrize("size", [0, 31, 34])
def test_a_key_of_no_suite_is_not_written(size: int) -> None:
    assert suite_of(bytes(size)) is None
    with pytest.raises(EncodeError, match=f"not {size}"):
        write_material(bytes(size))
