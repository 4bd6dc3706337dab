"""Faults that are put into the product are found, each under its number."""

import logging
import re
from collections.abc import Iterator

import pytest

from tests.simulation.planted import LIFE, PLANTED, Planted
from tests.simulation.seed_run import Fleet, made_fleet, run_seed


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    logging.disable(logging.CRITICAL)
    with made_fleet() as made:
        yield made
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_planted_fault_is_found(planted: Planted, fleet: Fleet) -> None:
    """I-5, I-6, I-11, I-16, I-22, I-23: an oracle that cannot fail proves nothing."""
    with planted.plant():
        outcome = run_seed(planted.seed, fleet, life=LIFE)

    assert outcome.violation is not None
    assert re.search(planted.number, str(outcome.violation)), outcome.violation
