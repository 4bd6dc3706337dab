"""Copying SQLite's log into its file beside the writer, and not within a commit.

Theory of operation. In WAL mode a commit appends pages to a log, and from time to time
the log is copied into the database's file and begun anew. SQLite does that within the
commit that reaches 1,000 pages: 6 to 50 ms (measured), in which a bridge of a large
fleet stores nothing, every 35 commits. A passive checkpoint by another connection needs
no lock that a writer wants (sqlite.org, "Write-Ahead Logging", 2.3). So a thread does
it soon after something was written. The log begins anew only when all of it was copied,
and a busy writer has gone on meanwhile: so what is left, some pages, is copied between
two transactions. Should all this fail or fall behind, SQLite does it within a commit as
before, at `INLINE_PAGES`.
"""

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

PAUSE_S: Final = 0.5
"""From a commit to the checkpoint: under load some 1,000 pages come together, of which
many are the same ones."""

BUSY_TIMEOUT_MS: Final = 20
"""How long the end of a checkpoint keeps the next transaction waiting for somebody who
still reads what was before."""

LOG_PAGES: Final = 1_000
"""4 MiB of log, from which it is to begin anew: SQLite's own default."""

INLINE_PAGES: Final = 16_384
"""64 MiB of log, at which the writer does it itself."""

_LOG: Final = logging.getLogger(__name__)


class WalCheckpointer:
    """A thread with a connection of its own; `start` it first and `close` it last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._wrote = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self.lock = threading.Lock()
        """Held during a checkpoint: two at one time are refused by SQLite."""
        self._transaction = threading.Lock()
        self._gate = threading.Event()
        self._gate.set()

    def start(self) -> None:
        """Begin to wait for something to be written."""
        self._ending.clear()
        self._thread = threading.Thread(
            target=self._run, name="store-checkpoint", daemon=True
        )
        self._thread.start()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Do a transaction that writes within it; waits for the end of a checkpoint."""
        self._gate.wait()
        with self._transaction:
            yield
        self._wrote.set()

    def close(self) -> None:
        """End the thread, after the checkpoint under way."""
        if self._thread is not None:
            self._ending.set()
            self._wrote.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        try:
            while self._wrote.wait() and not self._ending.wait(PAUSE_S):
                self._wrote.clear()
                if self._ending.is_set():
                    # `close` came between the two lines above: its word is wiped out.
                    break
                try:
                    if connection is None:
                        connection = _connect(self._path)
                    self._checkpoint(connection)
                except sqlite3.Error as error:
                    # The writer does it itself then; nothing is lost.
                    _LOG.warning("= no checkpoint beside the writer: %s", error)
        finally:
            if connection is not None:
                connection.close()

    def _checkpoint(self, connection: sqlite3.Connection) -> None:
        with self.lock:
            if _copy(connection, "PASSIVE") < LOG_PAGES:
                return
            # A lock alone would go to the writer again and again, who is awake.
            self._gate.clear()
            try:
                with self._transaction:
                    _copy(connection, "FULL")
            finally:
                self._gate.set()


def _copy(connection: sqlite3.Connection, mode: str) -> int:
    """Do a checkpoint; return how many pages the log had when it began."""
    pages: int
    query = f"PRAGMA wal_checkpoint({mode})"
    _is_busy, pages, _copied = connection.execute(query).fetchone()
    return pages


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None
    )
    # A checkpoint syncs as its own connection says, not as the writer's.
    connection.execute("PRAGMA synchronous=FULL").close()
    return connection
