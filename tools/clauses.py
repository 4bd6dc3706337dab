"""Write docs/clauses.md, which test shows which clause: ``python -m tools.clauses``.

The clauses are those of docs/protocol.md. A test cites one by its id inside of the test
function or class, in its docstring, or in a comment directly above it; a mention
anywhere else shows nothing and does not count. A conformance check counts as a test.

``tests/docs/uncited.txt`` names clauses that no test cites yet. It only ever gets
shorter: this program takes out what has become cited and adds nothing.
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

ROOT: Final = Path(__file__).parent.parent
PATH: Final = ROOT / "docs" / "clauses.md"
"""The document."""
UNCITED: Final = ROOT / "tests" / "docs" / "uncited.txt"
"""Clauses that wait for a test."""

CLAUSE_ID: Final = re.compile(r"\bFF-[A-Z]{3,4}-\d{2}\b")
_CLAUSE: Final = re.compile(r"^(?:- )?\*\*(FF-[A-Z]{3,4}-\d{2})\*\* (.+)$")
_CODE: Final = re.compile(r"`[^`]*`")
_REQUIREMENT: Final = re.compile(r"\b(?:MUST|SHALL)\b")


@dataclass(frozen=True, slots=True)
class Clause:
    """One requirement."""

    id: str
    """``FF-AUTH-07``."""
    text: str
    """What is required."""


@dataclass(frozen=True, slots=True, order=True)
class Citation:
    """Where a clause is shown."""

    file: str
    """Relative to the root."""
    name: str
    """Function, ``Class::method``, or class."""
    is_class: bool
    """Whether `name` is a class: a state machine, whose rules show it together."""

    def __str__(self) -> str:
        if self.is_class:
            return f"`{self.file}`, class `{self.name}`"
        return f"`{self.file}::{self.name.rpartition('::')[2]}`"


def documents() -> list[Path]:
    """Return the documents that require something."""
    return [ROOT / "docs/protocol.md", *sorted((ROOT / "docs/protocol").glob("*.md"))]


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Return number and text of each line outside of code, inline code taken out."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, _CODE.sub("", line)


def clauses_of(text: str) -> list[Clause]:
    """Return the clauses of a document, in its order."""
    found = (_CLAUSE.match(line) for line in text.splitlines())
    return [Clause(match[1], match[2]) for match in found if match]


def faults_of(text: str) -> list[str]:
    """Return what is wrong with a document's clauses, one sentence for each line."""
    faults, seen = [], set()
    for number, line in prose(text):
        required = len(_REQUIREMENT.findall(line))
        clause = _CLAUSE.match(line)
        if required and not clause:
            faults.append(f"line {number} requires something without a clause id")
        elif clause and required != 1:
            faults.append(f"line {number}: {clause[1]} has {required} requirements")
        if clause and clause[1] in seen:
            faults.append(f"line {number}: {clause[1]} stands twice")
        if clause:
            seen.add(clause[1])
    return faults


def citations_of(source: str, file: str, *, any_function: bool = False) -> list[
    tuple[str, Citation]
]:  # fmt: skip
    """Return (clause id, where) for each citation in a module.

    Args:
        source: its text.
        file: its name, for the citations.
        any_function: whether each function is a test, as in the conformance kit.
    """
    lines = source.splitlines()
    found = []
    for name, node, is_class in _tests(ast.parse(source), any_function=any_function):
        citation = Citation(file, name, is_class)
        text = "\n".join(lines[_first_line(node, lines) : node.end_lineno])
        found += [(clause, citation) for clause in set(CLAUSE_ID.findall(text))]
    return found


_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Test = tuple[str, _Function | ast.ClassDef, bool]


def _tests(tree: ast.Module, *, any_function: bool) -> Iterator[_Test]:
    for node in tree.body:
        if isinstance(node, _Function):
            if any_function or node.name.startswith("test_"):
                yield node.name, node, False
        elif isinstance(node, ast.ClassDef):
            if _is_machine(node):
                yield node.name, node, True
            elif any_function or node.name.startswith("Test"):
                for inner in node.body:
                    if isinstance(inner, _Function) and (
                        any_function or inner.name.startswith("test_")
                    ):
                        yield f"{node.name}::{inner.name}", inner, False


def tests_of(source: str) -> Iterator[tuple[str, int, int, bool]]:
    """Return name, first and last line of each test, and whether it is a class."""
    lines = source.splitlines()
    for name, node, is_class in _tests(ast.parse(source), any_function=False):
        yield name, _first_line(node, lines) + 1, node.end_lineno or 0, is_class


def _is_machine(node: ast.ClassDef) -> bool:
    """Return whether this is a state machine of Hypothesis."""
    return any(ast.unparse(base).endswith("StateMachine") for base in node.bases)


def _first_line(node: _Function | ast.ClassDef, lines: list[str]) -> int:
    """Return the index of a definition's first line, its attached comment included."""
    first = min([node.lineno, *(one.lineno for one in node.decorator_list)]) - 1
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return first


def sources() -> Iterator[tuple[Path, bool]]:
    """Return each module that can cite, and whether each function in it counts."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        yield path, False
    for path in sorted((ROOT / "tools" / "conformance").rglob("*.py")):
        yield path, True


@cache
def citations() -> Mapping[str, list[Citation]]:
    """Return where each clause is cited."""
    found: dict[str, set[Citation]] = defaultdict(set)
    for path, any_function in sources():
        file = path.relative_to(ROOT).as_posix()
        text = path.read_text(encoding="utf-8")
        for clause, where in citations_of(text, file, any_function=any_function):
            found[clause].add(where)
    return {clause: sorted(places) for clause, places in found.items()}


def all_clauses() -> list[Clause]:
    """Return every clause of the specification."""
    return [
        clause
        for path in documents()
        for clause in clauses_of(path.read_text(encoding="utf-8"))
    ]


def uncited() -> list[str]:
    """Return the clauses that are said to wait for a test."""
    return UNCITED.read_text(encoding="utf-8").split() if UNCITED.exists() else []


def generate() -> str:
    """Return the text of docs/clauses.md."""
    shown = citations()
    clauses = all_clauses()
    return "\n".join(
        (
            "# Clauses and their tests",
            "",
            "Made by `python -m tools.clauses` from [protocol.md](protocol.md) and the",
            "tests that cite it. Do not edit; a test compares.",
            "",
            f"{len(clauses)} clauses.",
            "",
            "| clause | shown by |",
            "|---|---|",
            *(_row(clause, shown.get(clause.id, [])) for clause in clauses),
            "",
        )
    )


def _row(clause: Clause, places: list[Citation]) -> str:
    return f"| {clause.id} | {'<br>'.join(map(str, places)) or '-'} |"


@click.command()
def main() -> None:
    """Write docs/clauses.md and take out of uncited.txt what has become cited."""
    PATH.write_text(generate(), encoding="utf-8")
    shown = citations()
    left = [clause for clause in uncited() if clause not in shown]
    UNCITED.write_text("".join(f"{clause}\n" for clause in left), encoding="utf-8")
    click.echo(f"wrote docs/{PATH.name}; {len(left)} clauses wait for a test")


if __name__ == "__main__":
    main()
