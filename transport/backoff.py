"""How long to wait before the next attempt: exponential, capped, jittered; pure.

The jitter matters more than the exponent: after a broker restart thousands of cars
lose their links in the same second, and without it they come back in the same second.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from transport.errors import TransportError

CROWD_FACTOR: Final = 1.5
"""90 s by default: 5,000 cars then come at up to 110 a second, a third of what a broker
on two cores takes (K22 wants 60 s at least, and nobody later than 5 min)."""


class BackoffError(TransportError, ValueError):
    """The values of a back-off contradict one another."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """The values of one back-off; the caller counts the attempts.

    The defaults bring a car back within 2 s after a short cut and ask a broker that is
    down for at most one connection per car and 30 to 60 s.
    """

    initial_s: float = 1.0
    """Ceiling of the first delay in s, above 0."""
    factor: float = 2.0
    """By what the ceiling grows with each failed attempt, at least 1."""
    maximum_s: float = 60.0
    """Ceiling of every delay in s, at least `initial_s`."""
    jitter: float = 0.5
    """Share of the ceiling that is random, 0 to 1: 0.5 gives 50 to 100 % of it."""

    def __post_init__(self) -> None:
        values = (self.initial_s, self.factor, self.maximum_s, self.jitter)
        if not all(map(math.isfinite, values)):
            raise BackoffError(f"back-off values {values} are not all finite")
        if not 0 < self.initial_s <= self.maximum_s:
            raise BackoffError(
                f"initial_s {self.initial_s} is not above 0 and at most "
                f"maximum_s {self.maximum_s}"
            )
        if self.factor < 1:
            raise BackoffError(f"factor {self.factor} is below 1")
        if not 0 <= self.jitter <= 1:
            raise BackoffError(f"jitter {self.jitter} is not within 0 and 1")

    def crowd_delay_s(self, *, random: Callable[[], float]) -> float:
        """Return the delay when all who use the broker surely wait for it too.

        Args:
            random: returns a number within 0 and 1.

        Returns:
            Seconds, evenly out of `CROWD_FACTOR` times `maximum_s`: however long the
            broker is away, those who come back are spread over about that span.
        """
        return CROWD_FACTOR * self.maximum_s * (1 - random())

    def delay_s(self, failures: int, *, random: Callable[[], float]) -> float:
        """Return the delay before the next attempt.

        Args:
            failures: consecutive failed attempts so far, from 1. Set the count back to
                0 when a link has proved itself (HELLO answered), not when it opened: a
                broker that accepts and drops would otherwise be asked every second.
            random: returns a number within 0 and 1, as `random.random`.

        Returns:
            Seconds, never above `maximum_s`.
        """
        steps = max(failures - 1, 0)
        # Growth is worked out in logarithms: factor ** steps overflows at about 1,000
        # failures, which a car in a cellar reaches in half a day.
        room = math.log(self.maximum_s) - math.log(self.initial_s)
        if steps * math.log(self.factor) >= room:
            ceiling = self.maximum_s
        else:
            ceiling = self.initial_s * self.factor**steps
        return ceiling * (1 - self.jitter * random())
