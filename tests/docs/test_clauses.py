"""Every requirement of the specification has an id, and a test that shows it."""

import subprocess
from pathlib import Path

import pytest

from tools import clauses, worked_examples
from tools.clauses import CLAUSE_ID, ROOT, citations_of, faults_of

PREFIX = "FF-AAA"
ONE, TWO = f"{PREFIX}-01", f"{PREFIX}-02"
"""Put together here, so that nobody takes them for clauses."""


@pytest.mark.parametrize("path", clauses.documents(), ids=lambda path: path.name)
def test_every_requirement_has_one_clause_id(path: Path) -> None:
    assert faults_of(path.read_text(encoding="utf-8")) == []


def test_no_clause_id_is_used_twice() -> None:
    ids = [clause.id for clause in clauses.all_clauses()]

    assert len(ids) == len(set(ids))
    assert len(ids) > 150


def test_the_numbers_of_a_prefix_rise() -> None:
    ids = [clause.id for clause in clauses.all_clauses()]
    order = list(dict.fromkeys(one[:-3] for one in ids))

    assert ids == sorted(ids, key=lambda one: (order.index(one[:-3]), one))


def test_every_clause_is_cited_by_a_test_or_waits_openly_for_one() -> None:
    ids = {clause.id for clause in clauses.all_clauses()}
    shown = set(clauses.citations())
    waiting = clauses.uncited()

    assert ids - shown - set(waiting) == set(), "cite it, see CONTRIBUTING.md"
    assert set(waiting) & shown == set(), "cited by now: run make docs"
    assert set(waiting) - ids == set(), "no such clause"
    assert waiting == sorted(waiting)


def test_every_cited_clause_exists() -> None:
    ids = {clause.id for clause in clauses.all_clauses()}
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.md"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    unknown = {}
    for name in listed.stdout.split():
        found = set(CLAUSE_ID.findall((ROOT / name).read_text(encoding="utf-8")))
        if found - ids:
            unknown[name] = sorted(found - ids)

    assert unknown == {}


def test_the_list_of_clauses_is_up_to_date() -> None:
    text = clauses.PATH.read_text(encoding="utf-8")

    assert text == clauses.generate(), "run make docs"


def test_the_worked_examples_are_up_to_date() -> None:
    text = worked_examples.PATH.read_text(encoding="utf-8")

    assert text == worked_examples.generate(), "run make docs"


def test_the_checker_finds_a_requirement_without_an_id() -> None:
    text = f"- **{ONE}** A car MUST stop.\n\nIt MUST NOT go.\n```\nMUST\n```\n`MUST`\n"

    assert faults_of(text) == ["line 3 requires something without a clause id"]


def test_the_checker_finds_two_requirements_and_one_id_twice() -> None:
    text = f"**{ONE}** It MUST stop and MUST wait.\n- **{ONE}** It stops.\n"

    assert faults_of(text) == [
        f"line 1: {ONE} has 2 requirements",
        f"line 2: {ONE} has 0 requirements",
        f"line 2: {ONE} stands twice",
    ]


def test_the_checker_counts_citations_at_tests_only() -> None:
    source = f'''
"""{TWO} in a module's docstring."""
COVERED = ["{TWO}"]

def helper():
    """{TWO} in what is no test."""

# {TWO} is separated by a line.

# {ONE} is attached.
@mark
def test_by_comment():
    pass

async def test_by_docstring():
    """{ONE}."""

class TestThings:
    """{TWO} at a class alone."""

    def test_inside(self):
        assert True  # {ONE}

class Machine(RuleBasedStateMachine):
    """{ONE}."""
'''

    found = citations_of(source, "tests/planted.py")

    assert {clause for clause, _ in found} == {ONE}
    assert [str(citation) for _, citation in found] == [
        "`tests/planted.py::test_by_comment`",
        "`tests/planted.py::test_by_docstring`",
        "`tests/planted.py::test_inside`",
        "`tests/planted.py`, class `Machine`",
    ]
