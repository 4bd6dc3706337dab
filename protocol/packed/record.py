"""How a record becomes bytes and back with one call of `struct`.

The three rules of `protocol.layout` hold here too: one typed error, no second encoding
of a value, a bound on every length. Nothing is built again to be compared: every field
reads only what its own encoding can be, reserved bytes are compared with zeros, and
what is left over at the end is refused.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import IntEnum
from functools import cache
from operator import index as number_from
from typing import Any, Final, Generic, TypeVar

from protocol.codes import KNOWN_BITS, Bits, Code
from protocol.errors import DecodeError, EncodeError

T = TypeVar("T")

Convert = Callable[[Any], Any]
"""Turns one value into another, or raises LookupError, TypeError or ValueError."""


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a record."""

    code: str
    """Its letter in a format of `struct`, big-endian."""
    read: Convert | None = None
    """From struct's value to the record's; None where they are the same."""
    write: Convert | None = None
    """From the record's value to struct's."""


@dataclass(frozen=True, slots=True)
class Zeros:
    """Reserved bytes between two values: zero, and refused otherwise."""

    size: int
    """How many."""


class Packed(Generic[T]):
    """The bytes of one record of fixed size.

    Args:
        record: a frozen dataclass.
        *parts: a `Field` for each of its fields in their order, and `Zeros` between.
    """

    def __init__(self, record: type[T], *parts: Field | Zeros) -> None:
        """Compile the format; a missing field is a programming error."""
        if not is_dataclass(record):
            raise TypeError(f"{record.__name__} is not a dataclass")
        own = [part for part in parts if isinstance(part, Field)]
        self.record: Final = record
        self._make: Callable[..., T] = record
        self._names = [field.name for field in fields(record)]
        if len(own) != len(self._names):
            raise TypeError(f"{record.__name__} has {len(self._names)} fields")
        self._reads = [(i, f.read) for i, f in enumerate(own) if f.read is not None]
        self._writes = [(i, f.write) for i, f in enumerate(own) if f.write is not None]
        self._zeros: list[tuple[int, int, bytes]] = []
        form = ">"
        for part in parts:
            if isinstance(part, Zeros):
                begin = struct.calcsize(form)
                self._zeros.append((begin, begin + part.size, bytes(part.size)))
                form += f"{part.size}x"
            else:
                form += part.code
        self._struct = struct.Struct(form)
        self.size: Final = self._struct.size

    def read(self, data: bytes, at: int = 0) -> T:
        """Read the record that stands at an offset; what follows it is not looked at.

        Raises:
            DecodeError: a value is not one of its field, or a reserved byte is set.
            struct.error: `data` ends before the record.
        """
        values = list(self._struct.unpack_from(data, at))
        index = 0
        try:
            for index, read in self._reads:
                values[index] = read(values[index])
        except (LookupError, ValueError):
            raise DecodeError(
                Code.BAD_PARAM,
                f"{self.record.__name__}: {self._names[index]} may not be "
                f"{values[index]!r}",
            ) from None
        for begin, end, zeros in self._zeros:
            if data[at + begin : at + end] != zeros:
                raise DecodeError(
                    Code.BAD_PARAM,
                    f"{self.record.__name__}: reserved bytes {begin} to {end - 1} are "
                    "not zero",
                )
        return self._make(*values)

    def write(self, value: T) -> bytes:
        """Return the record's bytes.

        Raises:
            Exception: of any kind, when a value does not fit; `built` types it.
        """
        values = [getattr(value, name) for name in self._names]
        for index, write in self._writes:
            values[index] = write(values[index])
        return self._struct.pack(*values)

    def parse(self, data: bytes) -> T:
        """Decode all of `data`.

        Raises:
            DecodeError: these bytes are no canonical encoding of this record.
        """
        return parsed(self.record.__name__, self._read_first, data)

    def build(self, value: T) -> bytes:
        """Encode a record.

        Raises:
            EncodeError: a value does not fit its field; nothing was built.
        """
        return built(self.record.__name__, self.write, value)

    def _read_first(self, data: bytes) -> tuple[T, int]:
        return self.read(data), self.size


@dataclass(frozen=True, slots=True)
class PackedList(Generic[T]):
    """Items of one size behind a count of one byte."""

    item: Packed[T]
    """One of them."""
    limit: int
    """The largest count; above it no item is read."""

    def read(self, data: bytes, at: int) -> tuple[tuple[T, ...], int]:
        """Return the items of the list at an offset, and the offset behind it.

        Raises:
            DecodeError: too many items, or one that is wrong.
            IndexError, struct.error: `data` ends before the list does.
        """
        count = data[at]
        if count > self.limit:
            raise DecodeError(
                Code.BAD_PARAM,
                f"{count} of {self.item.record.__name__}, at most {self.limit} fit",
            )
        begin, size = at + 1, self.item.size
        end = begin + count * size
        read = self.item.read
        return tuple([read(data, place) for place in range(begin, end, size)]), end

    def write(self, items: tuple[T, ...]) -> bytes:
        """Return the list's bytes.

        Raises:
            Exception: of any kind, when it does not fit; `built` types it.
        """
        if len(items) > self.limit:
            raise EncodeError(f"{len(items)} items, at most {self.limit} fit")
        return bytes([len(items)]) + b"".join([self.item.write(item) for item in items])


