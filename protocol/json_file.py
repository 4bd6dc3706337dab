"""Reading the small public JSON files by which the packages know one another.

Every such file is bounded, has exactly the fields that its declaration names and
begins with the revision of its format. Everything here takes and returns bytes and
values; whoever calls has opened the file.
"""

from typing import Protocol, TypeVar

import msgspec

from protocol.codes import Code
from protocol.errors import DecodeError


class Numbered(Protocol):
    """A declaration of a file: a frozen msgspec Struct that forbids other fields."""

    @property
    def format(self) -> int:
        """Revision of the file's format."""


F = TypeVar("F", bound=Numbered)


def parse_file(
    data: bytes, kind: type[F], *, name: str, limit: int, revision: int
) -> F:
    """Read a file against its declaration.

    Args:
        data: the file's bytes.
        kind: the declaration.
        name: what the file is called, for the message.
        limit: bytes at the most; a longer file is not even parsed.
        revision: the one format that is read.

    Raises:
        DecodeError: not such a file; the message names the file and the field.
    """
    if len(data) > limit:
        raise DecodeError(
            Code.TOO_LARGE, f"{name} has {len(data)} bytes, limit {limit}"
        )
    try:
        read = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DecodeError(Code.BAD_PARAM, f"{name}: {error}") from None
    if read.format != revision:
        raise DecodeError(
            Code.UNSUPPORTED_SCHEMA,
            f"{name} has format {read.format}, this reads {revision}",
        )
    return read


def parse_hex(text: str, size: int, *, name: str) -> bytes:
    """Return the bytes of a field that holds them in hexadecimal.

    Args:
        text: the field.
        size: bytes that it must hold.
        name: the field's name, for the message.

    Raises:
        DecodeError: another length, capitals, or something else than digits.
    """
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise DecodeError(Code.BAD_PARAM, f"{name} is not hexadecimal") from None
    # bytes.fromhex skips spaces and takes capitals: one value, one text.
    if len(data) != size or data.hex() != text:
        raise DecodeError(
            Code.BAD_LEN, f"{name} is not {2 * size} lower-case hexadecimal digits"
        )
    return data
