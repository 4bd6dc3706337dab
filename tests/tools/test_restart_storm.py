"""Real processes that crash at the start, and a supervisor that starts them anew."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Final

import msgspec
import pytest

from gateway.core.restart_storm import RunNote, Stage
from gateway.storage.files import SystemFiles
from gateway.storage.run_file import RUN_FILE, RunFile
from tests.tools.command_line import PYTHON, SOURCES
from tests.tools.test_gateway import configure, make_car

QUICK: Final = "[restarts]\nfirst_wait_s = 0.1\nlongest_wait_s = 0.4\nstable_s = 0.2\n"


def run(car: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PYTHON, "gateway", "run", "--unattended"],
        cwd=car,
        env={
            **os.environ,
            "PYTHONPATH": str(SOURCES),
            "FREEFLOAT_FAILPOINT": "start",
        },
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.device
def test_an_agent_that_crashes_at_each_start_ends_reduced_and_tries_again(
    tmp_path: Path,
) -> None:
    """I-30 (F), row 7: `gateway run` aborts; in the end it runs without the rest."""
    make_car(tmp_path)
    configure(tmp_path, more=QUICK)
    (tmp_path / "data").mkdir()
    before = RunNote(crashes=1, stage=Stage.STARTING)
    RunFile(tmp_path / "data", SystemFiles()).write(before)
    ends, said = list[int](), list[str]()
    for _ in range(3):
        process = run(tmp_path)
        _, text = process.communicate(timeout=100)
        ends.append(process.returncode)
        said.append(text)

    # With two of before, the fourth crash; the start after it is reduced, lives, and
    # ends to be started whole.
    assert ends == [-signal.SIGABRT, -signal.SIGABRT, 85]
    assert [text.split(" crashes in a row: waits")[0][-1] for text in said] == [
        *("2", "3", "4")
    ]
    assert "only reader, board and ledger run" in said[2]
    note = msgspec.json.decode(
        (tmp_path / "data" / RUN_FILE).read_bytes(), type=RunNote
    )
    assert note.tries_whole
    assert note.stage is Stage.ENDED


def test_a_note_that_is_torn_or_cannot_be_kept_stops_no_start(tmp_path: Path) -> None:
    """I-20, I-30."""
    kept = RunFile(tmp_path, SystemFiles())
    kept.write(RunNote(crashes=3))
    assert kept.read() == RunNote(crashes=3)

    (tmp_path / RUN_FILE).write_bytes(b'{"crashes": ')
    assert kept.read() == RunNote()
    nowhere = RunFile(tmp_path / "gone", SystemFiles())
    nowhere.write(RunNote(crashes=1))
    assert nowhere.read() == RunNote()
    assert nowhere.writes == 0
