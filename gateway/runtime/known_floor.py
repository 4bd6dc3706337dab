"""The least that the time can be, from what a car knows without asking anybody."""

from typing import Final

from gateway.ports import Clock

RELEASED_MS: Final = 1_793_491_200_000
"""2026-11-01T00:00:00Z: no copy of this program is older. Raised with each release."""


class KnownFloor:
    """Implements `gateway.ports.TrustedTime` from instants that are known to be past.

    Args:
        clock: whose boot clock carries the newest of them on; its wall clock is not
            looked at.
        known_ms: UTC ms of what somebody who is trusted has dated, such as a trust
            bundle's issue.
    """

    def __init__(self, clock: Clock, *known_ms: int) -> None:
        self._clock = clock
        self._start_ms = max((RELEASED_MS, *known_ms))
        self._start_boot_ms = clock.now().boot_ms

    def trusted_floor_ms(self) -> int:
        """Return the newest known instant, and what has passed since we were made."""
        return self._start_ms + self._clock.now().boot_ms - self._start_boot_ms
