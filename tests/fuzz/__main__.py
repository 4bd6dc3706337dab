"""Fuzz the readers of bytes that strangers choose: ``python -m tests.fuzz``.

Ends by itself: with 0 when nothing was found, with 1 when an input broke a target's
promise (each is printed with the command that shows it again), with 2 when a target
could not be fuzzed, which says nothing about it.
"""

import argparse
import os
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tests.fuzz.campaign import ROOT, Outcome, fuzz
from tests.fuzz.target import load, names

NOTHING, FOUND, UNABLE = 0, 1, 2
"""How the command ends."""

_ROW: Final = "{:<12} {:>12} {:>8} {:>7} {:>8} {:>6}"


def main(arguments: list[str] | None = None) -> int:
    """Fuzz, or show again what a kept input does; return how the process ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, default=ROOT / "var" / "fuzz")
    parser.add_argument(
        "--again", type=Path, help="try this one input, without atheris"
    )
    options = parser.parse_args(arguments)
    targets: list[str] = options.targets or names()
    for name in set(targets) - set(names()) - _PLANTED:
        print(f"no target is called {name}; there are: {', '.join(names())}")
        return UNABLE
    if options.again is not None:
        return again(targets[0], options.again)
    if find_spec("atheris") is None:
        print("atheris is not installed; 'make fuzz' installs it")
        return UNABLE
    with ThreadPoolExecutor(max_workers=options.jobs) as pool:
        outcomes = list(
            pool.map(
                lambda name: fuzz(
                    name, duration_s=options.seconds, work=options.work.resolve()
                ),
                targets,
            )
        )
    _print(outcomes)
    if any(outcome.found for outcome in outcomes):
        return FOUND
    return UNABLE if any(outcome.trouble for outcome in outcomes) else NOTHING


_PLANTED: Final = frozenset({"_planted"})
"""A target with a fault in it, by which a test sees that faults are found."""


def again(name: str, path: Path) -> int:
    """Try one input; print what it breaks."""
    target, data = load(name), path.read_bytes()
    try:
        target.check(data)
    except Exception:  # noqa: BLE001 - whatever escapes is what was found
        traceback.print_exc()
        return FOUND
    print(f"{name}: these {len(data)} bytes break nothing")
    return NOTHING


def _print(outcomes: list[Outcome]) -> None:
    print(_ROW.format("target", "executions", "exec/s", "corpus", "MiB", "found"))
    for outcome in outcomes:
        print(
            _ROW.format(
                outcome.name,
                outcome.executions,
                outcome.per_second,
                outcome.corpus,
                outcome.memory_mib,
                len(outcome.found),
            )
        )
    for outcome in outcomes:
        for path in outcome.found:
            print(f"\n{outcome.name} broke its promise. To see it again:")
            print(f"  {sys.executable} -m tests.fuzz {outcome.name} --again {path}")
        if outcome.trouble:
            print(f"\n{outcome.name} was not fuzzed: {outcome.trouble}")
        if outcome.said:
            print(outcome.said)


if __name__ == "__main__":
    sys.exit(main())
