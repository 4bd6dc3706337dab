"""How many entries a car may have under way, from how much waits in the bridge.

Credit is what slows cars down without losing anything: while batches wait for the disk
each receipt gives less, so that entries stay in the cars, which keep them anyway,
instead of in the broker's queues (reliability.md L4).
"""

from typing import Final

CREDIT_MOST: Final = 64
"""With nothing waiting: two inboxes of `transport`."""

CREDIT_LEAST: Final = 2
"""With everything full: never 0, since only a receipt gives credit again and only an
entry causes a receipt. Two, so that an entry and a rental end are never one behind the
other."""


def credit_for(waiting: int, limit: int) -> int:
    """Return the credit to put into a receipt.

    Args:
        waiting: messages that were taken from the broker and wait for a transaction.
        limit: how many may wait, above 0.
    """
    free = max(limit - waiting, 0)
    return CREDIT_LEAST + (CREDIT_MOST - CREDIT_LEAST) * min(free, limit) // limit
