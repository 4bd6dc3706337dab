"""Instants as text: UTC milliseconds to RFC 3339."""

from datetime import UTC, datetime, timedelta
from typing import Final

LATEST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999, the last that RFC 3339 can write. A car's
label is any 64-bit number, so everything that prints one must bear a larger one."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ZULU: Final = slice(None, -len("+00:00"))


def rfc3339(utc_ms: int | None) -> str | None:
    """Return ``2026-01-02T03:04:05.678Z``, or None for no or an impossible instant."""
    if utc_ms is None or not 0 <= utc_ms <= LATEST_MS:
        return None
    instant = _EPOCH + timedelta(milliseconds=utc_ms)
    return instant.isoformat(timespec="milliseconds")[_ZULU] + "Z"
