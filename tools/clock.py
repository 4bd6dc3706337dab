"""This machine's clock, as the commands' composition takes it.

The packages below are given a clock and never look for one; these are the ones that
commands give.
"""

import time
from datetime import UTC, datetime
from typing import Final

from tools.errors import OperatorError

NOT_BEFORE: Final = datetime(2025, 1, 1, tzinfo=UTC)
"""freefloat is younger: a clock that shows less has lost its time, and certificates
made by it would be refused or long expired."""


def wall_s() -> float:
    """Return the seconds since 1970, which a person may set back."""
    return time.clock_gettime(time.CLOCK_REALTIME)


def wall_clock() -> datetime:
    """Return the time in UTC."""
    return datetime.fromtimestamp(wall_s(), tz=UTC)


def read_clock() -> datetime:
    """Return the time in UTC, to hold certificates against.

    Raises:
        OperatorError: the clock is evidently wrong.
    """
    now = wall_clock()
    if now < NOT_BEFORE:
        raise OperatorError(
            f"this machine's clock says {now:%Y-%m-%d}, which cannot be",
            "set the clock first: certificates begin and end by it",
        )
    return now
