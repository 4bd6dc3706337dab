"""Faults that are put into the product are found, each under its number."""

import logging
import re
from collections.abc import Iterator

import pytest

from tests.simulation.planted import PLANTED, Planted, search


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
def test_a_planted_fault_is_found(planted: Planted) -> None:
    """I-5 to I-8, I-11, I-16, I-22, I-23, I-25, I-26, I-29, K25, H3, H11: all can fail.

    It begins with a seed that is known to find it; a change of the product that moves
    the traces makes it look a little further.
    """
    *_, (seed, complaint) = search(planted, first=planted.seed)

    assert re.search(planted.number, complaint), f"seed {seed}: {complaint!r}"
