"""The command `freefloat` as a person meets it, run as a real process."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.tools.command_line import PYTHON, SOURCES, freefloat, require_clear_failure
from tools.cli import SUBCOMMANDS, LazyGroup, Subcommand, run
from tools.errors import EXIT_DEFECT, OperatorError, explain

LIGHT: Final = {"tools", "click"}
"""Packages outside the standard library that the help may import."""

HEAVY_STANDARD: Final = {
    "asyncio",
    "ssl",
    "socket",
    "sqlite3",
    "http",
    "urllib.request",
}
"""Parts of the standard library that cost time and that no help needs."""


# --- help ---------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], ["demp"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import json, sys\n"
        "from tools.cli import run\n"
        f"run({arguments!r})\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    names = set(json.loads(done.stderr.splitlines()[-1]))
    ours = {name for name in names if name.startswith("tools.")}
    outside = {
        name.partition(".")[0]
        for name in names
        if not name.startswith(("_", "encodings"))
        and name.partition(".")[0] not in sys.stdlib_module_names
    }
    # Start-up files of the environment (.pth) are not ours to judge.
    outside -= {"sitecustomize", "usercustomize", "distutils-precedence"}
    assert ours == {"tools.cli", "tools.console", "tools.errors"}
    assert outside <= LIGHT
    if arguments != ["--version"]:  # importlib.metadata reads e-mail headers
        assert names.isdisjoint(HEAVY_STANDARD)


def test_help_names_every_subcommand_with_a_line_each() -> None:
    done = freefloat("--help")

    assert done.returncode == 0
    for name, entry in SUBCOMMANDS.items():
        assert any(
            line.split() == [name, *entry.summary.split()]
            for line in done.stdout.splitlines()
        ), name
    assert "freefloat certs init fleet" in done.stdout


def test_without_arguments_the_help_is_shown() -> None:
    assert freefloat().stdout == freefloat("--help").stdout


def test_worked_examples_keep_their_line_breaks() -> None:
    done = freefloat("certs", "issue", "--help")

    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "freefloat certs issue fleet --count 25" in lines


def test_the_example_id_of_the_help_is_a_real_one(tmp_path: Path) -> None:
    shown = freefloat("certs", "issue", "--help").stdout
    words = shown[shown.index("--vehicle-id 2") :].split()
    freefloat("certs", "init", tmp_path / "fleet")

    done = freefloat("certs", "issue", tmp_path / "fleet", *words[:2])

    assert done.returncode == 0, done.stderr


def test_the_version_is_shown() -> None:
    done = freefloat("--version")

    assert done.returncode == 0
    assert done.stdout.startswith("freefloat")


@pytest.mark.parametrize("name", list(SUBCOMMANDS))
def test_every_subcommand_explains_itself_with_examples(name: str) -> None:
    done = freefloat(name, "--help")

    if f"command '{name}' is not part of this installation" in done.stderr:
        pytest.fail(f"{name} is in the table of subcommands and missing")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Usage: freefloat {name}")
    assert "Examples:" in done.stdout


# --- mistakes -----------------------------------------------------------------------


def test_a_mistyped_subcommand_gets_a_suggestion() -> None:
    require_clear_failure(freefloat("cert"), "Did you mean 'certs'?", code=2)


def test_an_unknown_subcommand_points_to_the_help() -> None:
    require_clear_failure(freefloat("xyzzy"), "freefloat --help", code=2)


@pytest.mark.parametrize(
    "arguments", [["--nope"], ["certs", "xyzzy"], ["certs", "issue", "--count", "many"]]
)
def test_a_wrong_option_points_to_the_right_help(arguments: list[str]) -> None:
    require_clear_failure(freefloat(*arguments), "--help'", code=2)


def test_a_subcommand_that_is_not_there_is_explained(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = {"later": Subcommand("tools.later:later", "Comes later.")}
    monkeypatch.setattr("tools.cli.cli", LazyGroup(table, name="freefloat"))

    code = run(["later"])

    assert code == 1
    assert "is not part of this installation" in capsys.readouterr().err


def test_a_missing_optional_part_names_the_extra(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "ff_needs_more.py").write_text("import surely_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    table = {"web": Subcommand("ff_needs_more:web", "Serves.", extra="bridge")}
    monkeypatch.setattr("tools.cli.cli", LazyGroup(table, name="freefloat"))

    code = run(["web"])

    assert code == 1
    said = capsys.readouterr().err
    assert "'web' needs surely_not_installed" in said
    assert "pip install 'freefloat[bridge]'" in said


def test_a_defect_keeps_its_traceback_and_says_whose_fault_it_is(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "ff_broken.py").write_text("import tools.does_not_exist\n")
    monkeypatch.syspath_prepend(tmp_path)
    table = {"web": Subcommand("ff_broken:web", "Serves.", extra="bridge")}
    monkeypatch.setattr("tools.cli.cli", LazyGroup(table, name="freefloat"))

    code = run(["web"])

    said = capsys.readouterr().err
    assert code == EXIT_DEFECT
    assert "Traceback" in said
    assert "this is a defect of freefloat" in said


class PackageError(Exception):
    """As the packages below raise them: known by its two answers, not by its class."""

    retryable = True
    may_have_taken_effect = False


class UncertainError(PackageError):
    may_have_taken_effect = True


class AdvisingError(PackageError):
    advice = "start the broker"


@pytest.mark.parametrize(
    ("error", "sentence", "advice"),
    [
        (OperatorError("a is wrong", "do b"), "a is wrong", "do b"),
        (PackageError("link is down"), "link is down", "try again"),
        (UncertainError("no answer"), "no answer", "may have taken effect"),
        (AdvisingError("broker is down"), "broker is down", "start the broker"),
        (
            PermissionError(13, "Permission denied", "fleet"),
            "fleet: permission denied",
            "owner and mode",
        ),
        (OSError(98, "Address already in use"), "already in use", "another port"),
        (OSError(28, "No space left on device", "x"), "no space left", "free some"),
    ],
)
def test_known_errors_become_a_sentence_and_advice(
    error: Exception, sentence: str, advice: str
) -> None:
    explanation = explain(error)

    assert explanation is not None
    assert sentence in explanation.sentence
    assert advice in explanation.advice
    assert explanation.exit_code == 1


def test_an_unknown_error_is_not_explained_away() -> None:
    assert explain(ValueError("?")) is None


def test_ctrl_c_ends_with_one_line(tmp_path: Path) -> None:
    program = (
        "import signal, sys\n"
        "import click, tools.cli\n"
        "@click.command()\n"
        "def wait():\n"
        "    print('ready', flush=True)\n"
        "    signal.pause()\n"
        "sys.modules['ff_wait'] = type(sys)('ff_wait')\n"
        "sys.modules['ff_wait'].wait = wait\n"
        "table = {'wait': tools.cli.Subcommand('ff_wait:wait', 'Waits.')}\n"
        "tools.cli.cli.table = table\n"
        "sys.argv = ['freefloat', 'wait']\n"
        "tools.cli.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=10)

    assert process.returncode == 130
    assert said.split() == ["error:", "interrupted"]


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    freefloat("certs", "init", tmp_path / "fleet")
    read_end, write_end = os.pipe()
    os.close(read_end)

    done = subprocess.run(
        [*PYTHON, "certs", "show", str(tmp_path / "fleet"), "--json"],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    os.close(write_end)

    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.parametrize("arguments", [["--help"], ["decode", "4646"]])
def test_a_full_disk_is_said_once(arguments: list[str]) -> None:
    with Path("/dev/full").open("w", encoding="ascii") as full:
        done = subprocess.run(
            [*PYTHON, *arguments],
            env={**os.environ, "PYTHONPATH": str(SOURCES)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: no space left on device",
        "  free some space on that disk, then try again",
    ]


@pytest.mark.parametrize("redirection", ["<&-", ">&-", ">&- 2>&- <&-"])
def test_a_process_without_standard_streams_is_no_defect(redirection: str) -> None:
    # As a service manager or `>&-` in a script starts it.
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {redirection}', "-", *PYTHON, "decode"],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 1
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("group", ["certs", "emulate", "send"])
def test_a_group_without_a_command_shows_its_help(group: str) -> None:
    done = freefloat(group)

    assert done.returncode == 2
    assert done.stderr.startswith(f"Usage: freefloat {group} ")
    assert "error:" not in done.stderr
