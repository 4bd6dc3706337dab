"""What the disk must keep free for the rental that runs (I-20)."""

from typing import Final

from gateway.ports import Store

RESERVED_KIB: Final = 256
"""Below this room the car takes no new reservation, so that a rental that runs can
always be ended and reported; a whole rental takes about 10 KiB (I-20)."""

KEPT_PARTS: Final = 4
"""A quarter of that room is kept for the rental under way alone: an order that is not
about it is refused, and what can be done without is not recorded."""


def is_kept_for_rental(store: Store) -> bool:
    """Return whether what is free is for the rental under way alone."""
    return store.free_kib() < RESERVED_KIB // KEPT_PARTS


def has_room(store: Store, *, more_kib: int = 0) -> bool:
    """Return whether something new may be taken on.

    Args:
        store: asked for what is free.
        more_kib: what the new thing takes at once.
    """
    return store.free_kib() - more_kib >= RESERVED_KIB
