"""What the disk must keep free for the rental that runs (I-20)."""

from typing import Final

from gateway.core.room import Room
from gateway.ports import Store

RESERVED_KIB: Final = 256
"""Below this room nothing new is taken on, so that a rental that runs can always be
ended and reported; a whole rental takes about 10 KiB (I-20)."""

KEPT_PARTS: Final = 4
"""A quarter of that room is kept for the rental under way alone: an order that is not
about it is refused, and what can be done without is not recorded."""

PROMISED_PARTS: Final = 8
"""An eighth of that room, three rentals, is asked for where a reservation becomes a
rental. Orders that are not about it end at a quarter: no fleet can use up what was
promised to a customer, only others who write to the same disk can (ADR 26)."""


def is_kept_for_rental(store: Store) -> bool:
    """Return whether what is free is for the rental under way alone."""
    return store.free_kib() < RESERVED_KIB // KEPT_PARTS


def room_of(store: Store, *, more_kib: int = 0) -> Room:
    """Return what the disk can record.

    Args:
        store: asked for what is free.
        more_kib: what something new takes at once.
    """
    free_kib = store.free_kib() - more_kib
    if free_kib >= RESERVED_KIB:
        return Room.ANOTHER
    promised_kib = RESERVED_KIB // PROMISED_PARTS
    return Room.PROMISED if free_kib >= promised_kib else Room.RUNNING
