"""A disk in memory that loses what was not synced: SQLite on it meets power cuts.

Writes reach a cache; only a sync makes them durable. After a cut every unsynced write
survives, is lost, or is torn: each of its 512-byte sectors decides for itself, and
truncations and deletions too. A file that was never synced may be missing altogether.
The production store runs on it unchanged, by SQLite's own file system interface
(reliability.md L11, rows 1, 3 and 4).
"""

import errno
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import apsw

SECTOR: Final = 512

_JOURNALS: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL

_NAMES: Final = itertools.count()

Fault = Callable[[str, str], apsw.Error | None]
"""Given kind of operation and file; returns what to raise."""


class PowerCut(apsw.IOError):
    """The power is off: nothing is written any more.

    It is an I/O error to SQLite, so that production code which swallows I/O errors and
    goes on is found out.
    """


@dataclass(slots=True)
class _Write:
    offset: int
    data: bytes


@dataclass(slots=True)
class _Truncate:
    size: int


@dataclass(slots=True)
class _File:
    cache: bytearray = field(default_factory=bytearray)
    durable: bytearray | None = None
    unsynced: list[_Write | _Truncate] = field(default_factory=list)


class Disk:
    """Files, how durable they are, and what goes wrong with them."""

    def __init__(self) -> None:
        self.files: dict[str, _File] = {}
        self.deleted: dict[str, _File] = {}
        self.renamed: list[tuple[str, str]] = []
        """Old and new names that a sync of the directory has not made durable."""
        self.operations = 0
        self.mounts = 0
        """How often it was mounted, power cuts notwithstanding."""
        self.cut_at: int | None = None
        """The operation at which the power goes, and stays, off."""
        self.fault: Fault | None = None
        """Asked before each operation that changes something."""
        self.capacity: int | None = None
        """Bytes that all files may take together; None for enough."""

    @property
    def used(self) -> int:
        """Bytes that all files take."""
        return sum(len(file.cache) for file in self.files.values())

    @property
    def free_kib(self) -> int | None:
        """What is free; None for enough."""
        return None if self.capacity is None else (self.capacity - self.used) // 1024

    def leave(self, left_kib: int | None) -> None:
        """Let others fill the disk up to so much, or make room again."""
        self.capacity = None if left_kib is None else self.used + left_kib * 1024

    def grow(self, more: int) -> None:
        """Let a file take more bytes; what is in a file already is never short."""
        if more > 0 and self.capacity is not None and self.used + more > self.capacity:
            raise apsw.FullError("no space left on the disk")

    def cut(self) -> None:
        """Switch the power off now."""
        self.cut_at = self.operations

    def tick(self, kind: str, name: str) -> None:
        """Count one operation that changes something; raise what is due."""
        if self.cut_at is not None and self.operations >= self.cut_at:
            raise PowerCut("power is off")
        self.operations += 1
        error = None if self.fault is None else self.fault(kind, name)
        if error is not None:
            raise error

    def after_power_cut(self, rng: random.Random) -> "Disk":
        """Return what a machine finds when the power is back."""
        found = Disk()
        found.mounts = self.mounts
        for name, file in [*self.deleted.items(), *self.files.items()]:
            if name in self.deleted and rng.random() < 0.5:
                continue  # the deletion reached the disk
            if file.durable is None and rng.random() < 0.5:
                continue  # its name never reached the directory
            image = bytearray(file.durable or b"")
            for change in file.unsynced:
                _survive(image, change, rng)
            found.files[name] = _File(bytearray(image), image)
        for old, new in reversed(self.renamed):
            if new in found.files and old not in found.files and rng.random() < 0.5:
                found.files[old] = found.files.pop(new)
        return found


def _survive(image: bytearray, change: _Write | _Truncate, rng: random.Random) -> None:
    if isinstance(change, _Truncate):
        if rng.random() < 0.5:
            del image[change.size :]
        return
    for start in range(0, len(change.data), SECTOR):
        if rng.random() < 0.5:
            _put(image, change.offset + start, change.data[start : start + SECTOR])


def _put(image: bytearray, offset: int, data: bytes) -> None:
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


