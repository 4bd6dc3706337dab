"""The store of one car: state, ledger, journal and receipts in one SQLite file.

What a decision needs to be kept is kept by one transaction, so that no power cut can
leave a rental that is over and unreported, or reported and not over (reliability.md
L12). What the fleet has receipted is let go, except the hash that the chain continues
from.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import apsw

from gateway.core.configuration import Complete
from gateway.core.ledger import LedgerHead, SealedEntry
from gateway.ports import Commit, RandomBytes, Stored, StoreError, Worker
from gateway.storage import rows
from gateway.storage.chain import require_chain, require_signed
from gateway.storage.database import abandon, open_database, typed, value
from gateway.storage.errors import (
    StoreBrokenError,
    StoreDamagedError,
    StoreFullError,
    StoreRestoredError,
)
from gateway.storage.files import Files, SystemFiles
from gateway.storage.head_note import NOTE_PERIOD, HeadNotes, Loss, Note
from gateway.storage.ledger_rows import accept, append
from gateway.storage.quarantine import finish_quarantine, quarantine, quarantined
from gateway.storage.signer import Signer
from gateway.storage.state_codec import decode_state, encode_state
from gateway.storage.succession import begin_ledger, require_newest
from gateway.storage.trust_rows import forget_rotations, read_trust, write_trust
from protocol.codes import Code
from protocol.entry import GENESIS, LEDGER_ID_SIZE

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
        signer: who signs the entries; None checks no signature and salvages nothing.
        marker: file outside the ledger's directory by which the loss of all of it is
            told from a first start; None for none.
        vfs: SQLite's file system, None for the operating system's.
        files: the disk that `vfs` is on.
    """

    def __init__(
        self,
        path: Path,
        *,
        worker: Worker,
        random_bytes: RandomBytes,
        signer: Signer | None = None,
        marker: Path | None = None,
        limit_kib: int = LIMIT_KIB,
        checkpoint_pages: int = CHECKPOINT_PAGES,
        vfs: str | None = None,
        files: Files | None = None,
    ) -> None:
        self._path = path
        self._signer = signer
        self._files = SystemFiles() if files is None else files
        self._notes = HeadNotes(path, self._files, marker)
        self._noted_seq = 0
        self._condemned: Note | None = None
        self._is_looked_at = False
        self._boot_counter = 0
        self._log = logging.getLogger(__name__)
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
        holds counts, whatever earlier calls seemed to have kept (L13). A file that is
        damaged, or older than its own note of the head, is moved aside and kept, and a
        new ledger begins (reliability.md row 5).

        Raises:
            StoreError: see `gateway.storage.errors`; an existing file is unchanged.
        """
        return await self._worker.run(lambda: self._open(boot_mark))

    async def look(self, *, boot_mark: str) -> Stored | None:
        """Read what is held and write nothing, since the disk takes nothing (L13).

        Until `open` succeeds there are no entries, and every other call fails: after a
        failed fsync nobody knows which of them are on the disk, and what a power cut
        may take must not be sent (I-27).

        Returns:
            None if it cannot be read.
        """
        return await self._worker.run(lambda: self._look(boot_mark))

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
        if self._is_looked_at:
            return []
        return await self._worker.run(
            lambda: self._guarded(lambda: self._entries(first, limit))
        )

    async def release_salvaged(self, ledger_id: bytes, upto: int) -> None:
        """Free entries of an older ledger that were receipted.

        Raises:
            StoreError: nothing changed.
        """
        await self._worker.run(
            lambda: self._guarded(lambda: self._release_salvaged(ledger_id, upto))
        )

    async def forget_rotations(self, frames: Sequence[bytes]) -> None:
        """Let go of rotations that the authority has certified.

        Raises:
            StoreError: nothing changed.
        """
        await self._worker.run(
            lambda: self._guarded(lambda: self._forget_rotations(tuple(frames)))
        )

    async def configuration(self, kind: int) -> bytes | None:
        """Return the body in force of this kind, None if there is none.

        Raises:
            StoreError: it cannot be read.
        """
        return await self._worker.run(
            lambda: self._guarded(lambda: self._configuration(kind))
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
        try:
            return self._open_file(boot_mark)
        except StoreDamagedError as error:
            restored = isinstance(error, StoreRestoredError)
            aside = self._condemn(Loss.RESTORED if restored else Loss.CORRUPT)
            self._log.error(
                "= %s; the file is kept as %s and a new ledger begins", error, aside
            )
        return self._open_file(boot_mark)

    def _open_file(self, boot_mark: str) -> Stored:
        self._close()
        self._broken = None
        note = self._notes.read() if self._condemned is None else self._condemned
        try:
            finish_quarantine(self._files, self._path)
        except OSError as error:
            raise self._broken_by(error) from error
        connection = open_database(
            self._path,
            vfs=self._vfs,
            page_limit=self._page_limit,
            fill=lambda new: self._begin(new, note),
        )
        self._connection = connection
        connection.set_wal_hook(self._note_log)
        try:
            return self._guarded(lambda: self._load(boot_mark, note))
        except (TypeError, ValueError) as error:
            # A number that is no code, a text where bytes were.
            self._broken = str(error)
            raise StoreDamagedError(f"a row is not what was written: {error}") from None
        except StoreError as error:
            self._broken = str(error)
            raise
        finally:
            if self._broken is not None:
                self._close()

    def _look(self, boot_mark: str) -> Stored | None:
        self._close()
        self._broken = None
        self._is_looked_at = True
        if not self._files.exists(self._path):
            return None
        try:
            self._connection = apsw.Connection(str(self._path), vfs=self._vfs)
            self._connection.execute("pragma locking_mode = exclusive")
            return self._guarded(lambda: self._read(boot_mark, self._notes.read()))
        except (apsw.Error, StoreError, TypeError, ValueError) as error:
            self._log.error("= the ledger cannot even be read: %s", error)
            return None
        finally:
            self._broken = f"the ledger {self._path} is only looked at"
            self._close()

    def _condemn(self, loss: Loss) -> Path:
        """Move the file aside; what is known of it stays in the note."""
        note = self._notes.read()
        if note is None:
            note = Note(bytes(LEDGER_ID_SIZE), 0, GENESIS, 0)
        self._condemned = replace(note, condemned=loss)
        self._notes.write(self._condemned)
        try:
            return quarantine(self._files, self._path)
        except OSError as error:
            raise self._broken_by(error) from error

    def _broken_by(self, error: OSError) -> StoreBrokenError:
        self._broken = f"the ledger {self._path} cannot be moved aside ({error})"
        return StoreBrokenError(f"{self._broken}: check the disk, then start again")

    def _begin(self, connection: apsw.Connection, note: Note | None) -> None:
        begin_ledger(
            connection,
            self._random_bytes(LEDGER_ID_SIZE),
            note,
            quarantined=quarantined(self._files, self._path),
            vfs=self._vfs,
            signer=self._signer,
        )

    def _load(self, boot_mark: str, note: Note | None) -> Stored:
        stored = self._read(boot_mark, note)
        # What a failed fsync left in the system's memory alone is written anew, into
        # the file, before anything is built on it (L13).
        with suppress(apsw.FullError):
            self._open_connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        with self._transaction():
            self._open_connection.execute(
                "update vehicle set boot_counter = ?", (stored.boot_counter,)
            )
        # The mark says on which boot's clock the stored state counts, so it changes
        # with the state: a start that fails before its first commit carried nothing
        # over, and the next one must (I-28).
        self._boot_mark = boot_mark
        self._condemned = None
        self._is_looked_at = False
        self._note_head()
        if not self._notes.mark(self._note):
            self._log.warning(
                "= the ledger's marker cannot be written: the loss of the whole data "
                "directory would be taken for a first start"
            )
        return stored

    def _read(self, boot_mark: str, note: Note | None) -> Stored:
        connection = self._open_connection
        (row,) = connection.execute(
            "select state, ledger_id, head_seq, head_hash, receipted, receipted_hash, "
            "boot_counter, boot_mark, state_sum from vehicle"
        )
        state, ledger_id, head_seq, head_hash = row[:4]
        receipted, receipted_hash, boot_counter, last_mark, state_sum = row[4:]
        if state_sum is not None and state_sum != rows.state_sum(state):
            raise StoreDamagedError("the stored state is not what was written")
        head = LedgerHead(
            ledger_id, rows.number(head_seq, limit=rows.SEQ_LIMIT), head_hash
        )
        rows.number(boot_counter, limit=rows.STARTS_LIMIT)
        kept = self._unreceipted(receipted)
        require_chain(kept, head, receipted=receipted, receipted_hash=receipted_hash)
        if self._signer is not None:
            require_signed(kept, self._signer)
        if note is not None:
            require_newest(head, boot_counter, note)
        trust = read_trust(connection)
        stored = Stored(
            state=decode_state(state),
            head=head,
            receipted=receipted,
            boot_counter=boot_counter + 1,
            same_boot=last_mark == boot_mark,
            journal=tuple(rows.journal(connection)),
            configurations=tuple(rows.configurations(connection)),
            origin=rows.origin(connection),
            salvaged=tuple(rows.salvaged(connection)),
            time=trust.time,
            trust=trust.bundle,
            expiry_told=trust.expiry_told,
            key_id=trust.key_id,
            rotations=trust.rotations,
        )
        self._boot_counter = stored.boot_counter
        self._head, self._receipted = head, receipted
        self._hashes = {entry.seq: entry.hash for entry in kept}
        self._measure()
        return stored

    @property
    def _note(self) -> Note:
        head = self._head
        return Note(head.ledger_id, head.seq, head.hash, self._boot_counter)

    def _note_head(self) -> None:
        """Note what is durable by now; see `gateway.storage.head_note`."""
        if self._notes.write(self._note):
            self._noted_seq = self._head.seq

    def _unreceipted(self, receipted: int) -> list[SealedEntry]:
        found = self._open_connection.execute(
            "select seq, class, frame, hash, request_id from entry where seq > ?1 "
            "union all "
            "select seq, class, frame, hash, request_id from dead_letter "
            "where seq > ?1 order by seq",
            (receipted,),
        )
        return [rows.entry(row) for row in found]

    def _commit(self, commit: Commit) -> None:
        connection = self._open_connection
        head = self._head
        with self._transaction():
            if commit.accepted is not None:
                accept(connection, commit.accepted)
            for entry in commit.entries:
                if entry.seq != head.seq + 1:
                    raise StoreDamagedError(
                        f"entry {entry.seq} does not follow the head {head.seq}: the "
                        "runtime and its store disagree; start again"
                    )
                append(connection, entry)
                head = LedgerHead(head.ledger_id, entry.seq, entry.hash)
            if commit.configuration is not None:
                self._activate(commit.configuration)
            write_trust(connection, commit)
            state = encode_state(commit.state)
            connection.execute(
                "update vehicle set state = ?, state_sum = ?, head_seq = ?, "
                "head_hash = ?, boot_mark = ?",
                (state, rows.state_sum(state), head.seq, head.hash, self._boot_mark),
            )
        self._head = head
        self._hashes.update((entry.seq, entry.hash) for entry in commit.entries)
        if head.seq - self._noted_seq >= NOTE_PERIOD:
            self._note_head()
        self._after_write()

    def _activate(self, complete: Complete) -> None:
        active = complete.active
        self._open_connection.execute(
            "insert or replace into configuration values (?, ?, ?, ?)",
            (active.kind, active.version, active.sha256, complete.body),
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
                connection.execute("delete from place where seq = ?", (seq,))
            connection.execute("delete from entry where seq <= ?", (upto,))
            # Its receipt says that the fleet has the place, or will not have it.
            connection.execute("delete from place where seq <= ?", (upto,))
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
        self._note_head()
        self._after_write()

    def _release_salvaged(self, ledger_id: bytes, upto: int) -> None:
        with self._transaction():
            self._open_connection.execute(
                "delete from salvaged where ledger_id = ? and seq <= ?",
                (ledger_id, upto),
            )
        self._after_write()

    def _forget_rotations(self, frames: tuple[bytes, ...]) -> None:
        with self._transaction():
            forget_rotations(self._open_connection, frames)
        self._after_write()

    def _configuration(self, kind: int) -> bytes | None:
        for (body,) in self._open_connection.execute(
            "select body from configuration where kind = ?", (kind,)
        ):
            return rows.plain_bytes(body)
        return None

    def _entries(self, first: int, limit: int) -> list[SealedEntry]:
        found = self._open_connection.execute(
            "select seq, class, frame, hash, request_id, payload "
            "from entry left join place using (seq) where seq >= ? "
            "order by seq limit ?",
            (first, limit),
        )
        return [rows.entry(row) for row in found]

    def _dead_letters(self) -> list[tuple[SealedEntry, Code]]:
        found = self._open_connection.execute(
            "select seq, class, frame, hash, request_id, code from dead_letter "
            "order by seq"
        )
        return [(rows.entry(row[:5]), rows.code_of(row[5])) for row in found]

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
            rows.number(value(connection, f"pragma {name}"))
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
            abandon(connection)
            return
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
