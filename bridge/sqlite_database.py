"""The embedded default: one SQLite file, used by one bridge at a time.

Rule 1: WAL with synchronous=FULL on *every* connection, because the pragma belongs to
the connection: NORMAL lost committed rows in 640 of 850 simulated power cuts, FULL in
none (reliability.md L11).
Rule 2: a second bridge on the same file is refused at its start. Two would throw each
other off the broker for ever.
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from bridge.database import Signal, sentence, transact
from bridge.errors import SettingsError, StoreError
from bridge.kept_vehicles import OPTION, KeptVehicles
from bridge.migrations.migration import migrate
from bridge.rows.vehicles import catch_up, write_kept
from bridge.wal_checkpoint import INLINE_PAGES, WalCheckpointer

BUSY_TIMEOUT_S: Final = 5.0
"""How long a reader may wait for a lock: checkpoints take milliseconds."""

CONNECTIONS: Final = 3
"""One that writes, one that reads for the API, one for the sinks."""

_WRITES: Final = "writes"

T = TypeVar("T")


class SqliteDatabase:
    """One file; `open` it first and `close` it last."""

    is_shared = False

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine: Engine | None = None
        self._writing: Engine | None = None
        self._lock: int | None = None
        self._kept = KeptVehicles()
        self._checkpointer = WalCheckpointer(path)

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self._path)

    def open(self) -> None:
        """Open or make the file, and bring its tables up to date; blocks.

        Raises:
            SettingsError: it cannot be used, another bridge uses it, or a newer
                freefloat made it.
        """
        self.take()
        try:
            self._open_file()
        except SettingsError:
            self._drop_lock()
            raise

    def take(self) -> None:
        """Keep a second bridge out, until `close`.

        Raises:
            SettingsError: another bridge is on this file, or it cannot be locked.

        The lock lies in a file of its own, since closing the database's file anywhere
        in a process drops SQLite's own locks on it (fcntl(2)).
        """
        path = self._path.with_name(f"{self._path.name}.lock")
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise self._unusable(error.strerror) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise SettingsError(
                f"another bridge uses the store {self._path}",
                advice="stop the other bridge, or set store.path to another file; "
                "several bridges share a PostgreSQL, see store.url",
            ) from error
        self._lock = lock

    def _drop_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open_file(self) -> None:
        try:
            # It tells who drove when: nobody else reads it, nor its WAL, which SQLite
            # gives the same mode.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as error:
            raise self._unusable(error.strerror) from error
        engine = create_engine(
            URL.create("sqlite", database=str(self._path)),
            poolclass=QueuePool,
            pool_size=CONNECTIONS,
            max_overflow=0,
            connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_S},
        )
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
        engine = engine.execution_options(**{OPTION: self._kept})
        writing = engine.execution_options(**{_WRITES: True})
        try:
            with writing.begin() as connection:
                migrate(connection, name=self.name)
                catch_up(connection)
        except (SQLAlchemyError, sqlite3.Error) as error:
            engine.dispose()
            raise self._unusable(sentence(error)) from error
        except SettingsError:
            engine.dispose()
            raise
        self._engine, self._writing = engine, writing
        self._checkpointer.start()

    def _unusable(self, reason: str | None) -> SettingsError:
        return SettingsError(
            f"store {self._path} cannot be used: {reason}",
            advice="check the path, its owner and the free space on its disk",
        )

    def close(self) -> None:
        """Write what was kept in memory, and close the file; blocks."""
        if self._engine is not None:
            with contextlib.suppress(StoreError):
                # What cannot be written now is found again by `catch_up`.
                self.transact(write_kept, writes=True)
            self._checkpointer.close()
            self._engine.dispose()
            self._engine = self._writing = None
        self._drop_lock()

    def transact(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        """Do `work` in one transaction; blocks.

        Raises:
            StoreError: it was undone whole.
        """
        if not writes:
            return self._transact(work, writes=False)
        with self._checkpointer.writing():
            try:
                done = self._transact(work, writes=True)
                self._kept.apply()
                return done
            finally:
                self._kept.undo()  # what was not committed

    def _transact(self, work: Callable[[Connection], T], *, writes: bool) -> T:
        try:
            return transact(self._writing if writes else self._engine, work)
        except sqlite3.Error as error:
            raise StoreError(f"the store did not commit: {sentence(error)}") from error

    def forget(self) -> None:
        """Copy the log into the file and cut it; blocks, outside of any transaction.

        Raises:
            StoreError: somebody reads the log; call again.
        """
        if self._engine is None:
            raise StoreError("the store is not open")
        connection = self._engine.raw_connection()
        try:
            cursor = connection.cursor()
            with self._checkpointer.lock:
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                is_busy, *_ = cursor.fetchone() or (1,)
            cursor.close()
        except sqlite3.Error as error:
            raise StoreError(f"the log was not cut: {sentence(error)}") from error
        finally:
            connection.close()
        if is_busy:
            raise StoreError("the log was not cut: somebody reads it; erase once more")

    async def signals(self) -> AsyncIterator[Signal]:
        """Yield nothing: no other bridge writes here."""
        await asyncio.Event().wait()
        yield  # type: ignore[misc]  # makes this a generator; never reached


def _prepare(dbapi_connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transaction handling begins too late for a read in a write
    # transaction; `_begin` says BEGIN itself (SQLAlchemy, SQLite dialect, pysqlite).
    dbapi_connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        "foreign_keys=ON",
        # Most frames of a batch are of cars whose pages lie far apart: 32 MiB.
        "cache_size=-32768",
        # An erased place is overwritten, not merely forgotten (K26).
        "secure_delete=ON",
        f"busy_timeout={int(BUSY_TIMEOUT_S * 1000)}",
        f"wal_autocheckpoint={INLINE_PAGES}",
    ):
        dbapi_connection.execute(f"PRAGMA {pragma}").close()


def _begin(connection: Connection) -> None:
    # A transaction that will write takes the lock first: one that has read already
    # could not take it any more if another process wrote in between.
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
