"""How every command of `freefloat` prints.

Rule 1: colour adds, it never carries: every line reads the same without it.
Rule 2: with ``--json`` stdout is JSON and nothing else, one document, or one document a
line where a command streams; what is meant for a person goes to stderr.
Rule 3: nothing here prints a key.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click

C = TypeVar("C", bound=Callable[..., Any])

LABEL_WIDTH: Final = 12
"""Columns of the label in front of a fact, at least."""


def examples(*lines: str) -> str:
    r"""Return worked examples for a command's ``epilog``, which keeps its line breaks.

    Each line is a command, or a comment that begins with ``#``. click rewraps epilogs
    unless a paragraph begins with ``\b``.
    """
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


json_option: Final = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
)
"""The option of that name; the command's parameter is ``as_json: bool``."""


def print_json(document: object) -> None:
    """Print one JSON document on one line of stdout."""
    click.echo(json.dumps(document, sort_keys=False, default=str))


def heading(text: str) -> None:
    """Print a line that begins a part of the output."""
    click.echo(click.style(text, bold=True))


def step(text: str) -> None:
    """Print a line about something that was done."""
    click.echo(f"{click.style('ok', fg='green')}    {text}")


def warning(text: str) -> None:
    """Print a line about something that needs attention, on stderr."""
    click.echo(f"{click.style('note', fg='yellow')}  {text}", err=True)


def facts(pairs: Mapping[str, str]) -> None:
    """Print labelled facts, aligned."""
    width = max([LABEL_WIDTH, *(len(label) + 2 for label in pairs)])
    for label, text in pairs.items():
        click.echo(f"  {click.style(label.ljust(width), dim=True)}{text}")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under a header, columns as wide as their widest cell."""
    cells = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for number, row in enumerate(cells):
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        line = ("  " + "  ".join(padded)).rstrip()
        click.echo(click.style(line, dim=True) if number == 0 else line)


def wants_colour() -> bool | None:
    """Return what click should do about colour: False never, None if a terminal.

    https://no-color.org: a set and non-empty NO_COLOR turns colour off.
    """
    return False if os.environ.get("NO_COLOR") else None


def print_error(sentence: str, advice: str = "") -> None:
    """Print what is wrong and, below it, what to do, on stderr."""
    colour = wants_colour()
    label = click.style("error:", fg="red", bold=True)
    click.echo(f"{label} {sentence}", err=True, color=colour)
    for line in advice.splitlines():
        click.echo(f"  {line}", err=True, color=colour)


def flush() -> None:
    """Write out what is buffered, so that a closed pipe shows here and not at exit."""
    sys.stdout.flush()
    sys.stderr.flush()
