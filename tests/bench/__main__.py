"""`make bench`: print figures and ratios measured in this run; assert none of them."""

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from tests.bench import bulkhead, door, flood, frames, intake, startup, tap, unlock
from tests.bench.figure import Figure, print_table, write_json


def main() -> None:
    """Measure, print a table, and write the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    figures: list[Figure] = []
    parts: tuple[tuple[str, Callable[[], Iterator[Figure]]], ...] = (
        ("frames (median of 7 rounds)", frames.measure),
        ("decision about a card (median of 7 rounds)", tap.measure),
        ("start of the command line", startup.measure),
    )
    for title, measure in parts:
        print(f"\n{title}")
        part = list(measure())
        print_table(part)
        figures += part
    for title, stream in (
        ("unlock latency, one car at rest, everything on this machine", unlock.measure),
        ("from a renter's card to open bolts, networks down", door.measure),
        ("a consumer that hangs, beside one that answers", bulkhead.measure),
        ("one car that floods, beside another", flood.measure),
        ("bridge work for each frame, CPU time", intake.measure),
    ):
        print(f"\n{title}")
        part = asyncio.run(_collect(stream()))
        print_table(part)
        figures += part
    if options.json is not None:
        write_json(figures, options.json)
        print(f"\nwritten to {options.json}")


async def _collect(stream: AsyncIterator[Figure]) -> list[Figure]:
    return [entry async for entry in stream]


if __name__ == "__main__":
    main()
