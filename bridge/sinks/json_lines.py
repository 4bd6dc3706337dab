"""A file with one CloudEvent a line: for people, for scripts, for `tail -f`."""

import asyncio
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bridge.errors import SettingsError, SinkError
from bridge.group_commit import GroupCommit
from bridge.rows.outbox import OutboxRow

PARALLEL: Final = 64
"""Events that one flush of the disk makes durable; a flush for each would cost more
than everything else that is done for a ledger entry."""

MODE: Final = 0o640
"""The file tells who drove when; it is not for every user of the machine."""


class JsonLinesSink:
    """Appends events to a file, each durable before it counts as taken.

    A crash between the write and the cursor writes an event again: readers drop
    repeated ``id``. A line that a crash cut is ended before the next one is written.
    """

    parallel = PARALLEL

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path
        self._descriptor: int | None = None
        self._using = threading.Lock()
        """Held while the file is written or closed: who was told to stop has gone, and
        the thread that writes for it has not."""
        self._appending = GroupCommit(self._append_all)

    @property
    def name(self) -> str:
        """Names its cursor."""
        return self._name

    async def open(self) -> None:
        """Open or make the file."""
        await asyncio.to_thread(self._open)

    async def deliver(self, row: OutboxRow) -> None:
        """Append one event."""
        try:
            await self._appending.submit(row.body + b"\n")
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}") from error

    async def close(self) -> None:
        """Close the file, behind what is being written to it."""
        await asyncio.to_thread(self._close)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self._path, flags, MODE)
            size = os.fstat(self._descriptor).st_size
            if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
                self._append(b"\n")
        except OSError as error:
            raise SettingsError(
                f"sink {self._name}: {self._path}: {error.strerror}",
                advice="check the path and its owner",
            ) from error

    def _close(self) -> None:
        with self._using:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    async def _append_all(self, lines: Sequence[bytes]) -> Sequence[None]:
        await asyncio.to_thread(self._append, b"".join(lines))
        return [None] * len(lines)

    def _append(self, data: bytes) -> None:
        with self._using:
            descriptor = self._descriptor
            if descriptor is None:
                raise OSError(0, "the sink is not open")
            size = os.fstat(descriptor).st_size
            try:
                left = memoryview(data)
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
            except OSError:
                # A full disk: no half line may stay before the whole one, and no line
                # of which nobody will hear that it was taken.
                os.ftruncate(descriptor, size)
                raise
