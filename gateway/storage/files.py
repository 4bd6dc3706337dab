"""Small files and names beside the ledger: what SQLite does not do for us.

A name that is not yet in its directory on the disk is lost by a power cut, however well
the file is synced; so everything here that changes a name syncs the directory too.
"""

import os
from pathlib import Path
from typing import Protocol


class Files(Protocol):
    """Files of one disk. What fails raises `OSError`; what returned is durable."""

    def exists(self, path: Path) -> bool:
        """Return whether there is such a file."""

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory, sorted; none if there is no directory."""

    def read(self, path: Path, limit: int) -> bytes | None:
        """Return up to `limit` bytes, None if there is no such file."""

    def write(self, path: Path, data: bytes) -> None:
        """Put these bytes in the file's place; a power cut may leave a part of them."""

    def rename(self, path: Path, to: Path) -> None:
        """Give the file another name, whole or not at all."""

    def remove(self, path: Path) -> None:
        """Remove the file; no error if it is not there."""


class SystemFiles:
    """Implements `Files` by the operating system."""

    def exists(self, path: Path) -> bool:
        """Return whether there is such a file."""
        return path.exists()

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory."""
        if not directory.is_dir():
            return []
        return sorted(entry.name for entry in directory.iterdir())

    def read(self, path: Path, limit: int) -> bytes | None:
        """Return up to `limit` bytes."""
        try:
            with path.open("rb") as file:
                return file.read(limit)
        except FileNotFoundError:
            return None

    def write(self, path: Path, data: bytes) -> None:
        """Overwrite in place, so that a full disk has room for what it had before."""
        is_new = not path.exists()
        # For the owner alone: the ledger's directory names a customer's cards.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            os.pwrite(descriptor, data, 0)
            os.ftruncate(descriptor, len(data))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_new:
            sync_directory(path.parent)

    def rename(self, path: Path, to: Path) -> None:
        """Rename, and sync the directory of both names."""
        path.rename(to)
        sync_directory(to.parent)

    def remove(self, path: Path) -> None:
        """Remove, and sync the directory."""
        path.unlink(missing_ok=True)
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
