"""The machine's two clocks as one `Moment` (protocol-design.md 1.3)."""

import asyncio
import ctypes
import time
from pathlib import Path
from typing import Final

from gateway.boot_clock import boot_ms
from gateway.core.moment import Moment
from protocol.codes import ClockQuality

_NAP_LIMIT_S: Final = 30.0
"""asyncio sleeps on CLOCK_MONOTONIC, which stands still in suspend; after one, a
deadline of the boot clock is noticed at most this much of waking time late."""

_TIME_ERROR: Final = 5
"""`TIME_ERROR` of adjtimex(2): the kernel's clock is not synchronised."""

_TIMEX_SIZE: Final = 208
"""Bytes of struct timex on 64-bit Linux, and enough for any other."""


class SystemClock:
    """Implements `gateway.ports.Clock`: CLOCK_BOOTTIME and CLOCK_REALTIME."""

    def now(self) -> Moment:
        """Return this instant on both clocks."""
        return Moment(
            boot_ms=boot_ms(),
            wall_ms=time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000,
            quality=_wall_quality(),
        )

    def asleep_ms(self) -> int:
        """Return for how long the machine has been suspended since it booted.

        CLOCK_MONOTONIC stands still in suspend and CLOCK_BOOTTIME does not
        (clock_gettime(2)).
        """
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        return (boot_ns - time.clock_gettime_ns(time.CLOCK_MONOTONIC)) // 1_000_000

    async def sleep_until(self, boot_ms: int) -> None:
        """Return when the boot clock has reached `boot_ms`."""
        while True:
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            left_s = boot_ms / 1000 - now_ns / 1e9
            if left_s <= 0:
                return
            await asyncio.sleep(min(left_s, _NAP_LIMIT_S))


def _wall_quality() -> ClockQuality:
    """Ask the kernel whether a time service keeps the wall clock (adjtimex(2))."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        # All zeros is `modes = 0`: read, change nothing.
        state = library.adjtimex(ctypes.create_string_buffer(_TIMEX_SIZE))
    except (OSError, AttributeError):
        return ClockQuality.RTC
    synchronised = 0 <= state < _TIME_ERROR
    return ClockQuality.NTP if synchronised else ClockQuality.RTC


def boot_mark() -> str:
    """Return a text that changes with every boot of the machine.

    Raises:
        OSError: the kernel does not say (not Linux).
    """
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
