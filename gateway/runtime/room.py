"""What the disk must keep free for the rental that runs (I-20)."""

from typing import Final

from gateway.ports import Store

RESERVED_KIB: Final = 256
"""Below this room the car takes no new reservation, so that a rental that runs can
always be ended and reported; a whole rental takes about 10 KiB (I-20)."""


def has_room(store: Store, *, more_kib: int = 0) -> bool:
    """Return whether something new may be taken on.

    Args:
        store: asked for what is free.
        more_kib: what the new thing takes at once.
    """
    return store.free_kib() - more_kib >= RESERVED_KIB
