"""A measured figure, and how figures are printed: as a table and as JSON.

Absolute figures drift with the machine; ratios of two things measured in one run hold.
"""

import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

ROUNDS: Final = 7
"""Each thing is measured this often; the median round counts, the spread is printed."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value."""

    name: str
    """What was measured."""
    value: float
    """The median."""
    unit: str
    """µs, ms, s or x for a ratio."""
    spread_pct: float
    """Half the distance of the slowest and fastest round, in percent of the median."""
    note: str = ""
    """What the value stands for."""


def per_call_us(work: Callable[[], object], *, calls: int) -> Sequence[float]:
    """Return µs per call, one value for each round."""
    rounds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(calls):
            work()
        rounds.append((time.perf_counter() - begin) / calls * 1e6)
    return rounds


def figure(name: str, rounds: Sequence[float], unit: str, note: str = "") -> Figure:
    """Return the median of some rounds."""
    median = statistics.median(rounds)
    spread = (max(rounds) - min(rounds)) / 2 / median * 100
    return Figure(name, median, unit, spread, note)


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the value that `share` of the samples do not exceed."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def print_table(figures: Sequence[Figure]) -> None:
    """Print figures for a person."""
    width = max(len(entry.name) for entry in figures)
    for entry in figures:
        spread = f"±{entry.spread_pct:.0f} %" if entry.spread_pct else ""
        value = f"{entry.value:10.2f} {entry.unit:<3}"
        print(f"  {entry.name:<{width}}  {value} {spread:<8} {entry.note}".rstrip())


def write_json(figures: Sequence[Figure], path: Path) -> None:
    """Write figures for a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "figures": [asdict(entry) for entry in figures],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
