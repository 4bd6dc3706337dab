"""Fields that several commands have in common."""

from typing import Final

from protocol.layout import ID, U32, Subcon, letters

CARDS_LIMIT: Final = 4
"""Cards that one reservation or handover can name (protocol-design.md 6a)."""

SEALED_LIMIT: Final = 256
"""Bytes of sealed secrets; the sealed form of `protocol.sealing.Secrets` has 109."""

LANGUAGE: Final[Subcon] = letters(2, upper=False)
"""Two lower-case letters of ISO 639-1."""


def for_rental() -> tuple[Subcon, Subcon]:
    """Return what every command begins with: its rental and the version seen."""
    return ("rental_id" / ID, "expected_version" / U32)
