"""Ledger rules: whatever the order of arrival, the chain is told once and in order."""

from hypothesis import assume, given
from hypothesis import strategies as st

from bridge.credit import CREDIT_MOST
from bridge.ledger import (
    HELD_LIMIT,
    Ledger,
    Place,
    Placement,
    contradicts,
    falls_behind,
    gaps_of,
    place,
)
from protocol.entry import GENESIS
from protocol.receipt import GAPS_LIMIT, Gap


def digest(seq: int) -> bytes:
    return seq.to_bytes(32, "big")


def entry(seq: int) -> Place:
    return Place(seq, digest(seq), GENESIS if seq == 1 else digest(seq - 1))


def fill(*seqs: int) -> Ledger:
    ledger = Ledger()
    for seq in seqs:
        ledger = place(ledger, entry(seq), known_hash=None).ledger
    return ledger


@given(st.permutations(range(1, 9)), st.lists(st.integers(0, 7)))
def test_any_order_of_arrival_is_told_once_and_in_order(
    order: list[int], repeats: list[int]
) -> None:
    # FF-LED-20, FF-LED-16.
    # I-21, I-25
    arrivals = list(order)
    for position in repeats:
        arrivals.insert(position, order[position % len(order)])
    ledger, told, stored = Ledger(), list[int](), set[int]()

    for seq in arrivals:
        placed = place(
            ledger, entry(seq), known_hash=digest(seq) if seq in stored else None
        )
        assert (placed.placement is Placement.DUPLICATE) == (seq in stored)
        stored.add(seq)
        ledger = placed.ledger
        told.extend(placed.released)

    assert told == list(range(1, 9))
    assert ledger == Ledger(8, digest(8), {})


@given(st.sets(st.integers(1, 40), min_size=1))
def test_gaps_and_what_is_stored_make_up_the_whole_ledger(stored: set[int]) -> None:
    # FF-LED-18.
    ledger = fill(*sorted(stored, reverse=True))

    missing = {s for gap in gaps_of(ledger) for s in range(gap.first, gap.last + 1)}

    complete = set(range(1, max(stored) + 1))
    expected = complete - stored
    if len(gaps_of(ledger)) < GAPS_LIMIT:
        assert missing == expected
    assert missing <= expected
    assert ledger.upto == next(n for n in range(50) if n + 1 not in stored)


def test_the_same_sequence_with_another_hash_is_a_fork_and_changes_nothing() -> None:
    # FF-LED-17.
    # I-27
    ledger = fill(1, 2)

    placed = place(ledger, Place(2, digest(99), digest(1)), known_hash=digest(2))

    assert placed.placement is Placement.FORKED
    assert placed.ledger == ledger


@given(
    stored=st.sets(st.integers(1, 30), min_size=1),
    choice=st.integers(0, 99),
    noise=st.binary(min_size=32, max_size=32),
)
def test_whatever_is_stored_another_content_of_it_is_a_fork(
    stored: set[int], choice: int, noise: bytes
) -> None:
    # I-27 (P), FF-LED-17.
    ledger = fill(*sorted(stored, reverse=True))
    seq = sorted(stored)[choice % len(stored)]
    other = Place(seq, noise, entry(seq).prev_hash)

    placed = place(ledger, other, known_hash=digest(seq))

    is_same = noise == digest(seq)
    assert placed.placement is (Placement.DUPLICATE if is_same else Placement.FORKED)
    assert placed.ledger == ledger
    assert placed.released == ()


@given(
    arrival=st.permutations(range(1, 9)),
    at=st.integers(2, 8),
    noise=st.binary(min_size=32, max_size=32),
)
def test_in_whatever_order_a_broken_chain_comes_it_stops_there_and_is_reported(
    arrival: list[int], at: int, noise: bytes
) -> None:
    # I-27 (P), FF-LED-19.
    assume(noise != digest(at - 1))
    ledger, told, reported = Ledger(), list[int](), set[int]()

    for seq in arrival:
        one = Place(seq, digest(seq), noise) if seq == at else entry(seq)
        placed = place(ledger, one, known_hash=None)
        ledger = placed.ledger
        told.extend(placed.released)
        if placed.broken_at is not None:
            reported.add(placed.broken_at)

    assert told == list(range(1, at))
    assert reported == {at}


def test_an_entry_that_names_another_predecessor_is_held_and_reported() -> None:
    # FF-LED-19.
    placed = place(fill(1), Place(2, digest(2), digest(77)), known_hash=None)

    assert placed.placement is Placement.BROKEN
    assert placed.broken_at == 2
    assert placed.released == ()
    assert placed.ledger.upto == 1


def test_a_held_entry_that_turns_out_not_to_fit_is_reported_when_its_turn_comes() -> (
    None
):
    # FF-LED-19.
    ledger = place(fill(1), Place(3, digest(3), digest(77)), known_hash=None).ledger

    placed = place(ledger, entry(2), known_hash=None)

    assert placed.released == (2,)
    assert placed.broken_at == 3


def test_islands_beyond_a_gap_are_bounded() -> None:
    # FF-LIM-03.
    held = {seq: entry(seq) for seq in range(3, 3 + HELD_LIMIT)}
    ledger = Ledger(1, digest(1), held)

    placed = place(ledger, entry(10**6), known_hash=None)

    assert placed.placement is Placement.CROWDED
    assert placed.ledger is ledger


def test_a_receipt_asks_for_at_most_sixteen_gaps() -> None:
    ledger = fill(*range(2, 100, 2))

    gaps = gaps_of(ledger)

    assert len(gaps) == GAPS_LIMIT
    assert gaps[0] == Gap(1, 1)


def test_a_cars_word_about_its_head_is_held_against_the_store() -> None:
    # FF-HEL-11.
    ledger = fill(1, 2, 3)

    assert contradicts(3, digest(3), known_hash=digest(3)) is None
    assert contradicts(9, digest(9), known_hash=None) is None
    assert "not the one" in str(contradicts(3, digest(8), known_hash=digest(3)))
    assert falls_behind(ledger, 3) is None
    assert "went back" in str(falls_behind(ledger, 2))


def test_what_is_held_is_bounded_by_what_an_honest_car_can_have_under_way() -> None:
    # FF-LIM-03.
    # I-31: all that is held is read at each frame of its ledger, so a hostile car must
    # not make it much; an honest one stops at its credit.
    assert 2 * CREDIT_MOST <= HELD_LIMIT <= 8 * CREDIT_MOST
