"""The clocks of a bridge's machine, and what its boot clock is called."""

import contextlib
import hashlib
import secrets
import time
from pathlib import Path
from typing import Final

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
"""Another one after each boot of the machine (random(4))."""

OFFSETS: Final = Path("/proc/self/timens_offsets")
"""How far a container's boot clock is from its machine's (time_namespaces(7))."""


def wall_ms() -> int:
    """Return UTC in ms, as far as the wall clock is right."""
    return time.clock_gettime_ns(time.CLOCK_REALTIME) // 1_000_000


def boot_ms() -> int:
    """Return the boot clock in ms, suspend included; nobody sets it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def boot_mark() -> str:
    """Return what the boot clock of this process is called, 16 hex digits.

    Programs with the same one read the same clock. Where the kernel does not say, each
    process counts as a machine of its own.
    """
    try:
        digest = hashlib.sha256(BOOT_ID.read_bytes())
    except OSError:
        return secrets.token_hex(8)
    # Without the file there are no time namespaces.
    with contextlib.suppress(OSError):
        digest.update(OFFSETS.read_bytes())
    return digest.hexdigest()[:16]
