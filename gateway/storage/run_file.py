"""The note of the agent's runs, on the disk beside the ledger (I-30).

Whole or not at all: written under another name and renamed. What cannot be read counts
as no note, and what no disk takes is not counted: a full disk must not keep an agent
from starting. A copy in memory, where there is a place for it, is as new as the boot
and counts before the disk, which may take nothing more.
"""

import logging
from pathlib import Path
from typing import Final

import msgspec

from gateway.core.restart_storm import RunNote
from gateway.storage.files import Files

RUN_FILE: Final = "runs.json"
"""Its name, beside the ledger."""

_LIMIT: Final = 4_096
_LOG: Final = logging.getLogger(__name__)


class RunFile:
    """The note in its file.

    Args:
        directory: of the ledger.
        files: the disk.
        name: of the file.
        memory: a directory that outlives the process and not the boot; None for none.
    """

    def __init__(
        self,
        directory: Path,
        files: Files,
        *,
        name: str = RUN_FILE,
        memory: Path | None = None,
    ) -> None:
        self._path = directory / name
        self._copy = None if memory is None else memory / name
        self._files = files
        self.writes = 0
        """Of this run: the flash is worn by each."""

    def read(self) -> RunNote:
        """Return the note; that of a new car if there is none or it is damaged."""
        for path in (self._copy, self._path):
            note = None if path is None else self._read(path)
            if note is not None:
                return note
        return RunNote()

    def _read(self, path: Path) -> RunNote | None:
        try:
            data = self._files.read(path, _LIMIT)
            return None if data is None else msgspec.json.decode(data, type=RunNote)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _LOG.warning("= the note of the agent's runs is not readable: %s", error)
            return None

    def write(self, note: RunNote) -> None:
        """Keep the note, if the disk takes it."""
        if self._copy is not None:
            self._write(self._copy, note)
        self.writes += self._write(self._path, note)

    def _write(self, path: Path, note: RunNote) -> bool:
        beside = path.with_suffix(".new")
        try:
            self._files.write(beside, msgspec.json.encode(note))
            self._files.rename(beside, path)
        except OSError as error:
            _LOG.warning("= the note of the agent's runs is not kept: %s", error)
            return False
        return True
