"""How one ledger follows another: what a new one begins with, and when it must.

A ledger that lost entries must not be continued: their sequences would be given out
again, and the fleet would see a fork (I-27). It is replaced by one with another id,
whose first entry says what it replaces (LEDGER_RESET).
"""

from collections.abc import Sequence
from pathlib import Path

import apsw

from gateway.core.ledger import LedgerHead
from gateway.core.state import State
from gateway.storage.errors import StoreDamagedError, StoreRestoredError
from gateway.storage.head_note import Loss, Note
from gateway.storage.quarantine import Salvage, salvage
from gateway.storage.rows import state_sum
from gateway.storage.signer import Signer
from gateway.storage.state_codec import encode_state
from protocol.entry import GENESIS


def begin_ledger(
    connection: apsw.Connection,
    ledger_id: bytes,
    note: Note | None,
    *,
    quarantined: Sequence[Path],
    vfs: str | None,
    signer: Signer | None,
) -> None:
    """Put the first rows into a new ledger, and what is known of the one before.

    Args:
        connection: a file with empty tables, in a transaction.
        ledger_id: 8 random bytes.
        note: what was noted of an older ledger; None makes this the car's first.
        quarantined: damaged ledgers that are kept, the newest last.
        vfs: the file system that they are on.
        signer: whose entries are salvaged from them.
    """
    found = Salvage()
    if note is not None and note.condemned is not None and quarantined:
        found = salvage(quarantined[-1], vfs=vfs, signer=signer)
    state = encode_state(State())
    # Starts are counted on: a fleet takes no hello of a count that went back. One is
    # left out, by which the old ledger's note is told from the new one's.
    starts = 0 if note is None else max(note.boot_counter, found.boot_counter) + 1
    connection.execute(
        "insert into vehicle values (1, ?, ?, 0, ?, 0, ?, ?, '', ?)",
        (state, ledger_id, GENESIS, GENESIS, starts, state_sum(state)),
    )
    if note is None:
        return
    previous = LedgerHead(note.ledger_id, note.seq, note.hash)
    told = found.head
    if told is not None and (
        not any(note.ledger_id)
        or (told.ledger_id == note.ledger_id and told.seq > note.seq)
    ):
        previous = told
    reason = Loss.LOST if note.condemned is None else note.condemned
    connection.execute(
        "insert into origin values (1, ?, ?, ?, ?)",
        (previous.ledger_id, previous.seq, previous.hash, int(reason)),
    )
    connection.executemany(
        "insert into salvaged values (?, ?, ?, ?, ?)",
        [
            (found.ledger_id, each.seq, int(each.frame_class), each.frame, each.hash)
            for each in found.entries
        ],
    )


def require_newest(head: LedgerHead, boot_counter: int, note: Note) -> None:
    """Return if the ledger is the noted one and not behind what was once durable.

    Raises:
        StoreDamagedError: it is another one than this start's note names.
        StoreRestoredError: to continue it would give a sequence to a second entry.
    """
    is_same = note.ledger_id == head.ledger_id
    if note.boot_counter > boot_counter or (is_same and note.seq > head.seq):
        raise StoreRestoredError(
            f"the ledger ends at entry {head.seq} of start {boot_counter}, but it had "
            f"reached entry {note.seq} of start {note.boot_counter}: an old copy was "
            "put in its place"
        )
    if note.boot_counter == boot_counter and (
        not is_same or (note.seq == head.seq and note.hash != head.hash)
    ):
        raise StoreDamagedError(
            f"the ledger ends at entry {head.seq} with another id or hash than was "
            "noted"
        )
