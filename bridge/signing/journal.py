"""What a signer signed: a line for each signature, each chained to the one before.

A file for each day of UTC, ``signed-2027-01-15.jsonl``. A line that is edited, moved or
taken out breaks the chain there. Lines cut off the end do not, so the bridge writes the
head of this log into its own audit trail whenever it connects: an entry that was noted
there must still be here, with its hash (K14).
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from bridge.errors import SettingsError, StoreError

GENESIS: Final = bytes(32)
"""What the first entry is chained to."""

PATTERN: Final = "signed-*.jsonl"
LINE_LIMIT: Final = 4_096
"""Bytes of a line; one has about 500."""

Facts = Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the log."""

    entry: int = 0
    """The last entry; 0 for none."""
    digest: bytes = GENESIS
    """Its hash."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line."""

    number: int
    """1 for the first, without gaps."""
    facts: Facts
    """What was signed."""
    previous: bytes
    """The hash of the entry before."""
    digest: bytes
    """Of this one."""


def chained(head: Head, facts: Facts) -> Entry:
    """Return the entry that follows."""
    number = head.entry + 1
    return Entry(number, facts, head.digest, _digest(number, facts, head.digest))


def faults_of(entries: Iterable[Entry], noted: Head | None = None) -> list[str]:
    """Return what is wrong with a log, naming the entries.

    Args:
        entries: in the order of the files.
        noted: a head that somebody wrote down elsewhere.
    """
    faults, last = [], Head()
    for entry in entries:
        if entry.number != last.entry + 1:
            faults.append(
                f"entry {entry.number}: entry {last.entry + 1} should stand here"
            )
        elif entry.previous != last.digest:
            faults.append(f"entry {entry.number}: does not follow the one before")
        if entry.digest != _digest(entry.number, entry.facts, entry.previous):
            faults.append(f"entry {entry.number}: was edited")
        if noted and noted.entry == entry.number and noted.digest != entry.digest:
            faults.append(f"entry {entry.number}: is not the one that was noted")
        last = Head(entry.number, entry.digest)
    if noted and noted.entry > last.entry:
        faults.append(f"entry {noted.entry}: was noted and is gone")
    return faults


def read_log(directory: Path) -> Iterator[Entry]:
    """Yield every entry, the oldest first.

    Raises:
        SettingsError: a line is none; says which.
        OSError: a file cannot be read.
    """
    for path in sorted(directory.glob(PATTERN)):
        yield from _read(path)


class Journal:
    """The log of a running signer; blocks."""

    def __init__(self, directory: Path) -> None:
        """Find the end of the log; makes the directory if it is not there.

        A last line that a crash left half is cut off: what it says was never answered.

        Raises:
            SettingsError: the log cannot be read or written, or its last file is no
                chain; nobody signs before a person looked at it.
        """
        self._directory = directory
        self._day = ""
        self._file: int | None = None
        self.recent: list[Entry] = []
        """The entries of the last two files: what caps are counted from."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            paths = sorted(directory.glob(PATTERN))[-2:]
            for path in paths[-1:]:
                _cut_half_line(path)
            for path in paths:
                self.recent += _read(path)
        except OSError as error:
            raise SettingsError(
                f"log {directory} cannot be used: {error.strerror}",
                advice="check path and owner of the signer's log",
            ) from error
        for before, after in zip(self.recent, self.recent[1:], strict=False):
            if after.previous != before.digest:
                raise SettingsError(
                    f"log {directory}: entry {after.number} does not follow the one "
                    "before",
                    advice="somebody was at it: run `freefloat signer verify`",
                )
        last = self.recent[-1] if self.recent else None
        self.head = Head(last.number, last.digest) if last else Head()
        """The last entry that is durable."""

    def append(self, facts: Sequence[Facts], *, now: int) -> list[Entry]:
        """Write entries and return when they are durable.

        Raises:
            StoreError: none of them counts; nothing may be answered.
        """
        head, entries = self.head, []
        for fact in facts:
            entry = chained(head, fact)
            entries.append(entry)
            head = Head(entry.number, entry.digest)
        try:
            file = self._open(now)
            start = os.fstat(file).st_size
            try:
                os.write(file, b"".join(map(_line, entries)))
                os.fsync(file)
            except OSError:
                os.ftruncate(file, start)
                raise
        except OSError as error:
            raise StoreError(f"the signer's log takes nothing: {error}") from error
        self.head = head
        return entries

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self, now: int) -> int:
        day = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y-%m-%d")
        # A clock that goes back must not put entries into an earlier file.
        if self._file is None or day > self._day:
            self.close()
            names = [path.name for path in self._directory.glob(PATTERN)]
            last = max(names, default="").removeprefix("signed-")
            self._day = max(day, last.removesuffix(".jsonl"))
            path = self._directory / f"signed-{self._day}.jsonl"
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
            self._file = os.open(path, flags, 0o600)
            directory = os.open(self._directory, os.O_RDONLY)
            os.fsync(directory)
            os.close(directory)
        return self._file


def _line(entry: Entry) -> bytes:
    document = {
        "n": entry.number,
        **entry.facts,
        "prev": entry.previous.hex(),
        "hash": entry.digest.hex(),
    }
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _read(path: Path) -> Iterator[Entry]:
    with path.open("rb") as file:
        for place, line in enumerate(file, 1):
            try:
                found: dict[str, Any] = json.loads(line[:LINE_LIMIT])
                number, previous = found.pop("n"), bytes.fromhex(found.pop("prev"))
                yield Entry(int(number), found, previous, _pop_hash(found))
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise SettingsError(
                    f"line {place} of {path} is no entry of a signer's log",
                    advice="somebody was at it: compare it with a copy",
                ) from error


def _pop_hash(found: dict[str, Any]) -> bytes:
    return bytes.fromhex(found.pop("hash"))


def _cut_half_line(path: Path) -> None:
    data = path.read_bytes()
    whole = data.rfind(b"\n") + 1
    if whole != len(data):
        os.truncate(path, whole)


def _digest(number: int, facts: Facts, previous: bytes) -> bytes:
    text = json.dumps([number, dict(facts)], separators=(",", ":"))
    return hashlib.sha256(b"ff-signed-v1\0" + previous + text.encode()).digest()
