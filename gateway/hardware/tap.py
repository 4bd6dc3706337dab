"""From scans of the field to taps: one tap is one event, however long it lasts (I-14).

Pure. A tap begins when a card appears in an empty field and ends when the field has
been empty for a while; whatever shows up in between belongs to it. The UID is not
compared: a card with a random UID has another one at each scan (ISO/IEC 14443-3, 6.5.4:
four bytes from 08), and a wallet holds several cards.
"""

from typing import Final

REMOVED_AFTER_MS: Final = 300
"""The field must be empty for this long; a card at its edge is missed now and then."""

REMOVED_AFTER_SCANS: Final = 2
"""And in this many scans, as a scan of a slow reader takes longer than that."""

UID_SIZES: Final = (4, 7, 10)
"""Bytes of a UID of one, two or three cascade levels (ISO/IEC 14443-3, 6.5.4)."""


class TapDetector:
    """Remembers whether a tap is going on."""

    def __init__(self) -> None:
        """Begin with an empty field."""
        self._is_present = False
        self._misses = 0
        self._missing_since_ms = 0

    def scan(self, uid: bytes | None, *, now_ms: int) -> bytes | None:
        """Take one scan; return the UID if a tap begins with it.

        Args:
            uid: of the card in the field, empty for a card without a usable one, None
                for an empty field.
            now_ms: when the scan ended; never goes back.
        """
        if uid is None:
            self._miss(now_ms)
            return None
        self._misses = 0
        was_present, self._is_present = self._is_present, True
        return uid if not was_present and len(uid) in UID_SIZES else None

    def _miss(self, now_ms: int) -> None:
        if self._misses == 0:
            self._missing_since_ms = now_ms
        self._misses += 1
        if (
            self._misses >= REMOVED_AFTER_SCANS
            and now_ms - self._missing_since_ms >= REMOVED_AFTER_MS
        ):
            self._is_present = False
