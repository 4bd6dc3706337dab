"""How long the command line takes to say what it can do."""

import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench.figure import ROUNDS, Figure, figure


def measure() -> Iterator[Figure]:
    """Yield the figures of this file."""
    help_text = [sys.executable, "-m", "tools.cli", "--help"]
    bare = [sys.executable, "-c", "pass"]
    yield figure("freefloat --help", _ms(help_text), "ms", "a new process each time")
    yield figure("python -c pass", _ms(bare), "ms", "for comparison")


def _ms(command: list[str]) -> list[float]:
    rounds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        rounds.append((time.perf_counter() - begin) * 1e3)
    return rounds
