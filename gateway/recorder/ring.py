"""The recorder's files: a ring of compressed pieces that never outgrows its place.

Each run of the agent begins a new file; the oldest files go when all together would
take more than `RING_LIMIT`. A file is a stream of gzip that is flushed after each
write, so one that was cut off is good up to there.

Flash is worn by writes, so they are counted: at most `DAY_LIMIT` bytes are written in a
day whatever happens, and the file is synced at most once in `SYNC_MS`. What the system
has taken survives the end of the process at once, and a power cut after a sync.
"""

import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.recorder.record import Record, RecordError, parse_line

RING_LIMIT: Final = 1_048_576
"""Bytes of all files together, counted in blocks."""

FILE_LIMIT: Final = 131_072
"""Bytes of one; then another begins, so that the oldest eighth goes and not half."""

BLOCK: Final = 4_096
"""What a file system takes for the smallest file."""

DAY_LIMIT: Final = 2_097_152
"""Bytes written in a day at most; a car that is rented twenty times a day writes a
tenth of it (docs/operations.md)."""

BURST_LIMIT: Final = 524_288
"""Bytes of that which may be written at once."""

SYNC_MS: Final = 60_000
"""Between two syncs, each of which costs the flash a page or two besides."""

_DAY_MS: Final = 86_400_000
_GZIP: Final = 31
"""`wbits` of a stream with gzip's header (zlib)."""

_READ_LIMIT: Final = 64 * 1_048_576
"""Bytes that are unpacked of one file: a ring of far more than there is."""


class Ring:
    """Writes; call it from one thread.

    Args:
        directory: of the files; made when the first is.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None
        self._press = zlib.compressobj(wbits=_GZIP)
        self._size = 0
        self._credit = BURST_LIMIT
        self._credited_ms: int | None = None
        self._synced_ms: int | None = None
        self.written = 0
        """Bytes written so far."""

    @property
    def needs_file(self) -> bool:
        """Whether the next write begins a file, which must begin with a frame."""
        return self._descriptor is None

    def append(self, lines: bytes, *, now_ms: int) -> bool:
        """Write lines; returns False if the day's share is used up, and nothing was.

        Raises:
            OSError: it is not known what was written; the next write begins a file.
        """
        self._earn(now_ms)
        if self._credit <= 0:
            return False
        try:
            self._write(lines, now_ms)
        except OSError:
            self.close()
            raise
        return True

    def _earn(self, now_ms: int) -> None:
        if self._credited_ms is not None:
            passed_ms = max(0, now_ms - self._credited_ms)
            earned = passed_ms * DAY_LIMIT // _DAY_MS
            if not earned:
                return
            self._credit = min(BURST_LIMIT, self._credit + earned)
        self._credited_ms = now_ms

    def _write(self, lines: bytes, now_ms: int) -> None:
        descriptor = self._open() if self._descriptor is None else self._descriptor
        data = self._press.compress(lines) + self._press.flush(zlib.Z_SYNC_FLUSH)
        os.write(descriptor, data)
        self._size += len(data)
        self._credit -= len(data)
        self.written += len(data)
        if self._synced_ms is None or now_ms - self._synced_ms >= SYNC_MS:
            os.fdatasync(descriptor)
            self._synced_ms = now_ms
        if self._size >= FILE_LIMIT:
            self.close()

    def _open(self) -> int:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = recordings(self._directory)
        self._make_room(files)
        number = 1 + (_number(files[-1]) if files else 0)
        path = self._directory / f"flight-{number:08}.jsonl.gz"
        # For the owner alone, as the ledger's directory.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        self._descriptor = os.open(path, flags, 0o600)
        self._press = zlib.compressobj(wbits=_GZIP)
        self._size = 0
        self._synced_ms = None
        return self._descriptor

    def _make_room(self, files: list[Path]) -> None:
        sizes = [_blocks(path) for path in files]
        total = sum(sizes) + FILE_LIMIT
        for path, size in zip(files, sizes, strict=True):
            if total <= RING_LIMIT:
                return
            path.unlink(missing_ok=True)
            total -= size

    def close(self) -> None:
        """Sync and close the file; the next write begins another."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with suppress(OSError):
                os.fdatasync(descriptor)
            os.close(descriptor)


def _blocks(path: Path) -> int:
    return -(-path.stat().st_size // BLOCK) * BLOCK


def _number(path: Path) -> int:
    return int(path.name.removeprefix("flight-").partition(".")[0])


def recordings(directory: Path) -> list[Path]:
    """Return the recorder's files in a directory, the oldest first."""
    return sorted(directory.glob("flight-[0-9]*.jsonl.gz"))


def read_lines(path: Path) -> Iterator[bytes]:
    """Yield the whole lines of a file, or of all files of a directory in order.

    A file that was cut off ends with its last whole line.

    Raises:
        OSError: it cannot be read.
    """
    paths = recordings(path) if path.is_dir() else [path]
    for each in paths:
        lines = _unpacked(each.read_bytes()).split(b"\n")
        yield from (line for line in lines[:-1] if line)


def _unpacked(data: bytes) -> bytes:
    found = bytearray()
    while data:
        unpress = zlib.decompressobj(wbits=_GZIP)
        with suppress(zlib.error):
            found += unpress.decompress(data, _READ_LIMIT - len(found))
        data = unpress.unused_data
    return bytes(found)


def read_records(path: Path) -> Iterator[Record]:
    """Yield what `read_lines` finds, read.

    Raises:
        OSError: it cannot be read.
        RecordError: a line of it is none.
    """
    found = False
    for line in read_lines(path):
        found = True
        yield parse_line(line)
    if not found:
        raise RecordError(
            f"{path} has no recording: name a file or directory of the flight "
            "recorder, such as /var/lib/freefloat/recorder"
        )
