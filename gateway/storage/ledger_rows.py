"""New rows of a commit: entries, and the journal of commands that they close."""

from typing import Final

import apsw

from gateway.core.ledger import SealedEntry
from gateway.ports import AcceptedCommand
from protocol.codes import Code
from protocol.entry import split_entry
from protocol.frame import parse_frame
from protocol.result import RESULT

JOURNAL_RECORDS: Final = 256
JOURNAL_AGE_MS: Final = 24 * 60 * 60 * 1000
"""The journal holds at least so many commands and all of this age
(protocol-design.md 1.2); an older id is a new command, which its session or its
sequence then refuses."""


def accept(connection: apsw.Connection, accepted: AcceptedCommand) -> None:
    """Journal a command that runs, and forget those that are outlived."""
    connection.execute(
        # Again after a commit of which nobody knows whether it was kept.
        "insert or ignore into journal "
        "(msg_id, request_hash, accepted_wall_ms, result, code) "
        "values (?, ?, ?, null, ?)",
        (
            accepted.msg_id,
            accepted.request_hash,
            accepted.accepted_wall_ms,
            int(Code.IN_PROGRESS),
        ),
    )
    # A command that still runs has no result yet and is kept whatever its age.
    connection.execute(
        "delete from journal where result is not null and accepted_wall_ms < ? "
        "and place <= (select max(place) from journal) - ?",
        (accepted.accepted_wall_ms - JOURNAL_AGE_MS, JOURNAL_RECORDS),
    )


def append(connection: apsw.Connection, entry: SealedEntry) -> None:
    """Append an entry; a result closes its command."""
    connection.execute(
        "insert into entry values (?, ?, ?, ?, ?)",
        (
            entry.seq,
            int(entry.frame_class),
            entry.frame,
            entry.hash,
            entry.request_id,
        ),
    )
    if entry.place is not None:
        connection.execute("insert into place values (?, ?)", (entry.seq, entry.place))
    if entry.request_id is None:
        return
    # Kept in the journal too, since the entry goes with its receipt and a repeated
    # command must still be answered with the same bytes (I-5).
    _, body = split_entry(parse_frame(entry.frame).payload)
    connection.execute(
        "update journal set result = ?, code = ? where msg_id = ?",
        (entry.frame, int(RESULT.parse(body).code), entry.request_id),
    )
