"""The interpreter of a bridge's program: what it collects, and whose turn it is."""

import gc
import sys
from typing import Final

YOUNG: Final = 20_000
"""Containers made before the collector looks: some batches' worth. Nothing that a frame
leaves behind is a cycle, so looking more often finds nothing; at the default of 700 it
looked several times in each batch, and a tenth of a bridge's time went there. A look at
50,000 stopped a bridge of 14,000 cars for 60 ms; at this many none took 30 ms."""

MIDDLE: Final = 20
OLD: Final = 100
"""How many looks at the young and the middle ones come before one at what is older."""

TURN_S: Final = 0.001
"""How long a thread keeps the interpreter while another waits for it. A batch goes
through three threads and waits at each call of the store, up to a turn each time. What
it gains near the limit of a machine single runs could not tell; a frame cost no more
(measured)."""


def settle() -> None:
    """Let the collector pass over what there is now and look seldom; shorten turns.

    For the program, once it has started; a test or a library has no use for it.
    """
    sys.setswitchinterval(TURN_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
