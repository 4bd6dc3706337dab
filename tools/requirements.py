"""Write docs/requirements.md, requirement to code to test.

Run ``python -m tools.requirements``. A test cites a requirement by its number (C21) in
its docstring, in a comment inside of it or directly above it; code cites it in any
comment or docstring. `C19 to C22` cites all four. A number in a string shows nothing.
"""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import click

from tools.clauses import Citation, tests_of
from tools.requirement_list import REQUIREMENTS

ROOT: Final = Path(__file__).parent.parent
PATH: Final = ROOT / "docs" / "requirements.md"
"""The document."""

UNCITED: Final = ROOT / "tests" / "docs" / "uncited_requirements.txt"
"""Requirements of the car that wait for a test; only ever gets shorter."""

CODE: Final = ("gateway", "protocol", "transport", "keystore", "firmware_emulator")
"""What drives in a car, and what stands in for one."""

_OF_DOCUMENTS: Final = "tests/docs/"
"""These speak of numbers and show nothing of the car."""

_NUMBER: Final = r"[CHFS]\d{1,2}"
_CITED: Final = re.compile(rf"\b({_NUMBER})(?: to ({_NUMBER}))?\b")


def numbers_in(text: str) -> set[str]:
    """Return the requirements that a text cites."""
    found = set()
    for first, last in _CITED.findall(text):
        low, high = int(first[1:]), int((last or first)[1:])
        if not last or last[0] == first[0]:
            found |= {f"{first[0]}{number}" for number in range(low, high + 1)}
        else:
            found |= {first, last}
    return found & set(REQUIREMENTS)


def prose_of(source: str) -> list[tuple[int, str]]:
    """Return line and text of each comment and docstring of a module."""
    found = [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    ]
    for node in ast.walk(ast.parse(source)):
        # A docstring, or the string below an attribute that documents it.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            text = node.value.value
            if isinstance(text, str):
                found.append((node.lineno, text))
    return found


def cited_by_tests(source: str, file: str) -> list[tuple[str, Citation]]:
    """Return (requirement, where) for each citation in a module of tests."""
    prose = prose_of(source)
    return [
        (number, Citation(file, name, is_class))
        for name, first, last, is_class in tests_of(source)
        for line, text in prose
        if first <= line <= last
        for number in numbers_in(text)
    ]


@cache
def tests() -> Mapping[str, list[Citation]]:
    """Return the tests of each requirement."""
    found: dict[str, set[Citation]] = defaultdict(set)
    for file, text in modules_of_tests():
        for number, where in cited_by_tests(text, file):
            found[number].add(where)
    return {number: sorted(places) for number, places in found.items()}


@cache
def code() -> Mapping[str, list[str]]:
    """Return the files that say that they do something for a requirement."""
    found: dict[str, set[str]] = defaultdict(set)
    for file, text in _modules(CODE):
        for _, prose in prose_of(text):
            for number in numbers_in(prose):
                found[number].add(file)
    return {number: sorted(files) for number, files in found.items()}


def modules_of_tests() -> Iterator[tuple[str, str]]:
    """Yield name and text of each module whose tests can show something."""
    for file, text in _modules(("tests",)):
        if not file.startswith(_OF_DOCUMENTS):
            yield file, text


def _modules(roots: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for root in roots:
        for path in sorted((ROOT / root).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def must_be_cited() -> list[str]:
    """Return the requirements that each need a test: what the car has to do."""
    return [number for number in REQUIREMENTS if number[0] in "CHS"]


def uncited() -> list[str]:
    """Return the requirements that are said to wait for a test."""
    return UNCITED.read_text(encoding="utf-8").split()


def generate() -> str:
    """Return the text of docs/requirements.md."""
    shown, done = tests(), code()
    return "\n".join(
        (
            "# Requirements, code and tests",
            "",
            "Made by `python -m tools.requirements` from what code and tests cite. Do",
            "not edit; a test compares. C is what the car does, H what was decided",
            "where the sources are silent, F a sequence of messages, S security.",
            "",
            "| requirement | | code | tests |",
            "|---|---|---|---|",
            *(
                _row(number, words, done.get(number, []), shown.get(number, []))
                for number, words in REQUIREMENTS.items()
            ),
            "",
        )
    )


def _row(number: str, words: str, files: list[str], places: list[Citation]) -> str:
    code_cell = "<br>".join(f"`{file}`" for file in files) or "-"
    tests_cell = "<br>".join(map(str, places)) or "-"
    return f"| {number} | {words} | {code_cell} | {tests_cell} |"


@click.command()
def main() -> None:
    """Write docs/requirements.md; take out of the waiting list what is cited now."""
    PATH.write_text(generate(), encoding="utf-8")
    shown = tests()
    left = [number for number in uncited() if number not in shown]
    UNCITED.write_text("".join(f"{number}\n" for number in left), encoding="utf-8")
    click.echo(f"wrote docs/{PATH.name}; {len(left)} requirements wait for a test")


if __name__ == "__main__":
    main()
