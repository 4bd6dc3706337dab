"""Instants as text: UTC milliseconds to RFC 3339."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

LATEST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999, the last that RFC 3339 can write. A car's
label is any 64-bit number, so everything that prints one must bear a larger one."""

SECONDS_KEPT: Final = 1024
"""Seconds whose text is kept: what many cars tell at the same time falls into few."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_WITHOUT_ZONE: Final = slice(len("2026-01-02T03:04:05"))


def rfc3339(utc_ms: int | None) -> str | None:
    """Return ``2026-01-02T03:04:05.678Z``, or None for no or an impossible instant."""
    if utc_ms is None or not 0 <= utc_ms <= LATEST_MS:
        return None
    return f"{_second(utc_ms // 1000)}.{utc_ms % 1000:03}Z"


@lru_cache(maxsize=SECONDS_KEPT)
def _second(utc_s: int) -> str:
    return (_EPOCH + timedelta(seconds=utc_s)).isoformat()[_WITHOUT_ZONE]
