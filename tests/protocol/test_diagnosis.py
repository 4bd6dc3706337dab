"""What a car says of itself, in parts that fit into frames."""

from hypothesis import given
from hypothesis import strategies as st

from protocol.codes import EventType
from protocol.diagnosis import (
    DIAGNOSED,
    LINE_LIMIT,
    PART_LIMIT,
    PARTS_LIMIT,
    DiagnosisKind,
    in_parts,
)
from protocol.packed.event import EVENTS

ID = bytes(range(16))


@given(lines=st.lists(st.text(max_size=300), max_size=80))
def test_any_lines_are_told_in_parts_that_both_codecs_read(lines: list[str]) -> None:
    """FF-DIA-01: numbered without a gap, each of a size that a frame has room for."""
    parts = in_parts(ID, DiagnosisKind.SNAPSHOT, lines)

    assert [part.part for part in parts] == list(range(1, len(parts) + 1))
    assert {part.parts for part in parts} == {len(parts)}
    assert len(parts) <= PARTS_LIMIT
    for part in parts:
        data = DIAGNOSED.build(part)
        assert len(data) <= PART_LIMIT + 21
        assert DIAGNOSED.parse(data) == part
        assert EVENTS[EventType.DIAGNOSED].build(part) == data
        assert EVENTS[EventType.DIAGNOSED].parse(data) == part


def test_short_lines_stay_whole_and_long_ones_are_cut() -> None:
    [part] = in_parts(ID, DiagnosisKind.PING, ["board_ms=-", "é" * LINE_LIMIT, "a\nb"])

    assert part.lines == ("board_ms=-", "é" * (LINE_LIMIT // 2), "a b")


def test_what_fits_into_no_part_is_left_out() -> None:
    parts = in_parts(ID, DiagnosisKind.EXPLANATION, ["x" * LINE_LIMIT] * 100)

    assert len(parts) == PARTS_LIMIT
    assert sum(len(part.lines) for part in parts) == PARTS_LIMIT * 3
