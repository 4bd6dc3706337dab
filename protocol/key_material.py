"""A public key as it stands inside a message: its suite, and room for either kind.

Ed25519 has 32 bytes and P-256 in compressed SEC1 form 33; on the wire both take one
byte of suite and 33 of key, the one that Ed25519 leaves over being zero. In memory a
key is its raw bytes, whose length names the suite.
"""

from typing import Final

import construct as cs

from protocol.codes import Code, Suite
from protocol.errors import DecodeError
from protocol.layout import Subcon

MATERIAL_SIZE: Final = 34
"""Bytes of suite and key."""

RAW_SIZES: Final[dict[Suite, int]] = {Suite.ED25519: 32, Suite.P256: 33}
"""Bytes of a raw public key."""

_SUITES: Final = {size: suite for suite, size in RAW_SIZES.items()}


def read_material(data: bytes) -> bytes:
    """Return the raw key; whether it is a sound one is not asked.

    Raises:
        DecodeError: BAD_PARAM, an unknown suite or a byte that must be zero.
    """
    try:
        size = RAW_SIZES[Suite(data[0])]
    except ValueError:
        raise DecodeError(Code.BAD_PARAM, f"a key of suite {data[0]}") from None
    raw, rest = data[1 : 1 + size], data[1 + size :]
    if any(rest):
        raise DecodeError(Code.BAD_PARAM, "bytes behind a key that are not zero")
    return raw


def write_material(raw: bytes) -> bytes:
    """Return suite and key.

    Raises:
        ValueError: no suite has keys of this length.
    """
    suite = _SUITES.get(len(raw))
    if suite is None:
        raise ValueError(f"a public key has 32 or 33 bytes, not {len(raw)}")
    return (bytes([suite]) + raw).ljust(MATERIAL_SIZE, b"\0")


KEY_MATERIAL: Final[Subcon] = cs.ExprAdapter(
    cs.Bytes(MATERIAL_SIZE),
    lambda data, _c: read_material(data),
    lambda raw, _c: write_material(raw),
)
"""34 bytes; reads the raw key."""
