"""A card tap is decided in under 1 ms, whatever it leads to (issue 4)."""

import time

import pytest

from gateway.core.actions import DriveLocks
from tests.bench.tap import LIMIT_US, taps

TRIES = 50


@pytest.mark.parametrize("name", taps())
def test_a_tap_is_decided_in_under_a_millisecond(name: str) -> None:
    """The quickest of many tries counts, so that a loaded machine passes too."""
    decide = taps()[name]
    took_us = []
    for _ in range(TRIES):
        begin = time.perf_counter()
        decide()
        took_us.append((time.perf_counter() - begin) * 1e6)

    assert min(took_us) < LIMIT_US
    moves = any(isinstance(action, DriveLocks) for action in decide().actions)
    assert moves is ("stranger" not in name)
