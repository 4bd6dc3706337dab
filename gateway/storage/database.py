"""The SQLite file of a car: its tables, and how it is opened.

Rule 1: every connection writes through to the disk before a commit returns
(synchronous=FULL), and that is read back, because the setting belongs to the connection
and not to the file: NORMAL lost committed rows in three of four simulated power cuts
(reliability.md L11).
Rule 2: one connection has the file for itself (locking_mode=EXCLUSIVE), so SQLite needs
no shared memory, and a second gateway on one ledger is refused instead of forking it.
Rule 3: entries never change; the file itself refuses it.
"""

import ctypes
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import apsw

from gateway.storage.errors import (
    StoreBrokenError,
    StoreDamagedError,
    StoreForeignError,
    StoreFullError,
    StoreInUseError,
)
from gateway.storage.files import sync_directory

SqlValue = int | float | bytes | str | None
"""What SQLite holds; apsw names it in its stubs only."""

APPLICATION_ID: Final = 0x46464C31
""""FFL1" in the file's header: another program's database is not taken for a ledger."""

SCHEMA_VERSION: Final = 5

_VERSIONS_LIMIT: Final = 1_000
"""A schema beyond this was never written: the number itself is damaged."""

_FULL: Final = 2
"""What `pragma synchronous` answers for FULL."""

_SCHEMA: Final = """
create table vehicle (
    id integer primary key check (id = 1),
    state blob not null,
    ledger_id blob not null check (length(ledger_id) = 8),
    head_seq integer not null,
    head_hash blob not null check (length(head_hash) = 32),
    receipted integer not null check (receipted between 0 and head_seq),
    receipted_hash blob not null check (length(receipted_hash) = 32),
    boot_counter integer not null,
    boot_mark text not null
) strict;
create table entry (
    seq integer primary key check (seq > 0),
    class integer not null,
    frame blob not null,
    hash blob not null check (length(hash) = 32),
    request_id blob
) strict;
create trigger entry_is_immutable before update on entry begin
    select raise(abort, 'ledger entries never change');
end;
create table dead_letter (
    seq integer primary key,
    class integer not null,
    frame blob not null,
    hash blob not null,
    request_id blob,
    code integer not null
) strict;
create table journal (
    place integer primary key autoincrement,
    msg_id blob not null unique check (length(msg_id) = 16),
    request_hash blob not null check (length(request_hash) = 32),
    accepted_wall_ms integer not null,
    result blob,
    code integer not null
) strict;
"""

_ADDITIONS: Final = {
    2: """
alter table vehicle add column state_sum blob;
create table origin (
    id integer primary key check (id = 1),
    previous_ledger_id blob not null check (length(previous_ledger_id) = 8),
    previous_seq integer not null,
    previous_hash blob not null check (length(previous_hash) = 32),
    reason integer not null
) strict;
create table salvaged (
    ledger_id blob not null check (length(ledger_id) = 8),
    seq integer not null,
    class integer not null,
    frame blob not null,
    hash blob not null check (length(hash) = 32),
    primary key (ledger_id, seq)
) strict;
create table configuration (
    kind integer primary key,
    version integer not null,
    sha256 blob not null check (length(sha256) = 32),
    body blob not null
) strict;
""",
    3: """
create table place (
    seq integer primary key,
    payload blob not null
) strict;
""",
    4: """
create table trust (
    id integer primary key check (id = 1),
    bundle blob not null,
    sha256 blob not null check (length(sha256) = 32),
    expiry_told integer not null
) strict;
create table known_time (
    id integer primary key check (id = 1),
    floor_ms integer not null,
    boot_ms integer not null,
    quality integer not null
) strict;
create table signing_key (
    id integer primary key check (id = 1),
    key_id blob not null check (length(key_id) = 8)
) strict;
""",
    5: """
create table rotation (
    place integer primary key autoincrement,
    frame blob not null
) strict;
""",
}
"""What each version adds to the one before; a file is brought up when it is opened."""


def open_database(
    path: Path,
    *,
    vfs: str | None,
    page_limit: int,
    fill: Callable[[apsw.Connection], None],
) -> apsw.Connection:
    """Open the file, or make it.

    Args:
        path: the file; its directory is made if it does not exist.
        vfs: SQLite's file system; None for the operating system's.
        page_limit: pages that the file may grow to.
        fill: puts the first rows into a new file, in the transaction that makes it.

    Raises:
        StoreError: the file cannot be used; a file that existed was not changed.
    """
    if vfs is None:
        _prepare(path)
    try:
        connection = apsw.Connection(str(path), vfs=vfs)
    except apsw.Error as error:
        raise typed(error, path) from error
    try:
        # Exclusive first: it must be in force when the log is first touched.
        connection.execute("pragma locking_mode = exclusive")
        _require_ours(connection, path)
        _configure(connection, page_limit)
        version = value(connection, "pragma user_version")
        if version != SCHEMA_VERSION:
            _bring_up(connection, int(str(version)), fill)
        verdict = value(connection, "pragma quick_check(1)")
    except apsw.Error as error:
        abandon(connection)
        raise typed(error, path) from error
    except BaseException:
        abandon(connection)
        raise
    if verdict != "ok":
        abandon(connection)
        raise StoreDamagedError(_damaged(path, str(verdict)))
    return connection


