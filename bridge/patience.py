"""A write that somebody waits for no longer than he may; belongs to two threads.

Who stops waiting has to know whether it may take effect all the same. Up to its commit
it may not: the thread asks first whether anybody still waits, and undoes it if not.
From there on only the database knows.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from bridge.errors import StoreError

T = TypeVar("T")


class Attempt:
    """One write, and whether anybody waits for it."""

    def __init__(self, late: str) -> None:
        """Begin; `late` is said by what is undone because nobody waits."""
        self._late = late
        self._lock = threading.Lock()
        self._is_left = False
        self._is_committing = False

    def bounded(self, work: Callable[[Connection], T]) -> Callable[[Connection], T]:
        """Return `work`, undone at its end if nobody waits any more."""

        def done(connection: Connection) -> T:
            result = work(connection)
            with self._lock:
                self.require_waiting()
                self._is_committing = True
            return result

        return done

    def leave(self) -> bool:
        """Wait no longer; return whether it may be committed all the same."""
        with self._lock:
            self._is_left = True
            return self._is_committing

    def require_waiting(self) -> None:
        """Return if somebody waits.

        Raises:
            StoreError: nobody does; nothing need be begun.
        """
        if self._is_left:
            raise StoreError(self._late)
