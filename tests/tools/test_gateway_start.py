"""Starts that fail before the ledger is known, or on a disk that takes nothing."""

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from gateway.core.restart_storm import RunNote, Stage
from gateway.settings import Settings, SettingsError, parse_settings
from gateway.storage.files import SystemFiles
from gateway.storage.run_file import RUN_FILE, RunFile
from tests.tools.command_line import PYTHON, SOURCES
from tools.gateway_start import SETTINGS_RUN_FILE, count_run, load_patiently

GOOD: Final = b"""
identity = "vehicle"
data = "data"
broker = { host = "127.0.0.1" }
reader = { path = "usb:054c:06c3" }
board = { port = "/dev/null" }
"""


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[float]:
    """Be a service with a directory in memory; collect waits instead of waiting."""
    slept = list[float]()
    memory = tmp_path / "memory"
    memory.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(memory))
    monkeypatch.setattr("tools.gateway_start.time.sleep", slept.append)
    return slept


def unusable() -> Settings:
    raise SettingsError("key board is missing: add it")


def test_starts_without_usable_settings_wait_longer_each_time(
    waits: list[float], tmp_path: Path
) -> None:
    """I-30 (F): a supervisor that starts every two seconds empties no battery."""
    for _ in range(12):
        with pytest.raises(SettingsError):
            load_patiently(unusable)
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]

    settings = parse_settings(GOOD, beside=tmp_path)
    assert load_patiently(lambda: settings) is settings
    waits.clear()
    for _ in range(2):
        with pytest.raises(SettingsError):
            load_patiently(unusable)
    assert waits == []


def test_settings_that_are_put_right_in_the_wait_are_used(
    waits: list[float], tmp_path: Path
) -> None:
    """I-30: whoever mends them need not wait for one more start."""
    for _ in range(2):
        with pytest.raises(SettingsError):
            load_patiently(unusable)
    settings = parse_settings(GOOD, beside=tmp_path)
    found = iter([None, settings])

    loaded = load_patiently(lambda: next(found) or unusable())

    assert loaded is settings
    assert waits == [5]


def test_without_a_service_a_person_at_a_terminal_does_not_wait(
    waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY")
    for _ in range(4):
        with pytest.raises(SettingsError):
            load_patiently(unusable)
    assert waits == []


def test_crashes_count_also_where_the_disk_takes_nothing(
    waits: list[float], tmp_path: Path
) -> None:
    """I-30 (F), I-20: a full or read-only disk is a reason to crash."""
    # A file in the place of the directory: neither made nor written below.
    (tmp_path / "data").write_bytes(b"")
    settings = parse_settings(GOOD, beside=tmp_path)

    starts = [count_run(settings).start for _ in range(5)]

    assert waits == [5, 10, 20]
    assert [start.reduced for start in starts] == [False] * 4 + [True]


def test_a_copy_in_memory_is_newer_than_the_disk_and_gone_with_the_boot(
    tmp_path: Path,
) -> None:
    """I-30: what a disk kept before it failed does not count against the copy."""
    memory = tmp_path / "memory"
    memory.mkdir()
    kept = RunFile(tmp_path, SystemFiles(), memory=memory)
    kept.write(RunNote(crashes=2))
    RunFile(tmp_path, SystemFiles()).write(RunNote())
    assert kept.read() == RunNote(crashes=2)

    (memory / RUN_FILE).write_bytes(b"{")
    assert kept.read() == RunNote()
    (memory / RUN_FILE).unlink()
    kept.write(RunNote(crashes=3))
    (memory / RUN_FILE).unlink()
    assert kept.read() == RunNote(crashes=3)


def test_the_command_itself_counts_a_start_without_settings(tmp_path: Path) -> None:
    """I-30 (F): in the real process, which ends with a sentence and no traceback."""
    (tmp_path / "gateway.toml").write_text('identity = "vehicle"\n')
    ended = subprocess.run(
        [*PYTHON, "gateway", "run", "--unattended"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(SOURCES),
            "RUNTIME_DIRECTORY": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr == (
        "error: settings file gateway.toml: key data is missing: add it\n"
    )
    note = RunFile(tmp_path, SystemFiles(), name=SETTINGS_RUN_FILE).read()
    assert note.stage is Stage.STARTING
