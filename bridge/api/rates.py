"""How often each caller may call, order, and try a wrong key (K28).

A bucket for each caller and kind of call, in the memory of one bridge: with N bridges
behind one address a caller gets N times as much. Whoever is over a rate is told when
to come back; nothing is queued.

The attacker considered: a stolen key that orders as fast as the bridge can sign, and
somebody without a key who makes the bridge look at forged ones. Failed attempts are
counted by address; a known API key passes all the same, so nobody behind the same
proxy is locked out by them.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, unique
from http import HTTPStatus
from typing import Final

from bridge.api.keys import Role
from bridge.api.problems import ProblemError
from bridge.figures import Figures
from bridge.settings import RateSettings

BUCKETS_LIMIT: Final = 4_096
"""Callers and addresses remembered; the one that called longest ago is forgotten, and
begins with a full bucket."""

MINUTE_S: Final = 60.0


@unique
class Rate(StrEnum):
    """What is counted."""

    CALLS = "calls"
    """Every request of a caller."""
    ORDERS = "orders"
    """Requests of a caller that order or change something."""
    FAILURES = "failures"
    """Requests of an address with a wrong key, token or none."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """Tokens that are left; a value."""

    tokens: float
    """0 to its size."""
    at_s: float
    """When they were counted, on a clock that nobody sets."""

    def take(self, size: int, now_s: float) -> tuple["Bucket", float]:
        """Return the bucket after one call, and how many seconds too early it was.

        A bucket holds a minute's calls and fills up within a minute.
        """
        filled = self.tokens + max(now_s - self.at_s, 0.0) * size / MINUTE_S
        tokens = min(filled, float(size))
        if tokens >= 1:
            return Bucket(tokens - 1, now_s), 0.0
        return Bucket(tokens, now_s), (1 - tokens) * MINUTE_S / size


class Rates:
    """The buckets of one bridge.

    Args:
        settings: how many calls a minute.
        clock_s: a clock that nobody sets, in seconds.
        figures: counts who was too fast.
    """

    def __init__(
        self, settings: RateSettings, *, clock_s: Callable[[], float], figures: Figures
    ) -> None:
        self._settings = settings
        self._clock_s = clock_s
        self._figures = figures
        self._buckets: OrderedDict[tuple[Rate, str], Bucket] = OrderedDict()

    def require_call(self, name: str, role: Role, *, is_order: bool) -> None:
        """Count a call of somebody who is known.

        Raises:
            ProblemError: they called too often.
        """
        self._require(Rate.CALLS, name, self._settings.calls)
        if is_order:
            is_person = role is not Role.SERVICE
            size = self._settings.person_orders if is_person else self._settings.orders
            self._require(Rate.ORDERS, name, size)

    def require_attempt(self, address: str) -> None:
        """Count an attempt that failed, or is going to be looked at.

        Raises:
            ProblemError: too many failed from there.
        """
        self._figures.not_admitted()
        self._require(Rate.FAILURES, address, self._settings.failures)

    def require_room(self, address: str) -> None:
        """Refuse to look at what costs, from where too much failed; counts nothing.

        Raises:
            ProblemError: too many failed from there.
        """
        bucket = self._buckets.get((Rate.FAILURES, address))
        size = self._settings.failures
        if bucket is not None and bucket.take(size, self._clock_s())[1] > 0:
            self._require(Rate.FAILURES, address, size)

    def _require(self, rate: Rate, name: str, size: int) -> None:
        now_s = self._clock_s()
        key = (rate, name)
        before = self._buckets.pop(key, Bucket(float(size), now_s))
        after, early_s = before.take(size, now_s)
        self._buckets[key] = after
        if len(self._buckets) > BUCKETS_LIMIT:
            self._buckets.popitem(last=False)
        if early_s == 0:
            return
        self._figures.limited(rate.value)
        whose = "from this address" if rate is Rate.FAILURES else "by this key"
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            "too-many-requests",
            f"more than {size} {_NAMES[rate]} a minute {whose}; nothing was done, wait "
            "as long as Retry-After says",
            headers={"Retry-After": str(math.ceil(early_s))},
        )


_NAMES: Final = {
    Rate.CALLS: "calls",
    Rate.ORDERS: "calls that order or change something",
    Rate.FAILURES: "failed attempts",
}
