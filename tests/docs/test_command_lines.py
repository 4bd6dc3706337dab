"""Every command line that the help or a document shows is one that the program takes.

Parsed and not run: words, their order, options and values. What it does with them other
tests show.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from tests.docs.test_markdown import documents
from tools.cli import cli

_BLOCK: Final = re.compile(
    r"^[ ]*```(?:sh|bash)?\n(.*?)^[ ]*```$", flags=re.MULTILINE | re.DOTALL
)
_SPAN: Final = re.compile(r"`freefloat ([^`\n]+)`")
_END: Final = frozenset({"|", "&&", ";", ">", "2>", "<"})
"""Words of a shell behind which no word is the program's."""

_IS_PART: Final = ("MissingParameter", "BadOptionUsage", "NoArgsIsHelpError")
"""In prose a command may be named without all that it needs."""


def words_of(line: str) -> list[str] | None:
    """Return what the shell gives to the last `freefloat` of a line, or None.

    What stands behind two spaces is said about the command, and COMMAND is none.
    """
    try:
        words = shlex.split(re.split(r" {2,}", line.strip())[0], comments=True)
    except ValueError:  # a quote that a later line closes
        return None
    starts = [
        number
        for number, word in enumerate(words)
        if word == "freefloat" or word.endswith("/bin/freefloat")
    ]
    if not starts or words[starts[-1] + 1 :][:1] == ["COMMAND"]:
        return None
    words = words[starts[-1] + 1 :]
    ends = [number for number, word in enumerate(words) if word.rstrip(")") in _END]
    return words[: ends[0]] if ends else words


def fault_of(words: list[str]) -> str | None:
    """Return what the command line says against these words, or None."""
    command: click.Command = cli
    context: click.Context | None = None
    name: str | None = "freefloat"
    try:
        while True:
            context = command.make_context(name, list(words), parent=context)
            if not isinstance(command, click.Group):
                return None
            name, found, words = command.resolve_command(
                context, [*context._protected_args, *context.args]
            )
            assert found is not None
            command = found
    except click.exceptions.Exit:  # --help
        return None
    except click.ClickException as error:
        if isinstance(error, click.BadParameter) and any("…" in word for word in words):
            return None  # an id that is cut short
        return f"{type(error).__name__}: {error.format_message()}"


def commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found)


def shown_by_help() -> list[list[str]]:
    found = []
    for command in commands(cli):
        text = re.sub(r"\\\n\s*", " ", command.epilog or "")
        found += [words for line in text.splitlines() if (words := words_of(line))]
    return found


@pytest.fixture(autouse=True)
def _files_need_not_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_it_is(_self: object, value: str, *_more: object) -> str:
        return value

    monkeypatch.setattr(click.Path, "convert", as_it_is)
    monkeypatch.setattr(click.File, "convert", as_it_is)


def test_every_worked_example_of_the_help_is_taken_as_it_stands() -> None:
    shown = shown_by_help()

    faults = {" ".join(words): fault_of(words) for words in shown}
    assert {line: fault for line, fault in faults.items() if fault} == {}
    assert len(shown) > 100


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_command_line_of_a_document_is_taken_as_it_stands(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    blocks = "".join(_BLOCK.findall(text)).replace("\\\n", " ")
    lines = [words for line in blocks.splitlines() if (words := words_of(line))]
    faults = {" ".join(words): fault_of(words) for words in lines if len(words) > 1}
    for span in _SPAN.findall(text):
        # Stand for a number, or for a hex id, which a number may be.
        words = words_of(re.sub(r"\b(?:ID|N)\b", "7", f"freefloat {span}"))
        fault = fault_of(words) if words else None
        if fault and not fault.startswith(_IS_PART):
            faults[span] = fault
    assert {line: fault for line, fault in faults.items() if fault} == {}


def test_a_wrong_order_of_words_would_be_found() -> None:
    assert fault_of(["send", "set-mode", "AB3X", "park"]) is None
    assert "is not one of" in str(fault_of(["send", "set-mode", "park", "AB3X"]))
    assert "No such option" in str(fault_of(["bridge", "run", "--colour"]))
    assert "Missing argument" in str(fault_of(["send", "lock"]))
