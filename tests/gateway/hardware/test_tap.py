"""From scans to taps: I-14."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.hardware.tap import REMOVED_AFTER_MS, TapDetector

ALICE = bytes.fromhex("04a1b2c3d4e5f6")
BOB = bytes.fromhex("9c2e4f11")


def taps(scans: list[tuple[int, bytes | None]]) -> list[bytes]:
    detector = TapDetector()
    found = [detector.scan(uid, now_ms=now_ms) for now_ms, uid in scans]
    return [uid for uid in found if uid is not None]


def test_a_card_that_is_missed_now_and_then_stays_one_tap() -> None:
    scans = [(now, ALICE if now % 200 else None) for now in range(0, 3_000, 100)]

    assert taps(scans) == [ALICE]


def test_a_field_that_was_empty_long_enough_starts_a_new_tap() -> None:
    gone = [(100, None), (250, None), (100 + REMOVED_AFTER_MS, None)]

    assert taps([(0, ALICE), *gone, (500, ALICE)]) == [ALICE, ALICE]


def test_one_slow_miss_is_no_removal() -> None:
    # nfcpy's udp driver takes a second to say that nobody answered.
    assert taps([(0, ALICE), (1_100, None), (1_200, ALICE)]) == [ALICE]


def test_another_card_without_a_pause_belongs_to_the_same_tap() -> None:
    assert taps([(0, ALICE), (100, BOB), (200, ALICE)]) == [ALICE]


@pytest.mark.parametrize("uid", [b"", b"\x01\x02\x03", bytes(8), bytes(11)])
def test_a_uid_of_no_known_size_is_no_card_but_fills_the_field(uid: bytes) -> None:
    assert taps([(0, uid), (100, ALICE)]) == []


@given(st.lists(st.sampled_from([None, ALICE, BOB]), max_size=60))
def test_there_are_never_more_taps_than_times_the_field_filled(
    seen: list[bytes | None],
) -> None:
    # I-14, against the simplest model: a tap needs an empty field before it.
    filled = sum(
        now is not None and before is None
        for before, now in zip([None, *seen], seen, strict=False)
    )

    assert len(taps([(100 * place, uid) for place, uid in enumerate(seen)])) <= filled
