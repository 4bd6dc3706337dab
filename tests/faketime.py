"""A wall clock that lies, for a real process: libfaketime, loaded before it."""

from pathlib import Path
from typing import Final

LIBRARIES: Final = tuple(
    Path(f"/usr/lib/{machine}/faketime/libfaketime.so.1")
    for machine in ("x86_64-linux-gnu", "aarch64-linux-gnu")
)
"""Where Debian puts it."""


def find_faketime() -> Path | None:
    return next((path for path in LIBRARIES if path.exists()), None)


def missing_faketime() -> str | None:
    """What is missing, or None."""
    if find_faketime() is None:
        return "libfaketime is not installed: apt-get install libfaketime"
    return None


def lying_by(offset: str) -> dict[str, str]:
    """Return the environment of a process whose wall clock is off, as by "+10y".

    Boot clock and monotonic clock stay as they are, and so does the machine.
    """
    return {
        "LD_PRELOAD": str(find_faketime()),
        "FAKETIME": offset,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
