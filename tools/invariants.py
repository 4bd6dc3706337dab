"""Write docs/invariants.md, from invariant, check and fault to test and method.

Run ``python -m tools.invariants``. A test cites by number (I-5, K9, row 3) in its
docstring, in a comment inside of it or directly above it; `I-1 to I-3` and
`rows 1, 3 and 4` cite all of them.

An invariant names the methods that have to show it. Of many tests it is seen which they
are: a state machine of Hypothesis is S, a test with `@given` is P, what lies in
tests/simulation is D. Any other says so behind the number: `I-17 (M)`, `I-3 (P, F)`.

``tests/docs/uncited_invariants.txt`` names what waits for a test: `K3`, or `I-1/D` for
a method that is not yet there. It only ever gets shorter.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import click

from tools.clauses import Citation, tests_of
from tools.invariant_list import CHECKS, FAULTS, INVARIANTS, Invariant, Method
from tools.requirements import modules_of_tests, prose_of

ROOT: Final = Path(__file__).parent.parent
PATH: Final = ROOT / "docs" / "invariants.md"
"""The document."""

UNCITED: Final = ROOT / "tests" / "docs" / "uncited_invariants.txt"
"""What waits for a test."""

_SIMULATION: Final = "tests/simulation/"

_SINGLE: Final = re.compile(
    r"\b(?P<kind>I-|K)(?P<first>\d{1,2})"
    r"(?: to (?P=kind)(?P<last>\d{1,2}))?"
    r"(?: \((?P<methods>[PSDMF](?:, [PSDMF])*)\))?"
)
_ROWS: Final = re.compile(r"\b[Rr]ows? (?P<all>\d{1,2}(?:(?:, | and | to )\d{1,2})*)")
_SPAN: Final = re.compile(r"(?P<first>\d+)(?: to (?P<last>\d+))?")


@dataclass(frozen=True, slots=True, order=True)
class Cited:
    """A number in a text, and the methods that stand behind it."""

    number: str
    """I-5, K9, row 3."""
    methods: frozenset[Method] = frozenset()
    """Empty when none is said."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A test that shows something."""

    where: Citation
    """Its place."""
    methods: frozenset[Method]
    """By what."""


def cited_in(text: str) -> set[Cited]:
    """Return what a text cites; unknown numbers are no citations."""
    text = " ".join(text.split())
    found = set()
    for match in _SINGLE.finditer(text):
        said = frozenset(
            Method(one) for one in re.findall("[A-Z]", match["methods"] or "")
        )
        found |= {Cited(f"{match['kind']}{n}", said) for n in _span(match)}
    for rows in _ROWS.finditer(text):
        for match in _SPAN.finditer(rows["all"]):
            found |= {Cited(f"row {number}") for number in _span(match)}
    return {one for one in found if one.number in _KNOWN}


_KNOWN: Final = frozenset((*INVARIANTS, *CHECKS, *FAULTS))


def _span(match: re.Match[str]) -> range:
    return range(int(match["first"]), int(match["last"] or match["first"]) + 1)


def shown_in(source: str, file: str) -> list[tuple[str, Shown]]:
    """Return (number, test) for each citation in a module of tests."""
    prose, drawn = prose_of(source), _drawn(source)
    found = []
    for name, first, last, is_class in tests_of(source):
        seen = set()
        if is_class:
            seen.add(Method.STATEFUL)
        if any(first <= line <= last for line in drawn):
            seen.add(Method.PROPERTY)
        if file.startswith(_SIMULATION):
            seen.add(Method.SIMULATION)
        found += [
            (one.number, Shown(Citation(file, name, is_class), one.methods | seen))
            for line, text in prose
            if first <= line <= last
            for one in cited_in(text)
        ]
    return found


def _drawn(source: str) -> list[int]:
    """Return the lines of functions whose arguments are made by chance."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(ast.unparse(one).startswith("given(") for one in node.decorator_list)
    ]


@cache
def tests() -> Mapping[str, Mapping[Citation, frozenset[Method]]]:
    """Return the tests of each number, and by which methods they show it."""
    found: dict[str, dict[Citation, frozenset[Method]]] = defaultdict(dict)
    for file, text in modules_of_tests():
        for number, shown in shown_in(text, file):
            before = found[number].get(shown.where, frozenset())
            found[number][shown.where] = before | shown.methods
    return found


def wanted() -> list[str]:
    """Return all that needs a test: `K3`, `row 3`, `I-1/D`."""
    return [
        *(f"{number}/{one}" for number, it in INVARIANTS.items() for one in it.methods),
        *CHECKS,
        *FAULTS,
    ]


def shown() -> set[str]:
    """Return what of it has one."""
    found = set()
    for number, places in tests().items():
        found.add(number)
        for methods in places.values():
            found |= {f"{number}/{one}" for one in methods}
    return found


def uncited() -> list[str]:
    """Return what is said to wait for a test."""
    return UNCITED.read_text(encoding="utf-8").splitlines()


def generate() -> str:
    """Return the text of docs/invariants.md."""
    places = tests()
    return "\n".join(
        (
            "# Invariants, checks and faults, and their tests",
            "",
            "Made by `python -m tools.invariants` from what tests cite. Do not edit; a",
            "test compares. What has no test yet is in",
            "`tests/docs/uncited_invariants.txt`.",
            "",
            "## Invariants",
            "",
            "Methods: **P** property, **S** sequences with power cuts, **D**",
            "deterministic simulation, **M** every reachable state, **F** faults",
            "injected into what really runs. M is this project's own breadth-first",
            "exploration of the car's mind (`tests/gateway/core/exploration.py`): it",
            "steps the production code, of which a model elsewhere would be a copy.",
            "",
            "| | must hold | by | tests |",
            "|---|---|---|---|",
            *(_invariant(number, it, places) for number, it in INVARIANTS.items()),
            "",
            "## Checks of security",
            "",
            "| | | tests |",
            "|---|---|---|",
            *(_plain(number, words, places) for number, words in CHECKS.items()),
            "",
            "## Faults",
            "",
            "| | fault | tests |",
            "|---|---|---|",
            *(_plain(number, words, places) for number, words in FAULTS.items()),
            "",
        )
    )


_Places = Mapping[str, Mapping[Citation, frozenset[Method]]]


def _invariant(number: str, invariant: Invariant, places: _Places) -> str:
    cells = [
        f"{where}{_mark(methods)}"
        for where, methods in sorted(places.get(number, {}).items())
    ]
    by = ", ".join(invariant.methods)
    return f"| {number} | {invariant.words} | {by} | {'<br>'.join(cells) or '-'} |"


def _mark(methods: frozenset[Method]) -> str:
    return f" ({', '.join(sorted(methods))})" if methods else ""


def _plain(number: str, words: str, places: _Places) -> str:
    cell = "<br>".join(map(str, sorted(places.get(number, {})))) or "-"
    return f"| {number} | {words} | {cell} |"


def missing() -> Iterator[str]:
    """Yield what has no test."""
    there = shown()
    return (one for one in wanted() if one not in there)


@click.command()
def main() -> None:
    """Write docs/invariants.md; take out of the waiting list what is cited now."""
    PATH.write_text(generate(), encoding="utf-8")
    there = shown()
    left = [one for one in uncited() if one not in there]
    UNCITED.write_text("".join(f"{one}\n" for one in left), encoding="utf-8")
    click.echo(f"wrote docs/{PATH.name}; {len(left)} wait for a test")


if __name__ == "__main__":
    main()
