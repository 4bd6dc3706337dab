from dataclasses import dataclass, replace

import construct as cs
import pytest

from protocol.codes import KNOWN_BITS, Bits, Code
from protocol.errors import DecodeError, EncodeError
from protocol.layout import (
    U8,
    Layout,
    bytes_up_to,
    flags_of,
    measured,
    measured_within,
    reserved,
    sequence_of,
)


@dataclass(frozen=True)
class Pair:
    first: int
    second: int


def test_a_layout_names_the_fields_of_its_record_in_order() -> None:
    with pytest.raises(TypeError, match="layout of Pair"):
        Layout(Pair, "second" / U8, "first" / U8)
    with pytest.raises(TypeError, match="int is not a dataclass"):
        Layout(int, "first" / U8)


@dataclass(frozen=True)
class Single:
    value: object


def _single(subcon: object) -> Layout[Single]:
    return Layout(Single, "value" / subcon)  # type: ignore[operator] # construct's own


def _refusal(layout: Layout[Single], data: bytes) -> Code:
    with pytest.raises(DecodeError) as caught:
        layout.parse(data)
    assert "\n" not in str(caught.value)
    return caught.value.code


def test_a_number_that_means_not_measured_reads_none_and_is_never_written() -> None:
    # FF-FRM-04, FF-FRM-05.
    layout = _single(measured(U8, 0xFF))

    assert layout.parse(b"\xff").value is None
    assert layout.build(Single(None)) == b"\xff"
    assert layout.parse(b"\0").value == 0
    with pytest.raises(EncodeError, match="not measured"):
        layout.build(Single(0xFF))


def test_a_measured_number_lies_within_its_bounds() -> None:
    layout = _single(measured_within(U8, 0xFF, 10, 20))

    assert [layout.parse(bytes([n])).value for n in (10, 20, 255)] == [10, 20, None]
    assert [_refusal(layout, bytes([n])) for n in (9, 21)] == [Code.BAD_PARAM] * 2
    with pytest.raises(EncodeError):
        layout.build(Single(21))


def test_reserved_bits_are_neither_read_nor_written() -> None:
    # FF-FRM-02.
    layout = _single(flags_of(cs.Int16ub, Bits, KNOWN_BITS))

    assert layout.parse(b"\x0f\xff").value == Bits(KNOWN_BITS)
    assert _refusal(layout, b"\x10\x00") is Code.BAD_PARAM
    with pytest.raises(EncodeError, match="reserved bits 0x1000"):
        layout.build(Single(Bits(0x1001)))


def test_reserved_bytes_are_zero() -> None:
    # FF-FRM-02.
    layout = Layout(Single, "value" / U8, reserved(2))

    assert layout.build(Single(1)) == b"\x01\0\0"
    assert _refusal(layout, b"\x01\0\x01") is Code.BAD_PARAM


def test_a_list_has_no_more_items_than_its_limit() -> None:
    # FF-FRM-06.
    layout = _single(sequence_of(U8, 2))

    assert layout.parse(b"\x02ab").value == (97, 98)
    assert _refusal(layout, b"\x03abc") is Code.BAD_PARAM
    with pytest.raises(EncodeError, match="3 items, at most 2 fit"):
        layout.build(Single((1, 2, 3)))


def test_counted_bytes_are_no_longer_than_their_limit() -> None:
    # FF-FRM-06.
    layout = _single(bytes_up_to(2))

    assert layout.build(Single(b"ab")) == b"\0\x02ab"
    assert layout.parse(b"\0\0").value == b""
    assert _refusal(layout, b"\0\x03abc") is Code.BAD_PARAM
    assert _refusal(layout, b"\xff\xff") is Code.BAD_PARAM
    with pytest.raises(EncodeError):
        layout.build(Single(b"abc"))


@pytest.mark.parametrize("tail", [b"\0", b"\0\0", b"x"])
def test_bytes_behind_a_record_are_refused(tail: bytes) -> None:
    # FF-FRM-03.
    layout = Layout(Pair, "first" / U8, "second" / U8)

    with pytest.raises(DecodeError) as caught:
        layout.parse(b"\1\2" + tail)

    assert caught.value.code is Code.NON_CANONICAL
    assert f"{2 + len(tail)} bytes, of which 2" in caught.value.detail


def test_two_encodings_of_one_value_are_not_both_read() -> None:
    # FF-FRM-03.
    # A declaration that forgives; the comparison with the input does not.
    layout = _single(cs.Flag)

    assert layout.parse(b"\x01").value is True
    assert _refusal(layout, b"\x02") is Code.NON_CANONICAL


def test_an_error_names_record_and_field() -> None:
    layout = Layout(Pair, "first" / U8, "second" / U8)

    with pytest.raises(EncodeError, match="Pair: second"):
        layout.build(replace(Pair(1, 2), second=256))
    with pytest.raises(DecodeError, match="Pair: second"):
        layout.parse(b"\x01")


def test_an_exception_without_a_message_is_named_by_its_type() -> None:
    class Silent(Exception):  # noqa: N818 - an exception of somebody else's code
        pass

    def fail(_raw: int, _context: object) -> int:
        raise Silent

    layout = _single(cs.ExprAdapter(U8, fail, fail))

    with pytest.raises(DecodeError, match="Single: Silent"):
        layout.parse(b"\0")
