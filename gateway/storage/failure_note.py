"""How often the disk failed lately, remembered where no disk is needed (L13).

A process that met an I/O error ends, and the next one starts from what the disk holds.
If that fails too, a third would fail the same way, and a customer would stand at a car
that starts for ever; so after the second failure the car begins in service mode. The
count must outlive the process and not the boot: a file of a memory file system.
"""

from contextlib import suppress
from pathlib import Path
from typing import Final

FAILURES_ALLOWED: Final = 1
"""After more than these the next start is one in service mode."""

MEMORY_MS: Final = 600_000
"""Boot clock: a failure of longer ago is another story."""

_READ_LIMIT: Final = 4_096


class FailureNote:
    """Failures of the ledger's disk in the last minutes of this boot.

    Args:
        path: file on a memory file system; None remembers in this process alone, which
            then never begins in service mode.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._noted: list[tuple[str, int]] = []

    def add(self, boot_mark: str, *, now_ms: int) -> None:
        """Note a failure."""
        noted = [*self._recent(boot_mark, now_ms), now_ms]
        self._write([(boot_mark, at_ms) for at_ms in noted])

    def clear(self) -> None:
        """Forget all: the disk takes the ledger again."""
        self._write([])

    def is_hopeless(self, boot_mark: str, *, now_ms: int) -> bool:
        """Return whether the disk has failed too often to try it at once."""
        return len(self._recent(boot_mark, now_ms)) > FAILURES_ALLOWED

    def _recent(self, boot_mark: str, now_ms: int) -> list[int]:
        return [
            at_ms
            for mark, at_ms in self._read()
            if mark == boot_mark and now_ms - at_ms <= MEMORY_MS
        ]

    def _read(self) -> list[tuple[str, int]]:
        if self._path is None:
            return self._noted
        found: list[tuple[str, int]] = []
        with suppress(OSError, UnicodeDecodeError, ValueError):
            with self._path.open("rb") as file:
                text = file.read(_READ_LIMIT).decode("ascii")
            for line in text.splitlines():
                mark, _, at_ms = line.partition(" ")
                found.append((mark, int(at_ms)))
        return found

    def _write(self, noted: list[tuple[str, int]]) -> None:
        self._noted = noted
        if self._path is not None:
            lines = "".join(f"{mark} {at_ms}\n" for mark, at_ms in noted)
            with suppress(OSError):
                self._path.write_text(lines, "ascii")
