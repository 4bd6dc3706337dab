"""The audit trail: who ordered or changed what, each row chained to the one before.

A row that is edited, moved or taken out breaks the chain there; rows taken off the end
differ from the head that is kept beside them. Whoever can write to the whole database
could make the chain anew, so its heads are noted elsewhere, by hand or as signed
checkpoints (`bridge.checkpoints`): a row that was noted must still have its hash (K14,
K28).
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Final

GENESIS: Final = bytes(32)
"""What the first row is chained to."""

ASKED: Final = "asked"
"""Outcome of a row that is written before anything is done."""

TEXT_LIMIT: Final = 512
"""Characters of `AuditEntry.what` and of an outcome."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What is to be written down."""

    at_ms: int
    """UTC ms."""
    who: str
    """The caller's name in the key file."""
    role: str
    """The caller's role then."""
    what: str
    """Method, path and the fields of the body that are no secret."""
    outcome: str
    """`ASKED`, or what was answered."""
    asked: int = 0
    """The row that this one answers; 0 in a row that asks."""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An entry at its place."""

    row_id: int
    """1 for the first, without gaps."""
    entry: AuditEntry
    """What was written down."""
    prev_hash: bytes
    """Of the row before."""
    row_hash: bytes
    """Of this row."""


@dataclass(frozen=True, slots=True)
class AuditHead:
    """The end of the trail."""

    row_id: int = 0
    """The last row; 0 for none."""
    row_hash: bytes = GENESIS
    """Its hash."""


def chained(head: AuditHead, entry: AuditEntry) -> AuditRow:
    """Return the row that follows."""
    row_id = head.row_id + 1
    return AuditRow(
        row_id, entry, head.row_hash, _hash_of(row_id, entry, head.row_hash)
    )


def is_intact(row: AuditRow) -> bool:
    """Return whether a row says what it said when its hash was made.

    That it stands in the trail is for the whole trail to show (`AuditCheck`).
    """
    return row.row_hash == _hash_of(row.row_id, row.entry, row.prev_hash)


class AuditCheck:
    """Looks at every row in its order, then at the end."""

    def __init__(self, *noted: AuditHead) -> None:
        """Take what was noted elsewhere of the trail, from any time."""
        self._last = AuditHead()
        self._noted: dict[int, list[bytes]] = {}
        for head in noted:
            self._noted.setdefault(head.row_id, []).append(head.row_hash)
        self.faults: list[str] = []
        """What is wrong, naming the row."""

    def take(self, row: AuditRow) -> None:
        """Look at the next row."""
        expected = self._last.row_id + 1
        if row.row_id != expected:
            self.faults.append(f"row {row.row_id}: row {expected} should stand here")
        elif row.prev_hash != self._last.row_hash:
            self.faults.append(f"row {row.row_id}: does not follow the row before")
        if not is_intact(row):
            self.faults.append(f"row {row.row_id}: was edited")
        if any(kept != row.row_hash for kept in self._noted.get(row.row_id, ())):
            self.faults.append(f"row {row.row_id}: is not the one that was noted")
        self._last = AuditHead(row.row_id, row.row_hash)

    def end(self, head: AuditHead) -> None:
        """Compare the end with the head that is kept beside the rows."""
        if self._last != head:
            self.faults.append(
                f"row {head.row_id}: should be the last, but row {self._last.row_id} is"
            )
        self.faults += [
            f"row {row_id}: was noted and is gone"
            for row_id in sorted(self._noted)
            if row_id > self._last.row_id
        ]


def _hash_of(row_id: int, entry: AuditEntry, prev_hash: bytes) -> bytes:
    fields = [
        *(row_id, entry.at_ms, entry.who, entry.role),
        *(entry.what, entry.outcome, entry.asked),
    ]
    text = json.dumps(fields, separators=(",", ":"))
    return hashlib.sha256(b"ff-audit-v1\0" + prev_hash + text.encode()).digest()
