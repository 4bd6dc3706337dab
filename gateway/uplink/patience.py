"""How long a car waits before it connects again.

Rule 1: a car that lost its way to the broker comes back soon, and asks ever more rarely
(`transport.backoff`).
Rule 2: where the broker's machine answers that nothing listens, the broker is down for
every car, and all would find it up again within the same seconds. Then each waits for a
time of its own out of a span wider than the longest back-off (K22). Only who had a link
since its start: who comes first is in no crowd.
Rule 3: a link counts as good once the fleet signed something on it or it stood for a
while, and not when it opened: a broker that accepts and drops would otherwise be asked
every second.
"""

from collections.abc import Callable

from transport.backoff import Backoff
from transport.errors import LinkError, LinkFailure, RefusedError, TransportError


class Patience:
    """Counts failures and says how long to wait."""

    def __init__(self, backoff: Backoff, *, random: Callable[[], float]) -> None:
        """Begin without a failure.

        Args:
            backoff: waits between attempts.
            random: returns a number within 0 and 1.
        """
        self._backoff = backoff
        self._random = random
        self._failures = 0
        self._refusals = 0
        self._was_linked = False

    @property
    def is_refused(self) -> bool:
        """Whether the broker refused something on a link that opened."""
        return self._refusals > 0

    def proved(self) -> None:
        """The fleet signed something on this link."""
        self._failures = 0
        self._was_linked = True

    def stood(self) -> None:
        """The link stood for long enough."""
        self._failures = self._refusals = 0

    def failed(self, error: TransportError) -> None:
        """A link ended, or was not made, because of this."""
        if isinstance(error, RefusedError):
            # The broker's access list is wrong. The fleet may have answered the hello
            # all the same, so the link's own count says nothing here.
            self._refusals += 1
            self._failures = max(self._failures, self._refusals)

    def delay_s(self, error: TransportError | None) -> float:
        """Count an attempt that is over, and return the seconds until the next.

        Args:
            error: why it is over; None if we ended it ourselves.
        """
        self._failures += 1
        is_down = isinstance(error, LinkError) and error.failure is LinkFailure.DOWN
        if is_down and self._was_linked:
            return self._backoff.crowd_delay_s(random=self._random)
        return self._backoff.delay_s(self._failures, random=self._random)
