"""`make simulate`: many seeds of whole cars, a real bridge and a hostile link.

    python -m tests.simulation [--first N] [--seeds N] [--seed N] [--workers N]

Prints progress and seeds per second, what occurred how often, and a verdict. A seed
that breaks an invariant is told with the last of its trace and the command that repeats
it; the exit code is 1 then.
"""

import argparse
import logging
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.campaign import Part, run_part
from tests.simulation.seed_run import Outcome

CHUNK = 10
"""Seeds that a worker takes at once."""

PROGRESS_S = 10.0
"""Between two lines of progress."""

COVERAGE = (
    ("virtual seconds lived", ("virtual seconds",)),
    ("taps", ("taps",)),
    ("rentals ended", ("entry RentalEnded",)),
    ("rentals parked", ("entry Parked",)),
    ("refuellings", ("entry RefuelEnded",)),
    ("rentals begun by a stored grant", ("by grant",)),
    ("handovers", ("entry HandoverDone",)),
    ("online payments asked, decided", ("entry Payment*",)),
    ("service begun, ended", ("entry ServiceModeChanged",)),
    ("configurations in force", ("entry ConfigurationActivated",)),
    ("agents, machines started anew", ("agents started anew by order",)),
    ("refused for want of room", ("orders refused for want of room",)),
    ("ledger entries", ("entry *",)),
    ("orders taken", ("orders taken",)),
    ("orders refused by the bridge", ("orders refused",)),
    ("commands accepted by a car", ("accepted *",)),
    ("commands succeeded", ("commands succeeded",)),
    ("commands refused", ("commands rejected", "commands failed")),
    ("commands expired or superseded", ("commands expired", "commands superseded")),
    ("commands partly done", ("commands partial",)),
    ("commands indeterminate", ("commands indeterminate",)),
    ("power cuts", ("power cuts",)),
    ("agents killed", ("agents killed",)),
    ("bridge crashes", ("bridge crashes",)),
    ("bridge restarts", ("bridge restarts",)),
    ("links cut", ("links cut",)),
    ("links half open", ("half open",)),
    ("clock jumps", ("clock jumps",)),
    ("devices broken", ("devices broken",)),
    ("messages lost, held back", ("messages lost", "messages held back")),
    ("messages repeated, replayed", ("messages repeated", "messages replayed")),
    ("messages altered", ("messages altered",)),
    ("receipts forged", ("receipts forged",)),
    ("messages misrouted, retained", ("messages misrouted", "messages retained")),
)
"""What is told of what occurred, and which counts are summed for it."""


def main() -> int:
    """Run, tell, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1_000, help="how many")
    parser.add_argument("--seed", type=int, help="only this one, with its trace")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--life", type=float, default=1.0, help="of a world, 1: usual")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.seed is not None:
        (outcome,) = run_part(Part(options.seed, 1, options.life))
        print("\n".join(outcome.lines))
        _tell_coverage(outcome.counts)
        print(f"seed {outcome.seed}: trace {outcome.trace_hash}")
        return _verdict([outcome], 1, options.life)
    return _campaign(options.first, options.seeds, options.workers, options.life)


_is_stopped: list[int] = []
"""Signals that asked for an early end: what was found until then is told."""


def _stop(number: int, _frame: object) -> None:
    _is_stopped.append(number)


def _campaign(first: int, seeds: int, workers: int, life: float) -> int:
    begun = told = time.monotonic()
    counts: Counter[str] = Counter()
    failed: list[Outcome] = []
    done = 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    for outcome in _outcomes(first, seeds, workers, life):
        done += 1
        counts += outcome.counts
        if outcome.violation is not None:
            failed.append(outcome)
            print(f"seed {outcome.seed}: {outcome.violation}", flush=True)
        now = time.monotonic()
        if now - told >= PROGRESS_S:
            told = now
            rate = done / (now - begun)
            print(f"{done} of {seeds} seeds, {rate:.1f} a second", flush=True)
        if _is_stopped:
            break
    took = time.monotonic() - begun
    _tell_coverage(counts)
    print(f"{done} seeds in {took:.0f} s, {done / took:.1f} a second")
    return _verdict(failed, done, life)


def _outcomes(first: int, seeds: int, workers: int, life: float) -> Iterator[Outcome]:
    parts = [
        Part(start, min(CHUNK, first + seeds - start), life)
        for start in range(first, first + seeds, CHUNK)
    ]
    if workers <= 1:
        for part in parts:
            yield from run_part(part)
        return
    with ProcessPoolExecutor(workers) as pool:
        results: Iterable[list[Outcome]] = pool.map(run_part, parts)
        for outcomes in results:
            yield from outcomes


def _tell_coverage(counts: Counter[str]) -> None:
    print("what occurred:")
    for name, kinds in COVERAGE:
        total = sum(
            number
            for counted, number in counts.items()
            for kind in kinds
            if counted == kind
            or (kind.endswith("*") and counted.startswith(kind.removesuffix("*")))
        )
        print(f"  {name:<32}{total:>10,}")


def _life(life: float) -> str:
    return "" if life == 1.0 else f" LIFE={life}"


def _verdict(outcomes: list[Outcome], done: int, life: float) -> int:
    failed = [outcome for outcome in outcomes if outcome.violation is not None]
    for outcome in failed[:3]:
        print(f"\nseed {outcome.seed} breaks an invariant: {outcome.violation}")
        for line in outcome.lines[-40:]:
            print(f"  {line}")
        print(f"  again: make simulate SEED={outcome.seed}{_life(life)}")
    if failed:
        print(f"\nFAILED: {len(failed)} of {done} seeds break an invariant")
        return 1
    print(f"PASSED: no invariant is broken in {done} seeds")
    return 0


if __name__ == "__main__":
    sys.exit(main())
