"""Short phases with and without something bad, in turns, so that a drift of the machine
falls on both; and how sure the ratio of their 99th percentiles is."""

from collections.abc import Sequence
from random import Random
from typing import Final

from tests.bench.figure import percentile

DRAWS: Final = 1_000
"""Times that phases are drawn anew."""

Phases = dict[bool, list[list[float]]]
"""ms in each phase: without the bad thing (False) and with it."""


def is_bad(number: int) -> bool:
    """Whether this phase is one with the bad thing: well, ill, ill, well."""
    return number % 4 in {1, 2}


def p99(phases: Sequence[Sequence[float]]) -> float:
    """Return the 99th percentile over all phases."""
    return percentile([one for phase in phases for one in phase], 0.99)


def interval(found: Phases) -> tuple[float, float]:
    """Return between which ratios 95 of 100 lie, of phases that are drawn anew.

    Whole phases are drawn, as what follows one another is alike (bootstrap).
    """
    draw = Random(1)  # noqa: S311 - no secret, and the same each time
    ratios = [
        p99(draw.choices(found[True], k=len(found[True])))
        / p99(draw.choices(found[False], k=len(found[False])))
        for _ in range(DRAWS)
    ]
    return percentile(ratios, 0.025), percentile(ratios, 0.975)
