"""Every document: its links lead somewhere, and the tests that it names exist."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

from tools.cli import cli

ROOT = Path(__file__).parents[2]

_FENCED = re.compile(r"^```.*?^```$", flags=re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", flags=re.MULTILINE)
_COMMAND = re.compile(r"(?:^|`|bin/)freefloat ((?:[^`\n#|])*)", flags=re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w./]+\.py)::(\w+)`")


def documents() -> list[Path]:
    folders = [ROOT, ROOT / "requirements"]
    found = [path for folder in folders for path in folder.glob("*.md")]
    for folder in ("docs", "examples"):
        found.extend((ROOT / folder).rglob("*.md"))
    return sorted(found)


def prose(path: Path) -> str:
    return _FENCED.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(prose(path)):
        text = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        found.add(f"{text}-{seen[text]}" if seen[text] else text)
        seen[text] += 1
    return found


@cache
def functions_of(path: Path) -> set[str]:
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, functions)}


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.name)
def test_every_relative_link_resolves(path: Path) -> None:
    dead = []
    for target in _LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _hash, anchor = unquote(target).partition("#")
        there = (path.parent / name).resolve() if name else path
        if not there.exists() or (
            anchor and there.suffix == ".md" and anchor not in anchors(there)
        ):
            dead.append(target)

    assert dead == []


def test_every_test_that_a_document_names_exists() -> None:
    missing, named = [], 0
    for path in documents():
        for file, name in _TEST.findall(path.read_text(encoding="utf-8")):
            named += 1
            test = ROOT / file
            if not test.is_file() or name not in functions_of(test):
                missing.append(f"{path.name}: {file}::{name}")

    assert missing == []
    assert named > 100


def test_every_attack_of_the_security_document_names_a_test() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    tables = text[text.index("\n## 2.") : text.index("\n## 3.")]
    rows = re.findall(
        r"^\| (?!(?:it|attack|check|invariant) \||---)(.*) \|$",
        tables,
        flags=re.MULTILINE,
    )
    rows = [row for row in rows if not set(row) <= set("-| ")]

    assert len(rows) > 30
    assert [row for row in rows if not _TEST.search(row)] == []


def span(letter: str, *ranges: tuple[int, int]) -> list[str]:
    return [f"{letter}{n}" for first, last in ranges for n in range(first, last + 1)]


MUST_HOLD = [
    *span("K", (1, 2), (4, 14)),
    *span("I-", (5, 11), (20, 24), (27, 27)),
]
"""What issue 3 wants shown by a named test each (reliability.md, sections 2 and 4)."""


def test_every_check_and_invariant_that_must_hold_names_a_test() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ((?:K|I-)\d+) \| (.*) \|$", text, flags=re.MULTILINE)
    shown = {number: _TEST.findall(row) for number, row in rows}

    assert len(shown) == len(rows)
    assert [number for number in MUST_HOLD if not shown.get(number)] == []


ATTACK_TESTS = [
    "replay_returns_cached_result_no_second_actuation",
    "replay_after_flash_loss",
    "holdback_then_newer",
    "consecutive_old_frames_never_accepted",
    "unlock_after_tunnel",
    "unlock_after_suspend",
    "reordered_lock_unlock",
    "every_class_at_every_receiver",
    "cross_vehicle",
    "staging_to_prod",
    "suite_downgrade",
    "unsigned_result",
    "forged_busy_single_token",
    "revoked_key_inflight",
    "trust_rollback",
    "trust_freeze",
    "14_small_order_keys",
    "retained_command",
    "stale_will",
    "wall_clock_plus_minus_10y",
    "flood_bounded_cpu",
    "tap_cannot_enroll",
    "fork_detected",
]
"""The names in protocol-design.md, section 4."""


def test_every_attack_of_the_design_has_the_test_of_its_name() -> None:
    text = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    named = [name for _, name in _TEST.findall(text)]

    missing = [
        attack
        for attack in ATTACK_TESTS
        if not any(name.startswith(f"test_{attack}") for name in named)
    ]
    assert missing == []


def test_the_index_lists_every_decision() -> None:
    folder = ROOT / "docs/adr"
    index = (folder / "README.md").read_text(encoding="utf-8")

    decisions = {path.name for path in folder.glob("[0-9]*.md")}
    assert decisions == set(re.findall(r"\]\((\d{4}-[a-z-]+\.md)\)", index))
    for name in decisions:
        title = (folder / name).read_text(encoding="utf-8").splitlines()[0]
        assert f"[{title.removeprefix('# ')}]({name})" in index


def unknown_word(words: list[str]) -> str | None:
    """Return the first subcommand or option that the command line does not know."""
    command: click.Command = cli
    context = click.Context(cli)
    known = {"--help", "--version"}
    for word in words:
        known |= {name for one in command.params for name in one.opts}
        if word.startswith("--"):
            if word.partition("=")[0] not in known:
                return word
        elif isinstance(command, click.Group) and re.fullmatch(r"[a-z-]+", word):
            found = command.get_command(context, word)
            if found is None and not command.params:
                return word
            command = found or command
    return None


def test_every_command_that_a_document_shows_exists() -> None:
    unknown, shown = [], 0
    for path in documents():
        text = re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))
        for line in _COMMAND.findall(text):
            shown += 1
            # What stands behind two spaces is said about the command.
            word = unknown_word(re.split(r" {2,}", line)[0].split())
            if word is not None:
                unknown.append(f"{path.name}: freefloat {line}: {word}")

    assert unknown == []
    assert shown > 30
    assert unknown_word(["bridge", "run", "--colour"]) == "--colour"
    assert unknown_word(["certs", "prolong"]) == "prolong"


@pytest.mark.parametrize("unit", sorted((ROOT / "deploy/systemd").glob("*.service")))
def test_a_unit_starts_a_command_that_exists(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    [start] = re.findall(r"^ExecStart=(.*)$", text, flags=re.MULTILINE)
    # Behind a log that a shell pipes into it, or by itself.
    before, program, words = start.strip("'").rpartition("/opt/freefloat/bin/freefloat")
    assert program
    assert not before or before.startswith("/bin/sh -c '")
    assert unknown_word(words.split()) is None
    user = re.findall(r"^User=(.*)$", text, flags=re.MULTILINE)
    assert user
    assert user != ["root"]
