"""The clock that goes on while the machine sleeps: CLOCK_BOOTTIME (L2, I-6).

Whoever measures how old something is asks this one. The clock of asyncio stands still
in suspend: by it an order to the board, or the time that satellites told, is as fresh
after a night as it was before.
"""

import time


def boot_ms() -> int:
    """Return milliseconds since the machine booted, its sleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
