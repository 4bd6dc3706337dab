"""One timer for everything that the car waits for."""

import asyncio
from collections.abc import Callable

from gateway.ports import Clock


class Alarm:
    """Calls back once when the boot clock reaches the instant it was set to.

    Args:
        clock: whose boot clock.
        ring: called from the loop, must not block.
    """

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._at_ms: int | None = None
        self._task: asyncio.Task[None] | None = None

    def set(self, boot_ms: int) -> None:
        """Move the alarm; setting it to where it stands costs nothing."""
        if boot_ms == self._at_ms:
            return
        self.stop()
        self._at_ms = boot_ms
        self._task = asyncio.create_task(self._wait(boot_ms))

    def stop(self) -> None:
        """Take the alarm back."""
        if self._task is not None:
            self._task.cancel()
        self._task = None
        self._at_ms = None

    async def _wait(self, boot_ms: int) -> None:
        await self._clock.sleep_until(boot_ms)
        self._at_ms = None
        self._task = None
        self._ring()
