"""The journal of commands in memory: what makes a repeated command harmless (I-5).

The store keeps it; this mirror answers each frame without a read of the disk. It is
changed only after the commit that it mirrors, and forgets by the store's rule.
"""

from collections.abc import Sequence
from typing import Final

from gateway.core.authentication import JournalRecord
from gateway.core.events import CommandReceived
from gateway.core.ledger import SealedEntry
from gateway.core.moment import Moment
from protocol.codes import Code
from protocol.result import Result

KEPT_RECORDS: Final = 256
KEPT_MS: Final = 24 * 60 * 60 * 1000
"""At least so many commands and all of this age (protocol-design.md 1.2)."""


class Journal:
    """Known commands, oldest first.

    Args:
        records: what the store held at the start, oldest first.
        now: the start; records of before count as accepted then.
    """

    def __init__(self, records: Sequence[JournalRecord], *, now: Moment) -> None:
        self._records = {record.msg_id: record for record in records}
        self._accepted_ms = dict.fromkeys(self._records, now.boot_ms)

    def find(self, msg_id: bytes) -> JournalRecord | None:
        """Return what is known of a command."""
        return self._records.get(msg_id)

    def newest(self, count: int) -> tuple[JournalRecord, ...]:
        """Return the last `count` records, newest last."""
        return tuple(self._records.values())[-count:]

    def accept(self, command: CommandReceived, *, now: Moment) -> None:
        """Note a command that was committed as accepted, and forget outlived ones."""
        self._records[command.msg_id] = JournalRecord(
            command.msg_id, command.request_hash, None, Code.IN_PROGRESS
        )
        self._accepted_ms[command.msg_id] = now.boot_ms
        self._forget(now.boot_ms - KEPT_MS)

    def _forget(self, before_ms: int) -> None:
        spare = len(self._records) - KEPT_RECORDS
        outlived = [
            msg_id
            for msg_id, record in list(self._records.items())[: max(spare, 0)]
            if self._accepted_ms[msg_id] < before_ms and record.result_frame is not None
        ]
        for msg_id in outlived:
            del self._records[msg_id], self._accepted_ms[msg_id]

    def close(self, result: Result, entry: SealedEntry) -> None:
        """Note a result that was committed."""
        if result.request_id in self._records:
            self._records[result.request_id] = JournalRecord(
                result.request_id, result.request_hash, entry.frame, result.code
            )
