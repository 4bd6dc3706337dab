"""How much a test tries: a telling part each time, everything with `make deep`.

What a test would try is cut to every so-many-th case, at a step that has no divisor in
common with 8, so that each bit of a byte gets its turn. `FREEFLOAT_DEEP=1` takes all.
"""

import os
from collections.abc import Sequence
from typing import Final, TypeVar
from zlib import crc32

import pytest

DEEP: Final = os.environ.get("FREEFLOAT_DEEP") == "1"

UNCOUNTED: Final = pytest.mark.no_cover
"""Marks a campaign: it goes over the same lines hundreds of times, which counting would
make twice as long. The other tests of its folder reach every line without it."""

T = TypeVar("T")


def some(cases: Sequence[T], *, one_in: int, turn: str = "") -> Sequence[T]:
    """Return every `one_in`-th case and the last one; all of them when deep.

    Tests that share their cases give each a `turn` of its own, so that each begins
    elsewhere and together they try more: the same ones each time.
    """
    if DEEP or not cases:
        return cases
    return [*cases[crc32(turn.encode()) % one_in : -1 : one_in], cases[-1]]


def times(count: int, *, deep: int) -> int:
    """Return how many examples to try."""
    return deep if DEEP else count
