"""Run `freefloat` as a person does: in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parents[2]

PYTHON: Final = (sys.executable, "-X", "utf8", "-m", "tools.cli")


def freefloat(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTHON, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(SOURCES), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@contextmanager
def running(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Start `freefloat` and let the block talk to it; it does not outlive the block."""
    process = subprocess.Popen(
        [*PYTHON, *map(str, arguments)],
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": str(SOURCES),
            "PYTHONUNBUFFERED": "1",
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=20)


def require_clear_failure(
    done: subprocess.CompletedProcess[str], *sentences: str, code: int = 1
) -> None:
    """Every failure: a sentence, what to do, an exit code, and no traceback."""
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("error: "), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) >= 2, "says what is wrong and not what to do"
    for sentence in sentences:
        assert sentence in done.stderr
