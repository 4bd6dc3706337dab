"""A copy of a bridge's SQLite store, and putting one back.

PostgreSQL's own tools copy a PostgreSQL better (pg_dump, or its archive for a loss of
seconds); what `mark` does is needed after either.

Rule 1: a copy is whole or not there, and is looked through before anybody relies on it.
Rule 2: what a restore replaces is moved aside and never deleted.
Rule 3: no copy holds the keys of places. They go into a file of their own, of which
only the newest is kept: a place that is erased is then unreadable in every copy (K26).
"""

import os
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Final

from bridge.database import Database
from bridge.errors import SettingsError, StoreError
from bridge.rows.restoration import mark_restored
from bridge.schema import place_keys
from bridge.sqlite_database import SqliteDatabase
from bridge.store import Store

PAGES: Final = 2_000
"""Pages copied at once: 8 MB, between which the bridge may write."""


_KEYS: Final = place_keys.name
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_IS_DAMAGED: Final = "the copy is damaged"
_TAKE_KEYS: Final = (
    f"CREATE TABLE apart.{_KEYS} AS SELECT * FROM main.{_KEYS}",  # noqa: S608 - our own name
    f"DELETE FROM main.{_KEYS}",  # noqa: S608 - our own name
)
_GIVE_KEYS: Final = (
    f"INSERT OR IGNORE INTO main.{_KEYS} SELECT * FROM apart.{_KEYS}",  # noqa: S608 - our own name
)


def back_up(source: Path, target: Path, *, keys: Path | None = None) -> int:
    """Copy a store, also while a bridge runs on it; return the copy's bytes.

    Args:
        source: the store.
        target: where nothing may be yet; made with mode 0600.
        keys: where the keys of its places go, in place of those of the backup before;
            None to keep none, so that nobody can read a place in the copy.

    Raises:
        SettingsError: there is no store, something is at `target`, the disk is full or
            the copy is damaged; nothing is left at `target`.
    """
    if not source.is_file():
        raise SettingsError(
            f"there is no store {source}", advice="name the bridge's own settings"
        )
    partial = target.with_name(f".{target.name}.partial")
    # Beside where they go, since a rename does not leave its disk.
    apart = target if keys is None else keys
    partial_keys = apart.with_name(f".{apart.name}.keys")
    try:
        _make_private(partial)
        try:
            _copy(source, partial)
            _make_private(partial_keys)
            _move_keys(partial, partial_keys, _TAKE_KEYS)
            _require_whole(partial)
            _sync(partial)
            os.link(partial, target)  # fails where something is, unlike a rename
            if keys is not None:
                _sync(partial_keys)
                partial_keys.replace(keys)
                _sync(keys.parent)
        finally:
            partial.unlink(missing_ok=True)
            partial_keys.unlink(missing_ok=True)
        _sync(target.parent)
    except FileExistsError as error:
        raise SettingsError(
            f"{error.filename2 or error.filename} exists already",
            advice="name a new file: no backup is ever overwritten",
        ) from error
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(
            f"{source} was not copied to {target}: {_said(error)}",
            advice=_advice(error),
        ) from error
    return target.stat().st_size


def restore(
    path: Path, backup: Path, *, fleet_id: bytes, now: int, keys: Path | None = None
) -> tuple[int, str]:
    """Put a copy in the place of a store, and mark it; no bridge may run on it.

    Args:
        path: of the store.
        backup: the copy; it stays as it is.
        fleet_id: whose store it must be.
        now: UTC ms.
        keys: the newest keys of places; places without one count as erased.

    Returns:
        How many cars are in doubt, and where the former store lies now, or nothing.

    Raises:
        SettingsError: the copy is damaged, of another fleet or of a newer freefloat, or
            a bridge runs on the store. The former store is in its place.
    """
    for file in (backup, *([] if keys is None else [keys])):
        if not file.is_file():
            raise SettingsError(
                f"there is no backup {file}", advice="name another file"
            )
    partial = path.with_name(f".{path.name}.restored")
    partial.unlink(missing_ok=True)
    try:
        back_up(backup, partial)
        _require_free(path)
        if keys is not None:
            _move_keys(partial, keys, _GIVE_KEYS)
        # On the copy, so that whatever is refused leaves the store as it is.
        doubted = mark(SqliteDatabase(partial), fleet_id=fleet_id, now=now)
        _give_away(partial, path)
        _give_away(path.with_name(f"{path.name}.lock"), path)
        aside = _move_aside(path)
        partial.rename(path)
        _sync(path.parent)
    except (OSError, sqlite3.Error) as error:
        raise SettingsError(
            f"{path} was not restored: {_said(error)}",
            advice="check who may write to its directory, and the file of keys",
        ) from error
    finally:
        for end in ("", "-wal", "-shm", ".lock"):
            partial.with_name(f"{partial.name}{end}").unlink(missing_ok=True)
    return doubted, aside


