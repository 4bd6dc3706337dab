"""The short form of `make simulate`: some seeds, and that a seed repeats itself."""

import logging
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.depth import times
from tests.simulation.planted import crowded
from tests.simulation.seed_run import Fleet, made_fleet, run_seed

FIRST = 13
"""Seeds from here on have rentals that end soon."""

SHORT = 0.6
"""Of a world's usual life."""


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    # Cut links and refused frames are what a seed is made of: nobody reads of each.
    logging.disable(logging.CRITICAL)
    with made_fleet() as made:
        yield made
    logging.disable(logging.NOTSET)


def test_no_invariant_is_broken_in_some_seeds(fleet: Fleet) -> None:
    """I-1, I-2, I-5 to I-12, I-14, I-16, I-17, I-21 to I-29, K25, with whole cars.

    The bridge dies between its steps and the consumer fails at times: I-26 (S).
    """
    counts: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + times(5, deep=2_000)):
        outcome = run_seed(seed, fleet, life=SHORT)
        assert outcome.violation is None, (
            f"{outcome.violation}: python -m tests.simulation --seed {seed} "
            f"--life {SHORT}\n" + "\n".join(outcome.lines)
        )
        counts += outcome.counts

    for kind in (
        "taps",
        "entry RentalEnded",
        "accepted Reserve",
        "commands succeeded",
        "links cut",
        "messages lost",
        "messages replayed",
        "positions told",
        "places told",
    ):
        assert counts[kind], f"no seed had {kind}"


def test_a_world_of_full_disks_begins_nothing_that_it_cannot_record(
    fleet: Fleet,
) -> None:
    """I-20, row 3: neither by order nor by grant nor by handover; what runs goes on."""
    counts: Counter[str] = Counter()
    with crowded():
        for seed in range(FIRST, FIRST + times(4, deep=500)):
            outcome = run_seed(seed, fleet, life=SHORT)
            assert outcome.violation is None, f"seed {seed}: {outcome.violation}"
            counts += outcome.counts

    assert counts["orders refused for want of room"]
    assert counts["taps"]


def test_a_seed_repeats_itself_with_other_keys(fleet: Fleet) -> None:
    """The same seed has the same trace, in another process and another fleet too."""
    with made_fleet() as other:
        again = run_seed(8, other, life=SHORT)

    once = run_seed(8, fleet, life=SHORT)
    assert len(once.lines) > 10
    assert (again.trace_hash, again.counts) == (once.trace_hash, once.counts)
