"""Public keys as they stand inside records: suite u8, then 33 bytes.

An Ed25519 key has 32 bytes and a zero behind it, a compressed P-256 point has 33. One
size for both keeps every offset behind a key fixed. Outside records a key is its `raw`
bytes, and their number tells the suite.
"""

from typing import Final

import construct as cs

from protocol.codes import Code, Suite
from protocol.errors import DecodeError, EncodeError
from protocol.layout import Subcon

MATERIAL_SIZE: Final = 34
"""Bytes of a public key inside a record."""

RAW_SIZES: Final = {Suite.ED25519: 32, Suite.P256: 33}
"""Bytes of a raw public key: RFC 8032, 5.1.5, and SEC 1, 2.3.3, compressed."""

_SUITE_OF_SIZE: Final = {size: suite for suite, size in RAW_SIZES.items()}


def suite_of(raw: bytes) -> Suite | None:
    """Return the suite of a raw public key, None for a length that no suite has."""
    return _SUITE_OF_SIZE.get(len(raw))


def read_material(material: bytes) -> bytes:
    """Return the raw key of 34 bytes; whether it is a strong key is not asked.

    Raises:
        DecodeError: the suite is unknown, or the byte behind an Ed25519 key is set.
    """
    try:
        size = RAW_SIZES[Suite(material[0])]
    except ValueError:
        raise DecodeError(
            Code.BAD_PARAM, f"key material of unknown suite {material[0]}"
        ) from None
    raw, rest = material[1 : 1 + size], material[1 + size :]
    if any(rest):
        raise DecodeError(Code.BAD_PARAM, "the byte behind an Ed25519 key is not zero")
    return raw


def write_material(raw: bytes) -> bytes:
    """Return the 34 bytes of a raw key.

    Raises:
        EncodeError: no suite has keys of this length.
    """
    suite = suite_of(raw)
    if suite is None:
        raise EncodeError(f"a public key has 32 or 33 bytes, not {len(raw)}")
    return bytes([suite]) + raw.ljust(MATERIAL_SIZE - 1, b"\0")


KEY_MATERIAL: Final[Subcon] = cs.ExprAdapter(
    cs.Bytes(MATERIAL_SIZE),
    lambda material, _c: read_material(material),
    lambda raw, _c: write_material(raw),
)
"""A public key inside a record; reads and builds the raw bytes."""
