"""Python's garbage collector, told what a bridge's memory is like."""

import gc
from typing import Final

YOUNG: Final = 50_000
"""Containers made before the collector looks: some batches' worth. Nothing that a frame
leaves behind is a cycle, so looking more often finds nothing; at the default of 700 it
looked several times in each batch, and a tenth of a bridge's time went there."""

MIDDLE: Final = 20
OLD: Final = 100
"""How many looks at the young and the middle ones come before one at what is older."""


def spare_what_stays() -> None:
    """Let the collector pass over everything that there is now, and look seldom.

    For the program, once it has started; a test or a library has no use for it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
