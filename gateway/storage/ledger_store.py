"""The store of one car: state, ledger, journal and receipts in one SQLite file.

What a decision needs to be kept is kept by one transaction, so that no power cut can
leave a rental that is over and unreported, or reported and not over (reliability.md
L12). What the fleet has receipted is let go, except the hash that the chain continues
from.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import apsw

from gateway.core.acceptance import JournalRecord
from gateway.core.ledger import LedgerHead, SealedEntry
from gateway.core.state import State
from gateway.ports import Commit, RandomBytes, Stored, StoreError, Worker
from gateway.storage.chain import require_chain
from gateway.storage.database import SqlValue, open_database, typed, value
from gateway.storage.errors import StoreBrokenError, StoreDamagedError, StoreFullError
from gateway.storage.state_codec import decode_state, encode_state
from protocol.codes import Code, FrameClass
from protocol.entry import GENESIS, LEDGER_ID_SIZE, split_entry
from protocol.frame import parse_frame
from protocol.result import RESULT

JOURNAL_RECORDS: Final = 256
JOURNAL_AGE_MS: Final = 24 * 60 * 60 * 1000
"""The journal holds at least so many commands and all of this age
(protocol-design.md 1.2); an older id is a new command, which its session or its
sequence then refuses."""

DEAD_LETTERS: Final = 256
"""Rejected entries that are kept, newest first: a fleet that rejects more than these
has been alarmed by the first of them, and the ledger must stay bounded (I-20)."""

LIMIT_KIB: Final = 64 * 1024
"""Room for a ledger: about 100,000 entries, years of rentals without any receipt."""

CHECKPOINT_PAGES: Final = 256
"""Pages in the write-ahead log at which it is copied into the file: 1 MiB. The log is
never cut or deleted, so that on a full disk its own bytes are room for what still must
be kept: the end of a rental takes two pages (I-20)."""

T = TypeVar("T")


class LedgerStore:
    """Implements `gateway.ports.Store` on one file.

    Args:
        path: the file.
        worker: runs the blocking calls; it stays its owner's to close.
        random_bytes: gives a new ledger its id.
        limit_kib: how far the file may grow.
        checkpoint_pages: see `CHECKPOINT_PAGES`.
        vfs: SQLite's file system, None for the operating system's.
    """

    def __init__(
        self,
        path: Path,
        *,
        worker: Worker,
        random_bytes: RandomBytes,
        limit_kib: int = LIMIT_KIB,
        checkpoint_pages: int = CHECKPOINT_PAGES,
        vfs: str | None = None,
    ) -> None:
        self._path = path
        self._worker = worker
        self._random_bytes = random_bytes
        self._page_limit = max(limit_kib // 4, 64)
        self._checkpoint_pages = checkpoint_pages
        self._vfs = vfs
        self._connection: apsw.Connection | None = None
        self._broken: str | None = None
        self._boot_mark = ""
        self._head = LedgerHead(bytes(LEDGER_ID_SIZE), 0, GENESIS)
        self._receipted = 0
        self._hashes: dict[int, bytes] = {}
        self._log_pages = 0
        self._free_kib = 0

    async def open(self, *, boot_mark: str) -> Stored:
        """Open, count this start durably and return what is held.

        May be called again after an I/O error: the file is opened anew and what it
        holds counts, whatever earlier calls seemed to have kept (L13).

        Raises:
            StoreError: see `gateway.storage.errors`; an existing file is unchanged.
        """
        return await self._worker.run(lambda: self._open(boot_mark))

    async def commit(self, commit: Commit) -> None:
        """Make state, entries and journal durable in one transaction.

        Raises:
            StoreFullError: nothing was kept.
            StoreBrokenError: see there; adopt nothing and open anew.
        """
        await self._worker.run(lambda: self._guarded(lambda: self._commit(commit)))

    async def release(self, upto: int, rejected: Sequence[tuple[int, Code]]) -> None:
        """Free entries up to `upto` and move rejected ones to the dead letters.

        Call it with what `gateway.core.ledger.judge_receipt` allowed.

        Raises:
            StoreError: nothing changed.
        """
        await self._worker.run(
            lambda: self._guarded(lambda: self._release(upto, tuple(rejected)))
        )

    async def entries(self, first: int, limit: int) -> Sequence[SealedEntry]:
        """Return up to `limit` entries from `first` on, in order.

        Raises:
            StoreError: they cannot be read.
        """
        return await self._worker.run(
            lambda: self._guarded(lambda: self._entries(first, limit))
        )

    async def dead_letters(self) -> Sequence[tuple[SealedEntry, Code]]:
        """Return the rejected entries that are kept, with the fleet's reasons."""
        return await self._worker.run(lambda: self._guarded(self._dead_letters))

    def hash_at(self, seq: int) -> bytes | None:
        """Return the hash of an entry without a receipt, None for any other."""
        return self._hashes.get(seq)

    def free_kib(self) -> int:
        """Return the room left in the file's limit and on its disk, KiB."""
        return min(self._free_kib, self._disk_free_kib())

    async def close(self) -> None:
        """Close the file; everything committed stays."""
        await self._worker.run(self._close)

    # -- in the worker ------------------------------------------------------------

    def _open(self, boot_mark: str) -> Stored:
        self._close()
        self._broken = None
        fresh = (
            encode_state(State()),
            self._random_bytes(LEDGER_ID_SIZE),
            0, GENESIS, 0, GENESIS, 0, "",
        )  # fmt: skip
        connection = open_database(
            self._path,
            vfs=self._vfs,
            page_limit=self._page_limit,
            fresh_vehicle=fresh,
        )
        self._connection = connection
        connection.set_wal_hook(self._note_log)
        try:
            return self._guarded(lambda: self._load(boot_mark))
        except StoreError:
            self._broken = f"the ledger {self._path} could not be loaded"
            self._close()
            raise

    def _load(self, boot_mark: str) -> Stored:
        connection = self._open_connection
        (row,) = connection.execute(
            "select state, ledger_id, head_seq, head_hash, receipted, receipted_hash, "
            "boot_counter, boot_mark from vehicle"
        )
        state, ledger_id, head_seq, head_hash = row[:4]
        receipted, receipted_hash, boot_counter, last_mark = row[4:]
        head = LedgerHead(ledger_id, head_seq, head_hash)
        kept = self._unreceipted(receipted)
        require_chain(kept, head, receipted=receipted, receipted_hash=receipted_hash)
        stored = Stored(
            state=decode_state(state),
            head=head,
            receipted=receipted,
            boot_counter=boot_counter + 1,
            same_boot=last_mark == boot_mark,
            journal=tuple(self._journal()),
        )
        with self._transaction():
            connection.execute(
                "update vehicle set boot_counter = ?", (stored.boot_counter,)
            )
        # The mark says on which boot's clock the stored state counts, so it changes
        # with the state: a start that fails before its first commit carried nothing
        # over, and the next one must (I-28).
        self._boot_mark = boot_mark
        self._head, self._receipted = head, receipted
        self._hashes = {entry.seq: entry.hash for entry in kept}
        self._measure()
        return stored

    def _unreceipted(self, receipted: int) -> list[SealedEntry]:
        rows = self._open_connection.execute(
            "select seq, class, frame, hash, request_id from entry where seq > ?1 "
            "union all "
            "select seq, class, frame, hash, request_id from dead_letter "
            "where seq > ?1 order by seq",
            (receipted,),
        )
        return [_entry(row) for row in rows]

    def _journal(self) -> Iterator[JournalRecord]:
        rows = self._open_connection.execute(
            "select msg_id, request_hash, result, code from journal order by place"
        )
        for msg_id, request_hash, result, code in rows:
            yield JournalRecord(msg_id, request_hash, result, Code(code))

    def _commit(self, commit: Commit) -> None:
        connection = self._open_connection
        head = self._head
        with self._transaction():
            if commit.accepted is not None:
                accepted = commit.accepted
                connection.execute(
                    "insert into journal "
                    "(msg_id, request_hash, accepted_wall_ms, result, code) "
                    "values (?, ?, ?, null, ?)",
                    (
                        accepted.msg_id,
                        accepted.request_hash,
                        accepted.accepted_wall_ms,
                        int(Code.IN_PROGRESS),
                    ),
                )
                self._prune_journal(accepted.accepted_wall_ms)
            for entry in commit.entries:
                if entry.seq != head.seq + 1:
                    raise StoreDamagedError(
                        f"entry {entry.seq} does not follow the head {head.seq}: the "
                        "runtime and its store disagree; start again"
                    )
                self._append(entry)
                head = LedgerHead(head.ledger_id, entry.seq, entry.hash)
            connection.execute(
                "update vehicle set state = ?, head_seq = ?, head_hash = ?, "
                "boot_mark = ?",
                (encode_state(commit.state), head.seq, head.hash, self._boot_mark),
            )
        self._head = head
        self._hashes.update((entry.seq, entry.hash) for entry in commit.entries)
        self._after_write()

    def _append(self, entry: SealedEntry) -> None:
        self._open_connection.execute(
            "insert into entry values (?, ?, ?, ?, ?)",
            (
                entry.seq,
                int(entry.frame_class),
                entry.frame,
                entry.hash,
                entry.request_id,
            ),
        )
        if entry.request_id is not None:
            # Kept in the journal too, since the entry goes with its receipt and a
            # repeated command must still be answered with the same bytes (I-5).
            _, body = split_entry(parse_frame(entry.frame).payload)
            self._open_connection.execute(
                "update journal set result = ?, code = ? where msg_id = ?",
                (entry.frame, int(RESULT.parse(body).code), entry.request_id),
            )

    def _prune_journal(self, wall_ms: int) -> None:
        # A command that still runs has no result yet and is kept whatever its age.
        self._open_connection.execute(
            "delete from journal where result is not null and accepted_wall_ms < ? "
            "and place <= (select max(place) from journal) - ?",
            (wall_ms - JOURNAL_AGE_MS, JOURNAL_RECORDS),
        )

    def _release(self, upto: int, rejected: tuple[tuple[int, Code], ...]) -> None:
        connection = self._open_connection
        upto = max(upto, self._receipted)
        if upto > self._head.seq:
            raise StoreDamagedError(
                f"a receipt up to {upto}, but the ledger ends at {self._head.seq}"
            )
        head_hash = self._hashes.get(upto)
        with self._transaction():
            for seq, code in rejected:
                connection.execute(
                    "insert or ignore into dead_letter "
                    "select seq, class, frame, hash, request_id, ? from entry "
                    "where seq = ?",
                    (int(code), seq),
                )
                connection.execute("delete from entry where seq = ?", (seq,))
            connection.execute("delete from entry where seq <= ?", (upto,))
            connection.execute(
                "delete from dead_letter where seq <= ? and seq not in "
                "(select seq from dead_letter order by seq desc limit ?)",
                (upto, DEAD_LETTERS),
            )
            if head_hash is not None:
                connection.execute(
                    "update vehicle set receipted = ?, receipted_hash = ?",
                    (upto, head_hash),
                )
        for seq in [seq for seq in self._hashes if seq <= upto]:
            del self._hashes[seq]
        self._receipted = upto
        self._after_write()

    def _entries(self, first: int, limit: int) -> list[SealedEntry]:
        rows = self._open_connection.execute(
            "select seq, class, frame, hash, request_id from entry where seq >= ? "
            "order by seq limit ?",
            (first, limit),
        )
        return [_entry(row) for row in rows]

    def _dead_letters(self) -> list[tuple[SealedEntry, Code]]:
        rows = self._open_connection.execute(
            "select seq, class, frame, hash, request_id, code from dead_letter "
            "order by seq"
        )
        return [(_entry(row[:5]), Code(row[5])) for row in rows]

    def _after_write(self) -> None:
        """Copy a long log into the file, and see what room is left.

        The write itself is durable by now: a failure here belongs to the next call.
        """
        try:
            if self._log_pages >= self._checkpoint_pages:
                self._open_connection.wal_checkpoint(
                    mode=apsw.SQLITE_CHECKPOINT_PASSIVE
                )
            self._measure()
        except apsw.FullError:
            self._free_kib = 0
        except apsw.Error as error:
            self._broken = str(typed(error, self._path))

    def _measure(self) -> None:
        connection = self._open_connection
        page_size, used, unused = (
            _number(value(connection, f"pragma {name}"))
            for name in ("page_size", "page_count", "freelist_count")
        )
        pages = self._page_limit - used + unused
        self._free_kib = max(pages, 0) * page_size // 1024

    def _disk_free_kib(self) -> int:
        # Asked each time: others fill the disk while no entry is written (I-20).
        if self._vfs is None:
            with suppress(OSError):
                found = os.statvfs(self._path.parent)
                return found.f_bavail * found.f_frsize // 1024
        return self._free_kib

    def _note_log(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._broken is not None:
            # What is on the disk is read anew; nothing more is written to it before.
            with suppress(apsw.Error):
                connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        with suppress(apsw.Error):
            connection.close(force=True)

    @property
    def _open_connection(self) -> apsw.Connection:
        if self._connection is None:
            raise StoreBrokenError(f"the ledger {self._path} is not open: open it")
        return self._connection

    def _guarded(self, work: Callable[[], T]) -> T:
        if self._broken is not None:
            raise StoreBrokenError(f"{self._broken}; open the ledger anew")
        try:
            return work()
        except apsw.Error as error:
            known = typed(error, self._path)
            if not isinstance(known, StoreFullError):
                self._broken = str(known)
            raise known from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        connection = self._open_connection
        connection.execute("begin immediate")
        try:
            yield
            connection.execute("commit")
        except (apsw.Error, StoreError):
            # SQLite has rolled back itself after most errors; a rollback that fails
            # leaves a connection that must not be used again.
            if connection.in_transaction:
                try:
                    connection.execute("rollback")
                except apsw.Error as error:
                    self._broken = str(typed(error, self._path))
            raise


def _entry(row: tuple[SqlValue, ...]) -> SealedEntry:
    seq, frame_class, frame, entry_hash, request_id = row
    return SealedEntry(
        seq=_number(seq),
        frame_class=FrameClass(_number(frame_class)),
        frame=_bytes(frame),
        hash=_bytes(entry_hash),
        request_id=None if request_id is None else _bytes(request_id),
    )


def _number(found: object) -> int:
    if not isinstance(found, int):
        raise StoreDamagedError(f"a number was expected, found {type(found).__name__}")
    return found


def _bytes(found: object) -> bytes:
    if not isinstance(found, bytes):
        raise StoreDamagedError(f"bytes were expected, found {type(found).__name__}")
    return found
