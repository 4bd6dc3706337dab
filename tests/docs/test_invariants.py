"""Invariants, checks and faults: shown by tests, or waiting openly for one."""

from tools import invariants
from tools.invariant_list import CHECKS, FAULTS, INVARIANTS, Method
from tools.invariants import Cited, cited_in, shown_in

SOURCE = '''
"""I-1 in the head of a module shows nothing."""

# I-2
def test_a():
    """The car does what I-3 (P, F) says; row 4."""
    assert "I-4"

@given(text())
def test_b(words):
    # K5
    pass

@pytest.mark.skip
def test_c():
    # I-6 (M)
    pass

class Machine(RuleBasedStateMachine):
    """I-7."""

def helper():
    # I-8
    pass
'''


def test_everything_is_shown_or_waits_openly_for_a_test() -> None:
    there, waiting = invariants.shown(), invariants.uncited()

    assert set(invariants.missing()) - set(waiting) == set(), "cite it in its test"
    assert set(waiting) & there == set(), "cited by now: run make docs"
    assert set(waiting) <= set(invariants.wanted())


def test_the_lists_are_whole() -> None:
    assert list(INVARIANTS) == [f"I-{number}" for number in range(1, 35)]
    assert list(CHECKS) == [f"K{number}" for number in range(1, 29)]
    assert list(FAULTS) == [f"row {number}" for number in range(1, 38)]
    assert all(it.methods for it in INVARIANTS.values())


def test_the_table_is_up_to_date() -> None:
    text = invariants.PATH.read_text(encoding="utf-8")

    assert text == invariants.generate(), "run make docs"


def test_numbers_stand_alone_in_spans_and_in_lists() -> None:
    found = {one.number for one in cited_in("I-1 to I-3, K9; rows 1, 3 and 5 to 7")}

    assert found == {
        *("I-1", "I-2", "I-3", "K9"),
        *("row 1", "row 3", "row 5", "row 6", "row 7"),
    }


def test_a_number_that_does_not_exist_is_no_citation() -> None:
    assert cited_in("I-35, K29, row 38, AI-1 and SK1") == set()


def test_a_method_stands_behind_the_number_also_over_the_end_of_a_line() -> None:
    assert cited_in("I-17\n    (M, S)") == {
        Cited("I-17", frozenset({Method.MODEL, Method.STATEFUL}))
    }


def test_the_method_is_seen_where_it_can_be() -> None:
    found = {number: one.methods for number, one in shown_in(SOURCE, "a.py")}

    assert found == {
        "I-2": set(),
        "I-3": {Method.PROPERTY, Method.FAULT},
        "row 4": set(),
        "K5": {Method.PROPERTY},
        "I-6": {Method.MODEL},
        "I-7": {Method.STATEFUL},
    }


def test_what_lies_in_the_simulation_is_of_the_simulation() -> None:
    found = {one.methods for _, one in shown_in(SOURCE, "tests/simulation/a.py")}

    assert all(Method.SIMULATION in methods for methods in found)
