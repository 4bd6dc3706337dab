"""What exactly is signed, and checking it.

``TBS = "ff-sig-v1" NUL || class label NUL || fleet_id || frame without signature``

The attackers considered: the broker (it sees and alters every frame), another vehicle,
another fleet or environment, and a receiver tricked into taking its own kind of frame
back. The class label and the direction in the class stop reflection; the fleet id is
signed and not sent, so staging frames never hold in production. The signature covers
the received bytes, never a re-encoding (protocol-design.md 1).
"""

import hashlib
from typing import Final

from protocol.codes import Code, FrameClass
from protocol.errors import AuthenticationError, EncodeError
from protocol.frame import Frame, Header, build_unsigned
from protocol.identity import ID_SIZE
from protocol.keys import SIGNATURE_SIZE, SigningKey, VerifyKey

SIGNATURE_CONTEXT: Final = b"ff-sig-v1\0"
"""Separates frame signatures from everything else that the same key might sign."""

_PREFIXES: Final = {
    frame_class: SIGNATURE_CONTEXT + frame_class.label.encode() + b"\0"
    for frame_class in FrameClass
}
"""What stands before the fleet id."""


def to_be_signed(frame_class: FrameClass, fleet_id: bytes, unsigned: bytes) -> bytes:
    """Return the bytes that the signature covers.

    Args:
        frame_class: gives the label.
        fleet_id: 16 bytes, not part of the frame: fleet and environment.
        unsigned: the frame without its last 64 bytes.
    """
    if len(fleet_id) != ID_SIZE:
        raise EncodeError(f"a fleet id has {ID_SIZE} bytes, not {len(fleet_id)}")
    return _PREFIXES[frame_class] + fleet_id + unsigned


def sign_frame(
    header: Header, payload: bytes, *, fleet_id: bytes, key: SigningKey
) -> bytes:
    """Build and sign a frame; `header` names suite and id of `key`.

    Raises:
        EncodeError: a value does not fit, the frame would be larger than its class
            allows, or the header names another key or suite.
    """
    if header.suite is not key.suite:
        raise EncodeError(f"header says suite {header.suite}, the key's is {key.suite}")
    if header.key_id != key.key_id:
        raise EncodeError(
            f"header names key {header.key_id.hex()}, signed by {key.key_id.hex()}"
        )
    unsigned = build_unsigned(header, payload)
    return unsigned + key.sign(to_be_signed(header.frame_class, fleet_id, unsigned))


def verify_frame(frame: Frame, *, fleet_id: bytes, key: VerifyKey) -> None:
    """Return if `key` signed this frame for this fleet.

    Raises:
        AuthenticationError: wrong suite, other key named, or the signature does not
            hold over the received bytes.
    """
    if frame.header.suite is not key.suite:
        raise AuthenticationError(
            Code.SUITE_FORBIDDEN, f"suite {frame.header.suite} is not this key's"
        )
    if frame.header.key_id != key.key_id:
        raise AuthenticationError(
            Code.UNKNOWN_KEY, f"frame names key {frame.header.key_id.hex()}"
        )
    unsigned = frame.data[:-SIGNATURE_SIZE]
    key.verify(
        frame.signature, to_be_signed(frame.header.frame_class, fleet_id, unsigned)
    )


def request_hash(frame_data: bytes) -> bytes:
    """Return the 32 bytes by which a result names exactly one command frame."""
    return hashlib.sha256(b"ff-request-v1\0" + frame_data).digest()
