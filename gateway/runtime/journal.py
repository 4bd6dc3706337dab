"""The journal of commands in memory: what makes a repeated command harmless (I-5).

The store keeps it; this mirror answers each frame without a read of the disk. It is
changed only after the commit that it mirrors, and cut by the store at the next start.
"""

from collections.abc import Sequence

from gateway.core.acceptance import JournalRecord
from gateway.core.events import CommandReceived
from gateway.core.ledger import SealedEntry
from protocol.codes import Code
from protocol.result import Result


class Journal:
    """Known commands, oldest first."""

    def __init__(self, records: Sequence[JournalRecord]) -> None:
        self._records = {record.msg_id: record for record in records}

    def find(self, msg_id: bytes) -> JournalRecord | None:
        """Return what is known of a command."""
        return self._records.get(msg_id)

    def newest(self, count: int) -> tuple[JournalRecord, ...]:
        """Return the last `count` records, newest last."""
        return tuple(self._records.values())[-count:]

    def accept(self, command: CommandReceived) -> None:
        """Note a command that was committed as accepted."""
        self._records[command.msg_id] = JournalRecord(
            command.msg_id, command.request_hash, None, Code.IN_PROGRESS
        )

    def close(self, result: Result, entry: SealedEntry) -> None:
        """Note a result that was committed."""
        if result.request_id in self._records:
            self._records[result.request_id] = JournalRecord(
                result.request_id, result.request_hash, entry.frame, result.code
            )
