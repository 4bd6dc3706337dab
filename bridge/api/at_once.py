"""How many requests of one caller may be under way at once (I-31).

A long poll holds a request for up to half a minute and an event stream for an hour.
Without a share for each, one caller with a loop would take all that a bridge answers at
once, and `/ready` with it. Requests beyond a share are refused, and none is queued.
"""

from collections import Counter
from http import HTTPStatus
from typing import Final

from bridge.api.problems import ProblemError
from bridge.figures import Figures

ALL_AT_ONCE: Final = 512
"""Requests of all callers: with files, broker and store they stay below the 1,024 open
files that a service has by default. Four callers fit in whose share is the default."""


class AtOnce:
    """The requests under way at one bridge; not thread-safe.

    Args:
        share: how many of one caller.
        figures: counts who had too many.
    """

    def __init__(self, share: int, *, figures: Figures) -> None:
        self._share = share
        self._figures = figures
        self._held = Counter[str]()

    def take(self, name: str) -> None:
        """Count one more of this caller, until `give_back`.

        Raises:
            ProblemError: there are too many; nothing is counted.
        """
        if self._held[name] >= self._share:
            self._figures.limited("at_once")
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-at-once",
                f"{self._share} requests of this caller are under way; nothing was "
                "done, let one of them end first (a shorter wait_s helps)",
                headers={"Retry-After": "1"},
            )
        if self._held.total() >= ALL_AT_ONCE:
            self._figures.limited("all_at_once")
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too-busy",
                f"{ALL_AT_ONCE} requests are under way, of all callers; nothing was "
                "done, wait as long as Retry-After says",
                headers={"Retry-After": "1"},
            )
        self._held[name] += 1

    def give_back(self, name: str) -> None:
        """Count one less."""
        self._held[name] -= 1
        if not self._held[name]:
            del self._held[name]
