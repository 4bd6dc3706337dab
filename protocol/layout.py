"""How a record of values becomes bytes and back, strictly.

A `Layout` binds a frozen dataclass to construct's declaration of its bytes. The
dataclass is what the rest of the code handles; the declaration is what a reader of the
specification compares. Three rules make it safe on bytes from outside
(protocol-design.md 1.7):

1. Any exception whatever becomes a `DecodeError`.
2. What was parsed is built again and must equal the input: no trailing bytes, no second
   encoding of one value.
3. Every repetition and every length has a bound in the declaration.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import construct as cs

from protocol.codes import Code
from protocol.errors import DecodeError, EncodeError

T = TypeVar("T")

if TYPE_CHECKING:
    Subcon = cs.Construct[Any, Any]
else:
    Subcon = cs.Construct  # generic in its stubs only

U8: Final[Subcon] = cs.Int8ub
U16: Final[Subcon] = cs.Int16ub
U32: Final[Subcon] = cs.Int32ub
U64: Final[Subcon] = cs.Int64ub
ID: Final[Subcon] = cs.Bytes(16)
HASH: Final[Subcon] = cs.Bytes(32)


class Layout(Generic[T]):
    """The bytes of one record.

    Args:
        record: a frozen dataclass; its field names are those of the declaration.
        *declared: construct's fields in wire order; unnamed ones are reserved.
    """

    def __init__(self, record: type[T], *declared: Subcon) -> None:
        """Bind record and declaration; a mismatch of names is a programming error."""
        if not is_dataclass(record):
            raise TypeError(f"{record.__name__} is not a dataclass")
        names = [subcon.name for subcon in declared if subcon.name is not None]
        if names != [field.name for field in fields(record)]:
            raise TypeError(f"layout of {record.__name__} declares {names}")
        self.record = record
        self._make: Callable[..., T] = record
        self._names = names
        self._struct = cs.Struct(*declared)

    def parse(self, data: bytes) -> T:
        """Decode all of `data`.

        Raises:
            DecodeError: these bytes are no canonical encoding of this record.
        """
        try:
            value = self._record(self._struct.parse(data))
            canonical = self._struct.build(self._container(value))
        except DecodeError:
            raise
        except Exception as error:  # noqa: BLE001 - rule 1: one typed error
            raise DecodeError(
                Code.BAD_PARAM, f"{self.record.__name__}: {_sentence(error)}"
            ) from None
        if canonical != data:
            raise DecodeError(
                Code.NON_CANONICAL,
                f"{self.record.__name__}: {len(data)} bytes, of which {len(canonical)} "
                "are its canonical encoding",
            )
        return value

    def build(self, value: T) -> bytes:
        """Encode a record.

        Raises:
            EncodeError: a value does not fit its field; nothing was built.
        """
        try:
            return self._struct.build(self._container(value))
        except Exception as error:
            raise EncodeError(f"{self.record.__name__}: {_sentence(error)}") from error

    def nested(self) -> Subcon:
        """Return a subcon that holds this record inside another."""
        return cs.ExprAdapter(
            self._struct,
            lambda parsed, _context: self._record(parsed),
            lambda value, _context: self._container(value),
        )

    def _record(self, parsed: Any) -> T:  # noqa: ANN401 - construct's container
        return self._make(**{name: parsed[name] for name in self._names})

    def _container(self, value: T) -> dict[str, Any]:
        return {name: getattr(value, name) for name in self._names}


def _sentence(error: Exception) -> str:
    """Put construct's message on one line, the path of the field in front."""
    text = " ".join(str(error).split()) or type(error).__name__
    return _PATH.sub("", text).strip()


_PATH: Final = re.compile(r"^Error in path \((parsing|building)\)( -> )?")
"""How construct begins a message; what follows is the path of the field."""


def code_of(subcon: Subcon, space: type[IntEnum]) -> Subcon:
    """Return a field that holds a member of `space`; any other number is refused."""
    return cs.ExprAdapter(
        subcon, lambda raw, _c: space(raw), lambda member, _c: int(space(member))
    )


