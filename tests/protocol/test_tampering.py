"""K11: a frame that was altered in any way on its way is refused, and only so.

Exhaustive: about 140,000 flips. Read by the hand-written codec, which is sooner done;
tests/protocol/test_packed.py shows that both codecs judge each of these flips alike.
"""

from typing import Final

import pytest

from protocol.codes import FrameClass, Suite
from protocol.errors import AuthenticationError, DecodeError
from protocol.packed.frame import parse_frame
from protocol.signing import verify_frame
from tests.depth import UNCOUNTED, some
from tests.protocol.vector_file import ACCEPTED, VECTORS, frame_of
from tools.published_keys import (
    CAR_A_KEY,
    CAR_B_KEY,
    CAR_C_KEY,
    COMMAND_KEY,
    FLEET_ID,
    OTHER_FLEET_ID,
    RECEIPT_KEY,
    SERVICE_KEY,
)

pytestmark = UNCOUNTED

KEYS: Final = {
    key.name: key.key.verify_key
    for key in (
        CAR_A_KEY,
        CAR_B_KEY,
        CAR_C_KEY,
        COMMAND_KEY,
        RECEIPT_KEY,
        SERVICE_KEY,
    )
}


def test_the_vectors_are_of_every_class_and_of_both_suites() -> None:
    headers = [vector["fields"]["header"] for vector in ACCEPTED.values()]

    assert {header["frame_class"] for header in headers} == {c.name for c in FrameClass}
    assert {header["suite"] for header in headers} == {s.name for s in Suite}


def _is_refused(data: bytes, signer: str, fleet_id: bytes = FLEET_ID) -> bool:
    try:
        verify_frame(parse_frame(data), fleet_id=fleet_id, key=KEYS[signer])
    except (DecodeError, AuthenticationError):
        return True
    return False


def _unnoticed_flips(data: bytes, signer: str, *, one_in: int) -> list[int]:
    """Return the place of every flipped bit that went unnoticed."""
    unnoticed = []
    altered = bytearray(data)
    for place in some(range(8 * len(data)), one_in=one_in):
        altered[place // 8] ^= 1 << place % 8
        if not _is_refused(bytes(altered), signer):
            unnoticed.append(place)
        altered[place // 8] ^= 1 << place % 8
    return unnoticed


WHOLE: Final = {
    (frame.header.suite, frame.header.frame_class): name
    for name in ACCEPTED
    for frame in (parse_frame(frame_of(name)),)
}.values()
"""One vector of each suite and class, of which every bit is flipped each time."""


def _signer(name: str) -> str:
    return str(VECTORS[name]["key"]["name"])


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_flipped_bit_of_a_frame_is_refused(name: str) -> None:
    # S5, S11: by the signature, not by TLS.
    # FF-SIG-07.
    # K11
    data = frame_of(name)

    assert not _is_refused(data, _signer(name))
    one_in = 1 if name in WHOLE else 11
    assert _unnoticed_flips(data, _signer(name), one_in=one_in) == []


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_truncation_is_refused(name: str) -> None:
    # FF-SIG-07.
    # K11
    data, signer = frame_of(name), _signer(name)

    kept = [size for size in range(len(data)) if not _is_refused(data[:size], signer)]

    assert kept == []


@pytest.mark.parametrize("name", ACCEPTED)
def test_appended_bytes_are_refused(name: str) -> None:
    # FF-SIG-07.
    # K11
    data, signer = frame_of(name), _signer(name)

    for size in range(1, 9):
        assert _is_refused(data + bytes(size), signer)
        assert _is_refused(data + data[:size], signer)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_frame_of_this_fleet_is_refused_in_another(name: str) -> None:
    # FF-SIG-03.
    assert _is_refused(frame_of(name), _signer(name), OTHER_FLEET_ID)


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_frame_holds_under_its_signer_s_key_alone(name: str) -> None:
    # FF-SIG-06.
    data, signer = frame_of(name), _signer(name)

    holding = [other for other in KEYS if not _is_refused(data, other)]

    assert holding == [signer]
