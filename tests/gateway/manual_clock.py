"""A clock that stands until a test moves it, and jumps from deadline to deadline."""

import asyncio
from typing import Final

from gateway.core.moment import Moment
from protocol.codes import ClockQuality

START_MS: Final = 1_000_000
WALL_MS: Final = 1_800_000_000_000
"""UTC at `START_MS`: 2027-01-15."""


class ManualClock:
    """Implements `gateway.ports.Clock`."""

    def __init__(self) -> None:
        self.boot_ms = START_MS
        self.wall_offset_ms = WALL_MS - START_MS
        self.quality = ClockQuality.NTP
        self.slept_ms = 0
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now(self) -> Moment:
        return Moment(self.boot_ms, self.boot_ms + self.wall_offset_ms, self.quality)

    def asleep_ms(self) -> int:
        return self.slept_ms

    def suspend(self, seconds: float) -> None:
        """Let the machine sleep: the boot clock runs on, nothing else does."""
        self.boot_ms += round(seconds * 1000)
        self.slept_ms += round(seconds * 1000)

    async def sleep_until(self, boot_ms: int) -> None:
        if boot_ms <= self.boot_ms:
            await asyncio.sleep(0)
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((boot_ms, sleeper))
        await sleeper

    async def advance(self, seconds: float) -> None:
        """Let time pass: every sleeper wakes at its instant, and all follows."""
        target_ms = self.boot_ms + round(seconds * 1000)
        await idle()
        while True:
            self._sleepers = [s for s in self._sleepers if not s[1].done()]
            due_ms = min((at_ms for at_ms, _ in self._sleepers), default=target_ms + 1)
            if due_ms > target_ms:
                break
            self.boot_ms = max(self.boot_ms, due_ms)
            for at_ms, sleeper in self._sleepers:
                if at_ms <= self.boot_ms and not sleeper.done():
                    sleeper.set_result(None)
            await idle()
        self.boot_ms = target_ms

    def reboot(self, off_s: float) -> None:
        """Begin the boot clock anew after a time without power."""
        wall_ms = self.boot_ms + self.wall_offset_ms + round(off_s * 1000)
        self.boot_ms = 5_000
        self.slept_ms = 0
        self.wall_offset_ms = wall_ms - self.boot_ms
        self._sleepers.clear()


async def idle() -> None:
    """Return when every task waits for something that only the test can bring about.

    All that is waited for here is in memory, so nothing more can happen once no
    callback is ready (trio's `wait_all_tasks_blocked`).
    """
    ready = getattr(asyncio.get_running_loop(), "_ready")  # noqa: B009 - private
    while True:
        await asyncio.sleep(0)
        if not ready:
            return