def mark(database: Database, *, fleet_id: bytes, now: int) -> int:
    """Make a restored store safe to go on with; return how many cars are in doubt.

    Raises:
        SettingsError: it cannot be used, or is of another fleet or a newer freefloat.
    """
    Store(database, fleet_id=fleet_id).open()
    try:
        return database.transact(lambda c: mark_restored(c, now=now), writes=True)
    except StoreError as error:
        raise SettingsError(
            f"store {database.name} was not marked: {error}",
            advice="stop every bridge on it, then do it again",
        ) from error
    finally:
        database.close()


def _move_aside(path: Path) -> str:
    if not path.exists():
        return ""
    names = (path.with_name(f"{path.name}.before-{n}") for n in count(1))
    aside = next(name for name in names if not name.exists())
    for end in ("-wal", "-shm", ""):
        beside = path.with_name(f"{path.name}{end}")
        if beside.exists():
            beside.rename(aside.with_name(f"{aside.name}{end}"))
    return str(aside)


def _give_away(made: Path, store: Path) -> None:
    """Give a file that root made to the store's owner, or to its directory's.

    Who restores is mostly root, and the bridge is not: it could not open its store.
    """
    if os.geteuid() != 0:
        return
    owner = (store if store.exists() else store.parent).stat()
    # The directory is theirs: a link that they lay there gives them nothing of root's.
    os.chown(made, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _require_free(path: Path) -> None:
    """Return if no bridge runs on a store."""
    database = SqliteDatabase(path)
    database.take()
    database.close()


def _copy(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(source)) as reading,
        closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing, pages=PAGES)
        # One file, without a log beside it.
        writing.execute("PRAGMA journal_mode=DELETE").close()


def _move_keys(copy: Path, apart: Path, statements: tuple[str, ...]) -> None:
    """Take the keys of places out of a copy, or put them into it, in one transaction.

    A copy of a store that an older release left has none.
    """
    with closing(sqlite3.connect(copy)) as connection:
        # What is deleted is overwritten.
        connection.execute("PRAGMA secure_delete=ON").close()
        connection.execute("ATTACH DATABASE ? AS apart", (str(apart),)).close()
        query = "SELECT count(*) FROM main.sqlite_schema WHERE name = ?"
        if connection.execute(query, (_KEYS,)).fetchone() == (0,):
            return
        with connection:
            for statement in statements:
                connection.execute(statement).close()


def _said(error: OSError | sqlite3.Error) -> str:
    """Return what an error says, without the number and the names of our own files."""
    told = error.strerror if isinstance(error, OSError) else None
    return told.lower() if told else str(error)


def _advice(error: OSError | sqlite3.Error) -> str:
    """Return what to do about a copy that was not made."""
    if isinstance(error, FileNotFoundError):
        return "check the paths, also that of --keys: their directories must be there"
    if getattr(error, "sqlite_errorcode", 0) in _DAMAGED or _IS_DAMAGED in str(error):
        return (
            "what should be copied is damaged: take another backup, or look at the disk"
        )
    return "check the disk's free space and who may write there"


def _require_whole(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("PRAGMA integrity_check").fetchone()
    if found != ("ok",):
        raise sqlite3.DatabaseError(f"{_IS_DAMAGED}: {found}")


def _make_private(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
