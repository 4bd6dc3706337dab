"""Fuzzing one target for a while, in a process of its own, and what came of it."""

import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz.target import INPUT_S, MEMORY_MIB, load

ROOT: Final = Path(__file__).parent.parent.parent
"""The repository, from which every command here is given."""

_FOUND: Final = ("crash-*", "timeout-*", "oom-*", "leak-*")
"""What libFuzzer calls the inputs that break something."""

_OVERTIME_S: Final = 120
"""A process that does not end by itself so long after its time is ended."""

_NOTHING_FOUND: Final = 0
_STATISTIC: Final = re.compile(r"^stat::(\w+):\s+(\d+)$", re.MULTILINE)
_TRACEBACK: Final = "=== Uncaught Python exception: ==="
_LINES: Final = 25


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of fuzzing one target."""

    name: str
    """The target."""
    executions: int
    """Inputs that were tried; 0 if libFuzzer did not say."""
    duration_s: float
    """How long it ran, its start included."""
    corpus: int
    """Inputs that reach something of their own, kept for the next time."""
    memory_mib: int
    """Most memory of the process."""
    found: tuple[Path, ...]
    """Inputs that break the target's promise."""
    trouble: str
    """Why it says nothing about the target; empty if it does."""
    said: str
    """The end of what the process said, if something was found or wrong."""

    @property
    def per_second(self) -> int:
        """Inputs a second."""
        return round(self.executions / self.duration_s)


def fuzz(name: str, *, duration_s: int, work: Path) -> Outcome:
    """Fuzz a target.

    Args:
        name: which.
        duration_s: for how long.
        work: directory that keeps corpora and finds; a directory for each target.
    """
    target = load(name)
    corpus, seeds, finds = (work / name / part for part in ("corpus", "seeds", "found"))
    for directory in (corpus, seeds, finds):
        directory.mkdir(parents=True, exist_ok=True)
    before = _finds(finds)
    for number, seed in enumerate(target.seeds()):
        (seeds / f"{number:04d}").write_bytes(seed)
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.worker",
        name,
        ",".join(target.measured),
        f"-max_total_time={duration_s}",
        f"-timeout={INPUT_S}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={finds}/",
        "-print_final_stats=1",
        "-verbosity=1",
        str(corpus),
        str(seeds),
    ]
    began_s = time.monotonic()
    try:
        ended = subprocess.run(
            command,
            cwd=ROOT,
            check=False,
            capture_output=True,
            timeout=duration_s + _OVERTIME_S,
        )
        code, text = (
            ended.returncode,
            (ended.stdout + ended.stderr).decode(errors="replace"),
        )
    except subprocess.TimeoutExpired as late:
        code, text = -1, (late.stderr or b"").decode(errors="replace")
    figures = {key: int(value) for key, value in _STATISTIC.findall(text)}
    executions = figures.get("number_of_executed_units", 0)
    found = tuple(sorted(_finds(finds) - before))
    is_over = code == _NOTHING_FOUND and executions > 0
    return Outcome(
        name=name,
        executions=executions,
        duration_s=time.monotonic() - began_s,
        corpus=sum(1 for _ in corpus.iterdir()),
        memory_mib=figures.get("peak_rss_mb", 0),
        found=found,
        trouble="" if found or is_over else f"the process ended with code {code}",
        said="" if is_over else _telling(text),
    )


def _telling(text: str) -> str:
    """Return the traceback in what a process said, else the end of it."""
    _, mark, traceback = text.partition(_TRACEBACK)
    if mark:
        return "\n".join(traceback.splitlines()[1 : _LINES + 1])
    return "\n".join(text.splitlines()[-_LINES:])


def _finds(directory: Path) -> set[Path]:
    return {path for pattern in _FOUND for path in directory.glob(pattern)}
