"""Every requirement of the car is shown by a test, and a table says by which."""

from tools import requirements
from tools.requirement_list import REQUIREMENTS
from tools.requirements import cited_by_tests, numbers_in

SOURCE = '''
"""C1 in the head of a module shows nothing."""

# C2
def test_a():
    """The car does what C3 says."""
    # C4 to C6, H2
    assert "C7"

def helper():
    # C8
    pass
'''


def test_every_requirement_of_the_car_is_cited_or_waits_openly_for_a_test() -> None:
    shown = set(requirements.tests())
    waiting = requirements.uncited()
    needed = set(requirements.must_be_cited())

    assert needed - shown - set(waiting) == set(), "cite it in its test"
    assert set(waiting) & shown == set(), "cited by now: run make docs"
    assert set(waiting) <= needed


def test_the_list_is_whole() -> None:
    assert requirements.must_be_cited() == [
        *(f"C{number}" for number in range(1, 34)),
        *(f"H{number}" for number in range(1, 22) if number not in {10, 12}),
        *(f"S{number}" for number in (1, 2, 3, 4, 5, 11)),
    ]


def test_the_table_is_up_to_date() -> None:
    text = requirements.PATH.read_text(encoding="utf-8")

    assert text == requirements.generate(), "run make docs"


def test_a_citation_stands_in_a_comment_or_docstring_of_a_test() -> None:
    found = {number for number, _ in cited_by_tests(SOURCE, "a.py")}

    assert found == {"C2", "C3", "C4", "C5", "C6", "H2"}


def test_a_number_that_nothing_requires_is_no_citation() -> None:
    assert numbers_in("C99, SHA256, H10, F1 and C21 to H2") == {"C21", "H2"}
    assert set(REQUIREMENTS) >= numbers_in("C19 to C22")
