"""Notices that the machine has slept: what was fresh before is not fresh any more.

A frame that was read from the socket just before a suspend is judged after it. Its
expiry is on the boot clock, which runs on, and so is safe; a new session besides lets
nothing of before count at all (protocol-design.md 1.3).
"""

from typing import Final

from gateway.ports import Clock

SLEEP_LIMIT_MS: Final = 60_000
"""A longer sleep ends the session; short ones count together."""


class SuspendWatch:
    """Compares how long the machine has slept with how long it had when it was asked.

    Args:
        clock: knows how long the machine has been suspended since it booted.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asleep_ms = clock.asleep_ms()

    def begin(self) -> None:
        """Count from now: a session begins."""
        self._asleep_ms = self._clock.asleep_ms()

    @property
    def has_overslept(self) -> bool:
        """Whether the machine has slept for too long since `begin`."""
        return self._clock.asleep_ms() - self._asleep_ms > SLEEP_LIMIT_MS