def parsed(name: str, read: Callable[[bytes], tuple[T, int]], data: bytes) -> T:
    """Return the record that `read` finds, if it takes up all of `data`.

    Args:
        name: the record's, for the error.
        read: returns a record and the offset behind it.
        data: what came.

    Raises:
        DecodeError: whatever goes wrong, and for bytes left over.
    """
    try:
        value, end = read(data)
    except DecodeError:
        raise
    except Exception as error:  # noqa: BLE001 - one typed error, as protocol.layout has
        raise DecodeError(Code.BAD_PARAM, f"{name}: {error}") from None
    if end != len(data):
        raise DecodeError(
            Code.NON_CANONICAL,
            f"{name}: {len(data)} bytes, of which {end} are its canonical encoding",
        )
    return value


def built(name: str, write: Callable[[T], bytes], value: T) -> bytes:
    """Return the bytes that `write` makes of a record.

    Raises:
        EncodeError: whatever goes wrong; nothing was built.
    """
    try:
        return write(value)
    except Exception as error:
        raise EncodeError(f"{name}: {error}") from error


def one_of(table: dict[int, Any], code: str) -> Field:
    """Return a number that stands for a value; any other number is refused."""
    numbers = {value: number for number, value in table.items()}
    return Field(code, table.__getitem__, numbers.__getitem__)


def member(space: type[IntEnum], code: str = "B") -> Field:
    """Return a member of a code space."""
    return one_of({int(entry): entry for entry in space}, code)


def exactly(size: int) -> Field:
    """Return bytes of one length; struct alone would cut or fill them."""

    def write(value: bytes) -> bytes:
        if len(value) != size:
            raise ValueError(f"{len(value)} bytes, the field has {size}")
        return value

    return Field(f"{size}s", None, write)


def letters(size: int, *, upper: bool) -> Field:
    """Return ASCII letters of one case."""

    def require(data: bytes) -> bytes:
        same_case = data.isupper() if upper else data.islower()
        if len(data) != size or not (data.isalpha() and same_case):
            raise ValueError(f"{data!r} is not {size} letters")
        return data

    return Field(f"{size}s", require, require)


def measured(code: str, absent: int) -> Field:
    """Return a number, or None for the one that means "not measured"."""

    def read(raw: int) -> int | None:
        return None if raw == absent else raw

    def write(value: int | None) -> int:
        if value == absent:
            raise ValueError(f"{absent} is reserved for 'not measured'")
        return absent if value is None else value

    return Field(code, read, write)


def within(code: str, low: int, high: int) -> Field:
    """Return a number that lies within both bounds."""

    def require(number: int) -> int:
        if not low <= number <= high:
            raise ValueError(f"{number} is not within {low} and {high}")
        return number

    return Field(code, require, require)


def nested(packed: Packed[Any]) -> Field:
    """Return a record inside another."""
    return Field(f"{packed.size}s", packed.read, packed.write)


@cache
def bits_of(raw: int) -> Bits:
    """Return the flags of a number; kept, as making one costs six times the lookup.

    At most 4096 are kept, one for each allowed number: a refusal is not.

    Raises:
        ValueError: a reserved bit is set.
    """
    if raw & ~KNOWN_BITS:
        raise ValueError(f"reserved bits 0x{raw & ~KNOWN_BITS:X} set")
    return Bits(raw)


def number_of(bits: Bits) -> int:
    """Return the number of some flags.

    Raises:
        ValueError: a reserved bit is set.
    """
    # First a plain number: IntFlag's own operators take ten times as long.
    number = number_from(bits)
    if number & ~KNOWN_BITS:
        raise ValueError(f"reserved bits 0x{number & ~KNOWN_BITS:X} set")
    return number


def percent_byte(level: int | None) -> int:
    """Return the byte of a level in percent.

    Raises:
        ValueError: outside 0 to 100.
    """
    if level is None:
        return 0xFF
    if not 0 <= level <= 100:  # noqa: PLR2004 - percent
        raise ValueError(f"{level} % is not within 0 and 100")
    return level


PERCENTS: Final[dict[int, int | None]] = {
    **{level: level for level in range(101)},
    0xFF: None,
}
"""What each allowed byte of a level means."""

U8: Final = Field("B")
U16: Final = Field("H")
U32: Final = Field("I")
U64: Final = Field("Q")
ID: Final = exactly(16)
HASH: Final = exactly(32)
BITS: Final = Field("H", bits_of, number_of)
PERCENT: Final = Field("B", PERCENTS.__getitem__, percent_byte)
MEASURED_U16: Final = measured("H", 0xFFFF)
MEASURED_U32: Final = measured("I", 0xFFFF_FFFF)
FLAG: Final = one_of({0: False, 1: True}, "B")
