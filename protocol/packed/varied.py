"""How a record whose fields are not all of fixed size becomes bytes and back.

The rules of `protocol.packed.record` hold: one typed error, one encoding of a value, a
bound on every length before anything of it is read.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Final, Generic, Protocol, TypeVar

from protocol.codes import Code
from protocol.errors import DecodeError
from protocol.layout import shown_text, text_bytes
from protocol.packed.record import Convert, Field, Zeros, built, parsed

T = TypeVar("T")

_LENGTH: Final = struct.Struct(">H")

Make = Callable[..., Any]
"""Makes a record of its values."""


class Part(Protocol):
    """One value of a record, wherever it ends."""

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        """Return the value at an offset, and the offset behind it.

        Raises:
            DecodeError, LookupError, ValueError, struct.error: there is none.
        """

    def write(self, value: Any) -> bytes:  # noqa: ANN401 - each part has its own
        """Return the value's bytes.

        Raises:
            Exception: of any kind, when it does not fit; `built` types it.
        """


@dataclass(frozen=True, slots=True)
class Counted:
    """Bytes behind a length of two bytes."""

    limit: int
    """The largest length."""

    def read(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Return the bytes at an offset, and the offset behind them."""
        (size,) = _LENGTH.unpack_from(data, at)
        begin = at + _LENGTH.size
        end = begin + size
        if size > self.limit or end > len(data):
            raise ValueError(
                f"{size} bytes, {len(data) - begin} came and at most {self.limit} fit"
            )
        return data[begin:end], end

    def write(self, value: bytes) -> bytes:
        """Return length and bytes."""
        if len(value) > self.limit:
            raise ValueError(f"{len(value)} bytes, at most {self.limit} fit")
        return _LENGTH.pack(len(value)) + value


@dataclass(frozen=True, slots=True)
class Text:
    """Text in UTF-8 behind a length of two bytes."""

    limit: int
    """The largest length in bytes."""

    def read(self, data: bytes, at: int) -> tuple[str, int]:
        """Return the text at an offset, and the offset behind it."""
        found, end = Counted(self.limit).read(data, at)
        return shown_text(found), end

    def write(self, value: str) -> bytes:
        """Return length and bytes."""
        return Counted(self.limit).write(text_bytes(value))


@dataclass(frozen=True, slots=True)
class Exact:
    """Bytes of one length, as an item of a list."""

    size: int
    """How many."""

    def read(self, data: bytes, at: int) -> tuple[bytes, int]:
        """Return the bytes at an offset, and the offset behind them."""
        found = data[at : at + self.size]
        self._require(found)
        return found, at + self.size

    def write(self, value: bytes) -> bytes:
        """Return the bytes."""
        self._require(value)
        return value

    def _require(self, value: bytes) -> None:
        if len(value) != self.size:
            raise ValueError(f"{len(value)} bytes, the field has {self.size}")


@dataclass(frozen=True, slots=True)
class Items:
    """A list behind a count of one byte."""

    item: Part
    """One of them."""
    limit: int
    """The largest count; above it no item is read."""

    def read(self, data: bytes, at: int) -> tuple[tuple[Any, ...], int]:
        """Return the items at an offset, and the offset behind them."""
        count, at = data[at], at + 1
        if count > self.limit:
            raise ValueError(f"{count} items, at most {self.limit} fit")
        found = []
        for _ in range(count):
            value, at = self.item.read(data, at)
            found.append(value)
        return tuple(found), at

    def write(self, value: tuple[Any, ...]) -> bytes:
        """Return count and items."""
        if len(value) > self.limit:
            raise ValueError(f"{len(value)} items, at most {self.limit} fit")
        return bytes([len(value)]) + b"".join([self.item.write(one) for one in value])


class _Single:
    """A `Field` of fixed size as a part."""

    def __init__(self, field: Field) -> None:
        self._struct = struct.Struct(f">{field.code}")
        self._read: Convert = field.read or _as_it_is
        self._write: Convert = field.write or _as_it_is

    def read(self, data: bytes, at: int) -> tuple[Any, int]:
        (raw,) = self._struct.unpack_from(data, at)
        return self._read(raw), at + self._struct.size

    def write(self, value: Any) -> bytes:  # noqa: ANN401 - the field's
        return self._struct.pack(self._write(value))


def _as_it_is(value: Any) -> Any:  # noqa: ANN401 - whatever it is
    return value


class Varied(Generic[T]):
    """The bytes of one record of variable size.

    Args:
        record: a frozen dataclass.
        *parts: a `Field` or `Part` for each of its fields in their order, and `Zeros`
            between.
    """

    def __init__(self, record: type[T], *parts: Field | Zeros | Part) -> None:
        """Bind record and parts; a missing field is a programming error."""
        # Every record of this package is a dataclass; mypy knows no name for that.
        self._names = [field.name for field in fields(record)]  # type: ignore[arg-type]
        self.record: Final = record
        self._make: Make = record
        self._parts: list[Part | Zeros] = [
            _Single(part) if isinstance(part, Field) else part for part in parts
        ]
        own = sum(not isinstance(part, Zeros) for part in parts)
        if own != len(self._names):
            raise TypeError(f"{record.__name__} has {len(self._names)} fields")

    def parse(self, data: bytes) -> T:
        """Decode all of `data`.

        Raises:
            DecodeError: these bytes are no canonical encoding of this record.
        """
        return parsed(self.record.__name__, self._read, data)

    def build(self, value: T) -> bytes:
        """Encode a record.

        Raises:
            EncodeError: a value does not fit its field; nothing was built.
        """
        return built(self.record.__name__, self._write, value)

    def _read(self, data: bytes) -> tuple[T, int]:
        values: list[Any] = []
        at = 0
        for part in self._parts:
            if isinstance(part, Zeros):
                end = at + part.size
                if data[at:end] != bytes(part.size):
                    raise DecodeError(
                        Code.BAD_PARAM,
                        f"{self.record.__name__}: reserved bytes {at} to {end - 1} are "
                        "not zero",
                    )
                at = end
                continue
            try:
                value, at = part.read(data, at)
            except (LookupError, ValueError) as error:
                raise DecodeError(
                    Code.BAD_PARAM,
                    f"{self.record.__name__}: {self._names[len(values)]}: {error}",
                ) from None
            values.append(value)
        return self._make(*values), at

    def _write(self, value: T) -> bytes:
        names = iter(self._names)
        return b"".join(
            bytes(part.size)
            if isinstance(part, Zeros)
            else part.write(getattr(value, next(names)))
            for part in self._parts
        )
