"""The authority's audit file: who was given what, and what somebody tried.

JSON lines, appended and synced one by one, mode 0600. It names vehicles, key ids and
addresses; no claim, key or signature is ever in it.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum, unique
from pathlib import Path
from typing import Annotated, Final

import msgspec

from certs.files import PRIVATE_FILE

DETAIL_LIMIT: Final = 500
"""Characters of a detail; the rest is cut."""


@unique
class Severity(StrEnum):
    """Whether somebody should look."""

    NOTE = "note"
    ALARM = "alarm"


class AuditEvent(msgspec.Struct, frozen=True):
    """One line."""

    time: Annotated[datetime, msgspec.Meta(tz=True)]
    """By the authority's clock."""
    severity: Severity
    """An alarm is a sign of an attack or of a mistake in production."""
    event: str
    """One word, such as ``enrolled`` or ``claim_reused``."""
    vehicle_id: str
    """As named by whoever asked; empty if nobody was named."""
    peer: str
    """The address that asked, or ``office`` for a command."""
    detail: str
    """A sentence."""


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The file."""

    path: Path
    """Where it is; made at the first line."""

    def write(
        self,
        severity: Severity,
        event: str,
        *,
        now: datetime,
        vehicle_id: str = "",
        peer: str = "office",
        detail: str = "",
    ) -> None:
        """Append a line and bring it to the disk.

        Raises:
            OSError: it could not be written; what was asked for must not happen then.
        """
        line = AuditEvent(
            now.replace(microsecond=0),
            severity,
            event,
            vehicle_id[:64],
            peer[:64],
            detail[:DETAIL_LIMIT],
        )
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        handle = os.open(self.path, flags, PRIVATE_FILE)
        try:
            os.write(handle, msgspec.json.encode(line) + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)

    def read(self) -> Iterator[AuditEvent]:
        """Return the lines, oldest first; a torn last line is left out."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        for line in data.splitlines():
            try:
                yield msgspec.json.decode(line, type=AuditEvent)
            except msgspec.DecodeError:
                continue