_DAMAGE: Final = (
    apsw.CorruptError,
    apsw.NotADBError,
    apsw.FormatError,
    # Our statements are right: a column that is not there was renamed by a flipped bit.
    apsw.SQLError,
    apsw.ConstraintError,
    apsw.MismatchError,
)


def abandon(connection: apsw.Connection) -> None:
    """Close without writing: what is on the disk is read anew, or kept as evidence."""
    with suppress(apsw.Error):
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    with suppress(apsw.Error):
        connection.close(force=True)


def typed(
    error: apsw.Error, path: Path
) -> StoreFullError | StoreBrokenError | StoreDamagedError | StoreInUseError:
    """Say who must do what about an error of SQLite."""
    if isinstance(error, apsw.FullError):
        return StoreFullError(
            f"no room for the ledger {path} ({error}): free space on its disk, or wait "
            "for receipts"
        )
    if isinstance(error, apsw.BusyError | apsw.LockedError):
        return StoreInUseError(
            f"another process uses the ledger {path}: stop the other gateway"
        )
    if isinstance(error, _DAMAGE):
        return StoreDamagedError(_damaged(path, str(error)))
    return StoreBrokenError(
        f"the ledger {path} cannot be read or written ({error}): check the disk, then "
        "start again"
    )


def value(connection: apsw.Connection, statement: str) -> object:
    """Return the one value that a statement gives, None for no row."""
    for row in connection.execute(statement):
        return row[0]
    return None


def _damaged(path: Path, detail: str) -> str:
    return (
        f"the ledger {path} is damaged ({detail}); the fleet must close an open rental "
        "by hand"
    )


def _prepare(path: Path) -> None:
    """Make directory and file for their owner alone: the state names customers' cards.

    SQLite would make the file with the process's mask. A name that is not yet in its
    directory on the disk is lost by a power cut, however well the file is synced.
    """
    try:
        for directory in reversed((path.parent, *path.parent.parents)):
            if not directory.exists():
                directory.mkdir(mode=0o700)
                sync_directory(directory.parent)
        if not path.exists():
            path.touch(mode=0o600)
            sync_directory(path.parent)
    except OSError as error:
        raise StoreBrokenError(
            f"the ledger {path} cannot be made ({error.strerror}): give its directory "
            "to the user that runs the gateway"
        ) from error


def _configure(connection: apsw.Connection, page_limit: int) -> None:
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    # Checkpoints are made by the store, which looks at how they end.
    connection.execute("pragma wal_autocheckpoint = 0")
    # The log stays on the disk when it is closed: see `CHECKPOINT_PAGES`.
    stays = ctypes.c_int(1)
    connection.file_control(
        "main", apsw.SQLITE_FCNTL_PERSIST_WAL, ctypes.addressof(stays)
    )
    connection.execute("pragma trusted_schema = off")
    # What a receipt frees is gone: places above all (FF-PLC-04).
    connection.execute("pragma secure_delete = on")
    connection.execute("pragma cell_size_check = on")
    connection.execute(f"pragma max_page_count = {page_limit}")
    found = (
        value(connection, "pragma locking_mode"),
        value(connection, "pragma journal_mode"),
        value(connection, "pragma synchronous"),
    )
    if found != ("exclusive", "wal", _FULL):
        raise StoreBrokenError(
            f"SQLite gives locking mode, journal mode and synchronous {found}, not "
            f"('exclusive', 'wal', {_FULL}): a power cut could lose entries"
        )


def _require_ours(connection: apsw.Connection, path: Path) -> None:
    version = value(connection, "pragma user_version")
    application = value(connection, "pragma application_id")
    tables = value(connection, "select count(*) from sqlite_master")
    if (version, application, tables) == (0, 0, 0):
        return
    if application != APPLICATION_ID:
        raise StoreDamagedError(
            f"{path} is another program's database: check the data directory"
        )
    if not isinstance(version, int) or not 1 <= version <= _VERSIONS_LIMIT:
        raise StoreDamagedError(_damaged(path, f"schema {version}"))
    if version > SCHEMA_VERSION:
        raise StoreForeignError(
            f"the ledger {path} has schema {version}, this gateway knows "
            f"{SCHEMA_VERSION}: install the version that wrote it"
        )


def _bring_up(
    connection: apsw.Connection,
    version: int,
    fill: Callable[[apsw.Connection], None],
) -> None:
    """Make a new file, or add what a newer gateway needs, in one transaction."""
    connection.execute("begin immediate")
    try:
        if not version:
            connection.execute(_SCHEMA)
        for addition in range(max(version, 1) + 1, SCHEMA_VERSION + 1):
            connection.execute(_ADDITIONS[addition])
        if not version:
            fill(connection)
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {SCHEMA_VERSION}")
        connection.execute("commit")
    except apsw.Error:
        if connection.in_transaction:
            connection.execute("rollback")
        raise
