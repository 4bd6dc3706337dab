"""The form of a frame is checked in one order, and the signature over what came."""

from itertools import combinations
from typing import Final

import pytest

from protocol.codes import Code
from protocol.errors import AuthenticationError, DecodeError
from protocol.frame import parse_frame
from protocol.signing import to_be_signed, verify_frame
from tests.protocol.vector_file import frame_of
from tools.published_keys import COMMAND_KEY, FLEET_ID

UNLOCK: Final = frame_of("cmd_unlock")

FAULTS: Final[dict[Code, dict[int, int]]] = {
    Code.BAD_MAGIC: {0: 0x47},
    Code.BAD_VERSION: {2: 2},
    Code.SUITE_FORBIDDEN: {3: 9},
    Code.BAD_CLASS: {4: 0x66},
    Code.CRITICAL_FLAG: {5: 0x80},
    Code.BAD_LEN: {11: 0xFF},
}
"""What each check refuses, as the byte at an offset, in the order of the checks."""


@pytest.mark.parametrize(
    ("first", "second"), [*combinations(FAULTS, 2)], ids=lambda code: str(code.name)
)
def test_of_two_faults_the_check_that_comes_first_gives_the_code(
    first: Code, second: Code
) -> None:
    """FF-FRM-16."""
    data = bytearray(UNLOCK)
    for offset, value in (FAULTS[first] | FAULTS[second]).items():
        data[offset] = value

    with pytest.raises(DecodeError) as caught:
        parse_frame(bytes(data))

    assert caught.value.code is first


def test_a_frame_that_is_too_short_is_refused_before_its_magic() -> None:
    """FF-FRM-07, FF-FRM-16."""
    with pytest.raises(DecodeError) as caught:
        parse_frame(b"XX" + UNLOCK[2:155])

    assert caught.value.code is Code.BAD_LEN


def test_what_came_is_verified_and_not_what_this_side_would_have_built() -> None:
    """FF-SIG-02, FF-FRM-13: advisory flags that nobody here would set are signed."""
    unsigned = UNLOCK[:5] + b"\x0e" + UNLOCK[6:-64]
    key = COMMAND_KEY.key
    cmd = parse_frame(UNLOCK).header.frame_class
    frame = unsigned + key.sign(to_be_signed(cmd, FLEET_ID, unsigned))

    verify_frame(parse_frame(frame), fleet_id=FLEET_ID, key=key.verify_key)
    with pytest.raises(AuthenticationError):
        verify_frame(
            parse_frame(frame[:5] + b"\0" + frame[6:]),
            fleet_id=FLEET_ID,
            key=key.verify_key,
        )
