"""Looking into a car's ledger without touching it.

A running agent holds its file alone, and SQLite writes even where it only reads from a
write-ahead log. So a copy is read: made in a private directory, while neither file nor
log changes, and gone when the look is over. Nothing here gives a key or a sealed secret
away: frames are read as far as their headers, and the state not at all.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from gateway.core.configuration import Active
from gateway.core.ledger import LedgerHead, SealedEntry
from gateway.storage import rows
from gateway.storage.chain import require_chain, require_signed
from gateway.storage.database import APPLICATION_ID, SCHEMA_VERSION, value
from gateway.storage.errors import (
    StoreBrokenError,
    StoreDamagedError,
    StoreForeignError,
    StoreInUseError,
)
from gateway.storage.files import SystemFiles
from gateway.storage.quarantine import quarantined
from gateway.storage.signer import Signer
from gateway.storage.trust_rows import KeptTrust, read_trust
from protocol.codes import Code

ATTEMPTS: Final = 10
"""Copies that are tried while the agent writes; a commit takes milliseconds, and an
agent commits a few times a minute."""

_LOG_SUFFIX: Final = "-wal"


@dataclass(frozen=True, slots=True)
class KeptLedger:
    """What a ledger's file holds of its chain."""

    head: LedgerHead
    """The newest entry."""
    receipted: int
    """Entries up to here have a receipt and are gone."""
    boot_counter: int
    """How often the agent has started."""
    entries: tuple[SealedEntry, ...]
    """Entries without a receipt, rejected ones included, in order."""
    fault: str | None
    """What does not fit, with its entry's number; None if all does (K14)."""


class LedgerCopy:
    """A copy of a ledger's file, open for reading."""

    def __init__(self, connection: apsw.Connection) -> None:
        """Take an open connection; it stays its owner's to close."""
        self._connection = connection

    def ledger(self, signer: Signer | None = None) -> KeptLedger:
        """Return the entries, and hold them against their chain and signatures.

        Raises:
            StoreDamagedError: it cannot even be read.
        """
        (row,) = self._connection.execute(
            "select ledger_id, head_seq, head_hash, receipted, receipted_hash, "
            "boot_counter from vehicle"
        )
        ledger_id, seq, head_hash, receipted, receipted_hash, starts = row
        head = LedgerHead(
            rows.plain_bytes(ledger_id), rows.number(seq), rows.plain_bytes(head_hash)
        )
        found = self._connection.execute(
            "select seq, class, frame, hash, request_id from entry where seq > ?1 "
            "union all "
            "select seq, class, frame, hash, request_id from dead_letter "
            "where seq > ?1 order by seq",
            (receipted,),
        )
        entries = tuple(rows.entry(each) for each in found)
        fault = None
        try:
            require_chain(
                entries,
                head,
                receipted=rows.number(receipted),
                receipted_hash=rows.plain_bytes(receipted_hash),
            )
            if signer is not None:
                require_signed(entries, signer)
        except StoreDamagedError as error:
            fault = str(error)
        return KeptLedger(
            head, rows.number(receipted), rows.number(starts), entries, fault
        )

    def dead_letters(self) -> list[tuple[SealedEntry, Code]]:
        """Return entries that the fleet refused for good, with its reasons."""
        found = self._connection.execute(
            "select seq, class, frame, hash, request_id, code from dead_letter "
            "order by seq"
        )
        return [(rows.entry(row[:5]), rows.code_of(row[5])) for row in found]

    def configurations(self) -> list[tuple[Active, int]]:
        """Return the bodies in force, with their sizes in bytes.

        Raises:
            StoreDamagedError: a body is not what was written.
        """
        sizes = {
            rows.number(kind): rows.number(size)
            for kind, size in self._connection.execute(
                "select kind, length(body) from configuration"
            )
        }
        active = rows.configurations(self._connection)
        return [(each, sizes[each.kind]) for each in active]

    def trust(self) -> KeptTrust:
        """Return the bundle in use, what is known of the time, and the key's id.

        Raises:
            StoreDamagedError: the bundle is not what was written.
        """
        return read_trust(self._connection)


@contextmanager
def look_into(ledger: Path) -> Iterator[LedgerCopy]:
    """Let the block read a copy of a ledger; the file itself is only read.

    Raises:
        FileNotFoundError: there is none: the agent has never run here.
        StoreInUseError: it changed all the time; try again.
        StoreForeignError: it is no ledger, or another version's.
        StoreBrokenError: it cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="freefloat-inspect-") as private:
        copy = Path(private) / ledger.name
        _copy_quietly(ledger, copy)
        try:
            connection = apsw.Connection(str(copy))
            try:
                _require_known(connection, ledger)
                yield LedgerCopy(connection)
            finally:
                connection.close()
        except apsw.Error as error:
            raise StoreBrokenError(
                f"the ledger {ledger} cannot be read ({error}): start the agent, which "
                "moves a damaged ledger aside"
            ) from error


def damaged_ledgers(ledger: Path) -> list[tuple[Path, int]]:
    """Return the damaged ledgers that are kept, the oldest first, with their bytes."""
    found = quarantined(SystemFiles(), ledger) if ledger.parent.is_dir() else []
    return [(path, path.stat().st_size) for path in found]


def _copy_quietly(ledger: Path, copy: Path) -> None:
    log = ledger.with_name(ledger.name + _LOG_SUFFIX)
    for _attempt in range(ATTEMPTS):
        before = _stamp(ledger), _stamp(log)
        if before[0] is None:
            raise FileNotFoundError(2, "no ledger: the agent has not run yet", ledger)
        shutil.copyfile(ledger, copy)
        beside = copy.with_name(copy.name + _LOG_SUFFIX)
        beside.unlink(missing_ok=True)
        if before[1] is not None:
            shutil.copyfile(log, beside)
        if before == (_stamp(ledger), _stamp(log)):
            return
    raise StoreInUseError(
        f"the ledger {ledger} changes faster than it can be copied: try again"
    )


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _require_known(connection: apsw.Connection, ledger: Path) -> None:
    kind = value(connection, "pragma application_id")
    version = value(connection, "pragma user_version")
    if kind != APPLICATION_ID or version != SCHEMA_VERSION:
        raise StoreForeignError(
            f"{ledger} is no ledger of this version ({kind}, {version}): start the "
            "agent once, which brings an older one up"
        )
