"""What the authority does by itself from time to time, beside answering."""

from contextlib import closing
from datetime import datetime
from typing import Final

from certs.files import exclusive
from certs.fleet import FleetDirectory
from certs.renewal_rules import GRACE_LIMIT, GRACE_PERIOD
from certs.revocation import LOCK_WAIT_S, is_half_over, publish_list, read_list
from protocol.fleet import FleetPart

KEPT: Final = GRACE_PERIOD + GRACE_LIMIT
"""How long the books keep certificates that have ended."""


def keep_house(fleet: FleetDirectory, *, now: datetime) -> bool:
    """Replace a revocation list that is half over, and forget what is long over.

    Returns:
        Whether a new list was published.

    Raises:
        FleetError, OSError: the list, the CA or the books cannot be used.
    """
    registry = fleet.path / FleetPart.REGISTRY
    with (
        closing(fleet.books()) as books,
        exclusive(registry, wait_s=LOCK_WAIT_S),
    ):
        found = read_list(fleet)
        books.forget_before(now - KEPT)
        if found is None or not is_half_over(found, now=now):
            return False
        publish_list(fleet, books, fleet.issuing_authority(), now=now)
    return True
