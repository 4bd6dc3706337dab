"""`freefloat demo` as a user starts it: a process, its output, its exit code."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tools.command_line import running

pytestmark = [pytest.mark.demo, pytest.mark.timeout(180)]


@contextmanager
def running_demo(directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a demonstration whose temporary files lie in `directory`."""
    arguments = ("demo", "--cars", "3", "--pause", "0", *options)
    with running(*arguments, TMPDIR=str(directory)) as process:
        yield process


def wait_for_line(process: subprocess.Popen[str], pattern: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if re.search(pattern, line):
            return line
    raise AssertionError(f"the demonstration never said {pattern!r}")


def children_of(process: subprocess.Popen[str]) -> list[int]:
    listing = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in listing.split()]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_the_demonstration_tells_a_whole_rental_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    # Issue 2, "What make demo shows"
    with running_demo(tmp_path) as process:
        out, err = process.communicate(timeout=120)

    assert process.returncode == 0, out + err
    assert err == ""
    told_in_order = (
        "made the fleet's PKI and 3 cars' keys",
        "mutual TLS only",
        "started the bridge",
        "3 cars connected",
        "Anna rents car",
        "light ● green -> ● yellow",
        "Anna holds the card to the windscreen",
        "light ● yellow -> ● red",
        "Anna types a wrong PIN",
        "Wrong PIN, attempts left: 2",
        "Anna types the right PIN",
        "EVENT 0x8109 ENGINE_RELEASED",
        "Anna drives",
        "24 % left",
        "gets out and parks by card",
        "EVENT 0x810A PARKED",
        "comes back",
        "chooses to refuel",
        "EVENT 0x810D REFUEL_ENDED",
        "ends the rental by card",
        "light ● red -> ● green",
        "EVENT 0x810F RENTAL_ENDED",
        "its signature holds",
        "the fleet's receipt covers it",
        "received the webhook",
        "0.47 EUR    in all",
        "the link of this car is cut",
        "the link comes back",
        "counted once",
        "Nothing is left running",
    )
    position = 0
    for sentence in told_in_order:
        found = out.find(sentence, position)
        assert found >= 0, f"{sentence!r} is not told, or not in its place:\n{out}"
        position = found
    assert "7391" not in out, "the fuel card's PIN is shown to nobody else (H6)"
    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_dies_in_the_middle_fails_the_demonstration(
    tmp_path: Path,
) -> None:
    # "exits 0 only if it all did", fault row 19
    with running_demo(tmp_path) as process:
        wait_for_line(process, "Anna starts the engine")
        (broker,) = children_of(process)
        os.kill(broker, signal.SIGKILL)
        _out, err = process.communicate(timeout=120)

    assert process.returncode == 1
    assert err.startswith("error: ")
    assert "broker" in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_demonstration_cleanly(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running_demo(tmp_path) as process:
        wait_for_line(process, "Anna starts the engine")
        (broker,) = children_of(process)
        process.send_signal(number)
        _out, err = process.communicate(timeout=30)
        deadline = time.monotonic() + 5
        while is_running(broker) and time.monotonic() < deadline:
            time.sleep(0.05)

    assert process.returncode == 130
    assert "Traceback" not in err
    assert not is_running(broker)
    assert list(tmp_path.iterdir()) == []


def test_a_broker_that_dies_while_all_is_kept_up_is_told(tmp_path: Path) -> None:
    with running_demo(tmp_path, "--keep") as process:
        wait_for_line(process, "in another terminal")
        (broker,) = children_of(process)
        os.kill(broker, signal.SIGKILL)
        _out, err = process.communicate(timeout=30)

    assert process.returncode == 1
    assert err.startswith("error: ")
    assert "broker" in err
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_up_ends_by_ctrl_c(tmp_path: Path) -> None:
    with running_demo(tmp_path, "--keep") as process:
        wait_for_line(process, "in another terminal")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)

    assert process.returncode == 0
    assert err == ""
    assert out.endswith("Nothing is left running.\n")
    assert list(tmp_path.iterdir()) == []
