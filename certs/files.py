"""Writing files that must not be lost, overwritten or read by others.

Rule 1: a file is created, never opened for overwriting (O_EXCL), so that no second run
and no race can destroy a key. Rule 2: a private file has mode 0600 from the first
moment on; a mode set afterwards would leave a gap. Rule 3: what others may look for
appears whole or not at all: it is made under another name and renamed or linked.
"""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from certs.errors import BusyError, ExistsError, FleetError

PRIVATE_FILE: Final = 0o600
PUBLIC_FILE: Final = 0o644
PRIVATE_DIRECTORY: Final = 0o700
PUBLIC_DIRECTORY: Final = 0o755

OTHERS: Final = 0o077
"""Permission bits of group and others: none on a private key."""

_LOCK_STEP_S: Final = 0.02

PARTIAL: Final = ".partial-"
"""Part of the name of everything that is not finished yet."""


def make_directory(path: Path, *, private: bool) -> None:
    """Create one directory.

    Raises:
        OSError: it exists or cannot be made.
    """
    path.mkdir(mode=PRIVATE_DIRECTORY if private else PUBLIC_DIRECTORY)


def write_new(path: Path, data: bytes, *, private: bool) -> None:
    """Create a file and bring its bytes to the disk.

    Raises:
        ExistsError: something has that name; it is untouched.
        OSError: it could not be written; no file is left behind.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, PRIVATE_FILE if private else PUBLIC_FILE)
    except FileExistsError:
        raise ExistsError(
            f"{path} exists already", "it was not touched; nothing is overwritten"
        ) from None
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def publish_new(path: Path, data: bytes) -> None:
    """Create a public file that is either whole or not there.

    Raises:
        ExistsError: something has that name; it is untouched.
        OSError: it could not be written; no file is left behind.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}{secrets.token_hex(4)}")
    write_new(partial, data, private=False)
    try:
        os.link(partial, path)  # fails if the name is taken, unlike a rename
    except FileExistsError:
        raise ExistsError(
            f"{path} exists already", "it was not touched; nothing is overwritten"
        ) from None
    finally:
        partial.unlink()
    sync_directory(path.parent)


@contextmanager
def new_tree(target: Path, *, private: bool) -> Iterator[Path]:
    """Give a directory to fill, and put it in its place when all went well.

    On any failure inside the block everything in it is removed and `target` is as it
    was. A killed process leaves a directory with ``.partial-`` in its name behind,
    which holds nothing that was ever used and can be deleted.

    Args:
        target: the final path; nothing or an empty directory may be there.
        private: whether only the owner may enter.

    Raises:
        ExistsError: something is at `target`; it is untouched.
        FleetError: what was made could neither be put in place nor removed.
        OSError: it could not be made.
    """
    require_absent(target)
    partial = target.with_name(f".{target.name}{PARTIAL}{secrets.token_hex(4)}")
    make_directory(partial, private=True)
    try:
        yield partial
        if not private:
            partial.chmod(PUBLIC_DIRECTORY)
        sync_directory(partial)
        require_absent(target)
        partial.rename(target)  # replaces an empty directory, refuses any other
        sync_directory(target.parent)
    except BaseException as error:
        remove_tree(partial, error)
        raise


def require_absent(target: Path) -> None:
    """Return if nothing, or an empty directory, has this path.

    Raises:
        ExistsError: something has; it is untouched.
    """
    if not os.path.lexists(target):
        return
    if not target.is_dir() or target.is_symlink():
        raise ExistsError(f"{target} exists and is no directory", "choose another path")
    if any(target.iterdir()):
        raise ExistsError(
            f"{target} exists and is not empty",
            "choose another path; nothing is ever overwritten",
        )


def remove_tree(path: Path, cause: BaseException) -> None:
    """Remove what this process made before `cause` stopped it.

    Raises:
        FleetError: it could not be removed; the message names it.
    """
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FleetError(
            f"{path} is half made ({cause}) and could not be removed: {error.strerror}",
            "remove it by hand: it holds keys that nobody uses",
        ) from cause


def replace_file(path: Path, data: bytes, *, private: bool = False) -> None:
    """Put a file in the place of one that may be there, whole at every instant.

    Raises:
        OSError: it could not be written; what was there is untouched.
    """
    partial = path.with_name(f".{path.name}{PARTIAL}{secrets.token_hex(4)}")
    write_new(partial, data, private=private)
    try:
        partial.rename(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Bring a directory's entries to the disk; names are data too."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def exclusive(directory: Path, *, wait_s: float = 0) -> Iterator[None]:
    """Hold a directory alone among processes and threads that ask in the same way.

    Raises:
        BusyError: another one held it for longer than `wait_s`.
    """
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        end = time.monotonic() + wait_s
        while not _locked(handle):
            if time.monotonic() >= end:
                raise BusyError(
                    f"another process is issuing in {directory.parent}",
                    "wait until it has ended, then try again",
                )
            time.sleep(_LOCK_STEP_S)
        yield
    finally:
        with suppress(OSError):  # closing releases the lock in any case
            os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_private(path: Path) -> bytes:
    """Read a private key's file, which nobody else may be able to read.

    Raises:
        FleetError: missing, or readable by group or others.
    """
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except FileNotFoundError:
        raise FleetError(
            f"{path} is missing", "bring it back from where it is kept offline"
        ) from None
    if mode & OTHERS:
        raise FleetError(
            f"{path} can be read by others (mode {mode & 0o777:04o})",
            f"if nobody did, close it: chmod 600 {path}; otherwise replace the key",
        )
    return data
