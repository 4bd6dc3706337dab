"""By which dates the authority renews a vehicle's TLS certificate; values only.

The clock is the authority's own; what a car believes the time to be plays no part.

1. With its certificate (mutual TLS) a vehicle may renew while that certificate is
   valid: from `not_before` on, before `not_after`. It asks before two thirds of the
   life have passed (`gateway.uplink.renewal_plan`), so an authority that is down for a
   third of the life strands no car.
2. Without a valid one (a garaged car) it may renew by its signing key until
   `GRACE_PERIOD` after its newest certificate ended, or until the day that a person
   set. Also before that end: a car may have lost its TLS key.
3. A revoked vehicle is given nothing, by no path.
4. Not more than `DAILY_LIMIT` certificates a vehicle and day: a loop in a car, or a
   thief of a key, must not fill the books.
"""

from datetime import datetime, timedelta
from typing import Final

GRACE_PERIOD: Final = timedelta(days=180)
"""Half a year: a convertible in winter, a car waiting for parts."""

GRACE_LIMIT: Final = timedelta(days=730)
"""How far ahead a person may extend it."""

DAILY_LIMIT: Final = 12
"""Certificates a vehicle in 24 hours; the plan needs one in eight days."""

DAY: Final = timedelta(days=1)


def may_reenroll(begin: datetime, end: datetime, *, now: datetime) -> bool:
    """Return whether a certificate with these dates opens a renewal (rule 1)."""
    return begin <= now < end


def grace_end(
    newest_end: datetime | None, extended: datetime | None
) -> datetime | None:
    """Return until when a vehicle may renew by its signing key (rule 2).

    Args:
        newest_end: of the certificate that ends last; None if none was ever given.
        extended: the day that a person set, if one did.
    """
    ends = [extended] if extended is not None else []
    if newest_end is not None:
        ends.append(newest_end + GRACE_PERIOD)
    return max(ends, default=None)


def may_use_grace(
    newest_end: datetime | None, extended: datetime | None, *, now: datetime
) -> bool:
    """Return whether a vehicle may renew by its signing key now (rule 2)."""
    end = grace_end(newest_end, extended)
    return end is not None and now < end
