"""SQLite's log is copied beside the writer, and never grows without end."""

import logging
import shutil
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from bridge import wal_checkpoint
from bridge.sqlite_database import SqliteDatabase
from bridge.wal_checkpoint import INLINE_PAGES, WalCheckpointer

WAIT_S = 20.0


@pytest.fixture(autouse=True)
def short_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wal_checkpoint, "PAUSE_S", 0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bridge.sqlite"


def add(database: SqliteDatabase, name: str, value: str = "1") -> None:
    database.transact(
        lambda c: c.exec_driver_sql(
            "INSERT INTO meta (name, value) VALUES (?, ?)", (name, value)
        ),
        writes=True,
    )


def named_in_file_alone(path: Path, copy: Path) -> set[str]:
    """Return what the file holds without its log."""
    shutil.copy(path, copy)
    connection = sqlite3.connect(copy)
    try:
        return {name for (name,) in connection.execute("SELECT name FROM meta")}
    except sqlite3.DatabaseError:  # not even the table yet, or copied in mid-write
        return set()
    finally:
        connection.close()


def test_what_is_committed_soon_stands_in_the_file_itself(
    path: Path, tmp_path: Path
) -> None:
    database = SqliteDatabase(path)
    database.open()
    try:
        add(database, "fresh")
        end_s = time.monotonic() + WAIT_S
        while "fresh" not in named_in_file_alone(path, tmp_path / "copy"):
            assert time.monotonic() < end_s
            time.sleep(0.02)
    finally:
        database.close()


def test_the_log_begins_anew_while_the_writer_goes_on(path: Path) -> None:
    # Far below the size at which SQLite does it within a commit.
    database = SqliteDatabase(path)
    database.open()
    written, log = 0, path.with_name(f"{path.name}-wal")
    try:
        end_s = time.monotonic() + WAIT_S
        while written < 8 * log.stat().st_size or written < 4_000_000:
            add(database, f"{written}", "x" * 10_000)
            written += 10_000
            assert time.monotonic() < end_s
    finally:
        database.close()

    assert written < INLINE_PAGES * 4096


def test_erasing_never_meets_a_checkpoint_of_ours(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # K26: SQLite refuses a second checkpoint at one time, and does not wait for it.
    monkeypatch.setattr(wal_checkpoint, "PAUSE_S", 0.0)
    database = SqliteDatabase(path)
    database.open()
    try:
        for number in range(150):
            add(database, f"{number}", "x" * 1_000)
            database.forget()
    finally:
        database.close()


def test_a_checkpoint_that_fails_is_said_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpointer = WalCheckpointer(tmp_path / "absent" / "bridge.sqlite")
    checkpointer.start()
    try:
        for count in (1, 2):
            with checkpointer.writing():
                pass
            end_s = time.monotonic() + WAIT_S
            while len(caplog.records) < count:
                assert time.monotonic() < end_s
                time.sleep(0.02)
    finally:
        checkpointer.close()

    assert caplog.records[0].levelno == logging.WARNING
    assert "unable to open database file" in caplog.text
    assert "store-checkpoint" not in {one.name for one in threading.enumerate()}


class _EndingBehindTheLook(threading.Event):
    """Set by another thread just when the checkpointer has seen that it is not."""

    wrote: threading.Event

    def wait(self, timeout: float | None = None) -> bool:
        is_ending = super().wait(timeout)
        if not is_ending:
            self.set()
            self.wrote.set()
        return is_ending


def test_an_end_between_two_looks_of_the_thread_is_seen(path: Path) -> None:
    """I-34: a bridge waited for this thread for ever, which waited for a write."""
    checkpointer, ending = WalCheckpointer(path), _EndingBehindTheLook()
    ending.wrote = checkpointer._wrote
    checkpointer._ending = ending
    checkpointer.start()
    thread = checkpointer._thread
    assert thread is not None

    with checkpointer.writing():
        pass
    thread.join(WAIT_S)
    is_over = not thread.is_alive()
    checkpointer._wrote.set()

    assert is_over
    checkpointer.close()


def test_closing_twice_or_before_the_start_does_nothing(path: Path) -> None:
    checkpointer = WalCheckpointer(path)
    checkpointer.close()
    checkpointer.start()
    checkpointer.close()
    checkpointer.close()
