"""docs/board-protocol.md prints what the code does."""

import re
from pathlib import Path

import pytest

from protocol.board.framing import BoardDecoder
from protocol.board.link import ORDER_LIFE_MS, QUERY_MS, REPEAT_MS, SILENCE_MS
from protocol.board.message import BoardFrame, MessageType, RefusalReason
from protocol.codes import Bits, Light
from tests.protocol.board.test_framing import EVERY_FRAME

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "board-protocol.md").read_text("utf-8")


@pytest.mark.parametrize(("frame", "stream_hex"), EVERY_FRAME)
def test_every_example_frame_is_printed(frame: BoardFrame, stream_hex: str) -> None:
    assert f"`{stream_hex.upper()}`" in TEXT, frame


def test_every_frame_that_is_printed_is_one() -> None:
    printed = re.findall(r"\b00(?: [0-9A-F]{2}){5,} 00\b", TEXT)

    assert len(printed) >= len(EVERY_FRAME)
    for stream_hex in printed:
        assert len(BoardDecoder().feed(bytes.fromhex(stream_hex))) == 1, stream_hex


def test_every_number_is_listed_under_its_name() -> None:
    for kind in MessageType:
        assert f"| {kind.value:02X} | {kind.name} |" in TEXT
    for reason in RefusalReason:
        assert re.search(
            rf"reason:.*\b{reason.value} [a-z ]*{reason.name.split('_')[0].lower()}"
            rf"|reason:.*\b{reason.value} [a-z ]*{reason.name.split('_')[-1].lower()}",
            TEXT,
        ), reason
    for light in Light:
        assert f"{light.value} {light.name.replace('_', ' ').lower()}" in TEXT


def test_every_bit_is_listed() -> None:
    for bit in Bits:
        assert re.search(rf"\b{bit.value:04X}\b", TEXT), bit


def test_the_times_are_those_of_the_link() -> None:
    assert f"every {REPEAT_MS} ms" in TEXT
    assert f"at most {ORDER_LIFE_MS // 1000} s" in TEXT
    assert f"without STATE for {SILENCE_MS // 1000} s" in TEXT
    assert QUERY_MS > 500
    assert "at least every 500 ms" in TEXT