def flags_of(subcon: Subcon, space: type[IntFlag], known: int) -> Subcon:
    """Return a field of flags; a bit outside `known` is refused."""

    def decode(raw: int, _context: object) -> IntFlag:
        if raw & ~known:
            raise DecodeError(Code.BAD_PARAM, f"reserved bits 0x{raw & ~known:X} set")
        return space(raw)

    def encode(member: int, _context: object) -> int:
        if member & ~known:
            raise EncodeError(f"reserved bits 0x{member & ~known:X} set")
        return int(member)

    return cs.ExprAdapter(subcon, decode, encode)


def ranged(subcon: Subcon, low: int, high: int) -> Subcon:
    """Return a field whose number lies within both bounds."""
    return cs.ExprValidator(subcon, lambda number, _c: low <= number <= high)


def measured(subcon: Subcon, absent: int) -> Subcon:
    """Return a field where the number `absent` means "not measured" and reads None."""

    def encode(value: int | None, _context: object) -> int:
        if value == absent:
            raise EncodeError(f"{absent} is reserved for 'not measured'")
        return absent if value is None else value

    return cs.ExprAdapter(
        subcon, lambda raw, _c: None if raw == absent else raw, encode
    )


def measured_within(subcon: Subcon, absent: int, low: int, high: int) -> Subcon:
    """Return a field that is not measured or lies within both bounds."""
    return cs.ExprValidator(
        measured(subcon, absent),
        lambda number, _c: number is None or low <= number <= high,
    )


PERCENT: Final = measured_within(U8, 0xFF, 0, 100)
"""A level in percent; 255 on the wire means not measured."""

FLAG: Final[Subcon] = cs.ExprAdapter(
    ranged(U8, 0, 1), lambda raw, _c: bool(raw), lambda value, _c: int(value)
)
"""Yes or no."""


def reserved(size: int) -> Subcon:
    """Return unnamed bytes that are zero and must be zero."""
    return cs.Const(bytes(size))


def sequence_of(subcon: Subcon, limit: int) -> Subcon:
    """Return up to `limit` items behind a count byte; reads a tuple."""
    counted = cs.PrefixedArray(ranged(U8, 0, limit), subcon)
    return cs.ExprAdapter(
        counted,
        lambda items, _c: tuple(items),
        lambda items, _c: _bounded(items, limit),
    )


def _bounded(items: Sequence[object], limit: int) -> list[object]:
    if len(items) > limit:
        raise EncodeError(f"{len(items)} items, at most {limit} fit")
    return list(items)


def bytes_up_to(limit: int, *, at_least: int = 0) -> Subcon:
    """Return `at_least` to `limit` bytes behind a 16-bit length."""
    inner: Subcon = cs.Struct(
        "size" / ranged(U16, at_least, limit), "data" / cs.Bytes(cs.this.size)
    )
    return cs.ExprAdapter(
        inner,
        lambda parsed, _c: bytes(parsed.data),
        lambda data, _c: {"size": len(data), "data": data},
    )


def text_up_to(limit: int) -> Subcon:
    """Return text of up to `limit` bytes in UTF-8 behind a 16-bit length.

    Control characters are refused: such text is shown at a display and in lists.
    """
    return cs.ExprAdapter(
        bytes_up_to(limit),
        lambda data, _c: shown_text(data),
        lambda text, _c: text_bytes(text),
    )


def shown_text(data: bytes) -> str:
    """Read text that people are shown.

    Raises:
        ValueError: no UTF-8 in its one form, or with a control character.
    """
    text = data.decode("utf-8")
    if _CONTROL.search(text):
        raise ValueError("text with a control character")
    return text


def text_bytes(text: str) -> bytes:
    """Return the bytes of such text.

    Raises:
        ValueError: it holds a control character or half a surrogate pair.
    """
    data = text.encode("utf-8")
    shown_text(data)
    return data


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""The control characters of Unicode, category Cc."""


def letters(size: int, *, upper: bool) -> Subcon:
    """Return a field of ASCII letters of one case."""
    wanted = _UPPER if upper else _LOWER

    def fits(data: bytes, _context: object) -> bool:
        return wanted.fullmatch(data) is not None

    return cs.ExprValidator(cs.Bytes(size), fits)


_UPPER: Final = re.compile(rb"[A-Z]+")
_LOWER: Final = re.compile(rb"[a-z]+")
