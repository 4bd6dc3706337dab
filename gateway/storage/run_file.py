"""The note of the agent's runs, on the disk beside the ledger (I-30).

Whole or not at all: written under another name and renamed. What cannot be read counts
as no note, and what cannot be written is not counted: a full disk must not keep an
agent from starting.
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
    """

    def __init__(self, directory: Path, files: Files) -> None:
        self._path = directory / RUN_FILE
        self._files = files
        self.writes = 0
        """Of this run: the flash is worn by each."""

    def read(self) -> RunNote:
        """Return the note; that of a new car if there is none or it is damaged."""
        try:
            data = self._files.read(self._path, _LIMIT)
            return (
                RunNote() if data is None else msgspec.json.decode(data, type=RunNote)
            )
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            _LOG.warning("= the note of the agent's runs is not readable: %s", error)
            return RunNote()

    def write(self, note: RunNote) -> None:
        """Keep the note, if the disk takes it."""
        beside = self._path.with_suffix(".new")
        try:
            self._files.write(beside, msgspec.json.encode(note))
            self._files.rename(beside, self._path)
            self.writes += 1
        except OSError as error:
            _LOG.warning("= the note of the agent's runs is not kept: %s", error)