class DiskVfs(apsw.VFS):
    """SQLite's way to a `Disk`; register one for each connection."""

    def __init__(self, disk: Disk) -> None:
        self.name = f"disk-{next(_NAMES)}"
        disk.mounts += 1
        self.mount = disk.mounts
        self.files = DiskFiles(disk)
        self.disk = disk
        super().__init__(self.name, "")

    def xOpen(  # type: ignore[override] # noqa: N802 - SQLite's name; any such object
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> "DiskFile":
        plain = name.filename() if isinstance(name, apsw.URIFilename) else name
        flags[1] = flags[0]
        return DiskFile(
            self.disk,
            plain or f"temporary-{next(_NAMES)}",
            syncs_directory=bool(flags[0] & _JOURNALS),
        )

    def xDelete(self, name: str, syncdir: bool) -> None:  # noqa: N802
        self.disk.tick("delete", name)
        file = self.disk.files.pop(name, None)
        if file is not None and not syncdir:
            self.disk.deleted[name] = file

    def xAccess(self, name: str, flags: int) -> bool:  # noqa: N802, ARG002
        return name in self.disk.files

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name


class DiskFiles:
    """`gateway.storage.files.Files` on a `Disk`."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def exists(self, path: Path) -> bool:
        return str(path) in self._disk.files

    def names(self, directory: Path) -> list[str]:
        known = (Path(name) for name in self._disk.files)
        return sorted(path.name for path in known if path.parent == directory)

    def read(self, path: Path, limit: int) -> bytes | None:
        file = self._disk.files.get(str(path))
        return None if file is None else bytes(file.cache[:limit])

    def write(self, path: Path, data: bytes) -> None:
        with _system_errors():
            self._disk.tick("write", str(path))
            file = self._disk.files.setdefault(str(path), _File())
            self._disk.grow(len(data) - len(file.cache))
            _put(file.cache, 0, data)
            file.unsynced.append(_Write(0, bytes(data)))
            del file.cache[len(data) :]
            file.unsynced.append(_Truncate(len(data)))
            self._disk.tick("sync", str(path))
            file.durable = bytearray(file.cache)
            file.unsynced.clear()

    def rename(self, path: Path, to: Path) -> None:
        with _system_errors():
            self._disk.tick("rename", str(path))
            self._disk.files[str(to)] = self._disk.files.pop(str(path))
            self._disk.renamed.append((str(path), str(to)))
            self._disk.tick("sync", str(to.parent))
            self._disk.renamed.clear()

    def remove(self, path: Path) -> None:
        with _system_errors():
            self._disk.tick("delete", str(path))
            file = self._disk.files.pop(str(path), None)
            if file is not None:
                self._disk.deleted[str(path)] = file
            self._disk.tick("sync", str(path.parent))
            self._disk.deleted.clear()


@contextmanager
def _system_errors() -> Iterator[None]:
    try:
        yield
    except apsw.FullError as error:
        raise OSError(errno.ENOSPC, str(error)) from error
    except apsw.Error as error:
        raise OSError(errno.EIO, str(error)) from error


class DiskFile:
    """One open file."""

    def __init__(self, disk: Disk, name: str, *, syncs_directory: bool) -> None:
        self._disk = disk
        self._name = name
        self._syncs_directory = syncs_directory and name not in disk.files
        disk.deleted.pop(name, None)
        self._file = disk.files.setdefault(name, _File())

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        return bytes(self._file.cache[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.tick("write", self._name)
        self._disk.grow(offset + len(data) - len(self._file.cache))
        _put(self._file.cache, offset, data)
        self._file.unsynced.append(_Write(offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._disk.tick("truncate", self._name)
        del self._file.cache[size:]
        self._file.unsynced.append(_Truncate(size))

    def xSync(self, flags: int) -> None:  # noqa: N802, ARG002
        self._disk.tick("sync", self._name)
        self._file.durable = bytearray(self._file.cache)
        self._file.unsynced.clear()
        if self._syncs_directory:
            # SQLite's own file system does so at a new journal's first sync
            # (os_unix.c, UNIXFILE_DIRSYNC); deletions before it are durable then.
            self._disk.deleted.clear()
            self._syncs_directory = False

    def xFileSize(self) -> int:  # noqa: N802
        return len(self._file.cache)

    def xClose(self) -> None:  # noqa: N802
        pass

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: N802, ARG002
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return SECTOR

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return 0
