"""The fuzzer itself: its targets hold for their seeds, and a planted fault is found."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import FOUND, NOTHING, UNABLE, main
from tests.fuzz.campaign import ROOT
from tests.fuzz.target import load, names

SHORT_S = 100
"""The fault is found in one to five seconds on an idle machine, and then it ends."""


@pytest.mark.parametrize("name", names())
def test_a_target_holds_for_every_seed_and_for_what_is_none(name: str) -> None:
    # K11, K19, I-4
    target = load(name)
    seeds = list(target.seeds())

    assert 0 < max(len(seed) for seed in seeds) <= target.longest
    for data in (*seeds, b"", b"\1", b"\2\xff", bytes(target.longest)):
        target.check(data)


def test_the_readers_of_strangers_bytes_are_all_there() -> None:
    assert names() == ["board", "evidence", "frames", "ledger", "nmea", "trust"]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.fuzzer
@pytest.mark.timeout(300)
def test_a_planted_fault_is_found_in_a_short_run_and_seen_again(tmp_path: Path) -> None:
    # K11: a fuzzer that cannot fail would show nothing.
    ran = _run("_planted", "--seconds", f"{SHORT_S}", "--work", str(tmp_path))

    assert ran.returncode == FOUND, ran.stdout
    (command,) = [line for line in ran.stdout.splitlines() if "--again" in line]
    assert "IndexError" in ran.stdout
    again = _run(*command.split()[3:])
    assert again.returncode == FOUND
    assert "IndexError" in again.stderr


@pytest.mark.fuzzer
@pytest.mark.timeout(300)
def test_a_run_that_finds_nothing_ends_by_itself_and_says_what_it_did(
    tmp_path: Path,
) -> None:
    ran = _run("nmea", "--seconds", "1", "--work", str(tmp_path))

    assert ran.returncode == NOTHING, ran.stdout
    title, figures = ran.stdout.splitlines()
    assert title.split() == ["target", "executions", "exec/s", "corpus", "MiB", "found"]
    name, executions, *_, found = figures.split()
    assert (name, found) == ("nmea", "0")
    assert int(executions) > 100


def test_an_unknown_target_is_no_success(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flames"]) == UNABLE
    assert "board, evidence, frames" in capsys.readouterr().out


def test_an_input_that_breaks_nothing_is_said_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "crash-0"
    kept.write_bytes(b"$GPGGA")

    assert main(["nmea", "--again", str(kept)]) == NOTHING
    assert "these 6 bytes break nothing" in capsys.readouterr().out
