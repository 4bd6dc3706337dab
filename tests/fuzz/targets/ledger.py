"""A car's storage: whatever lies in its files, a store opens or says why not.

Input: edits of a sound ledger, one after another, each an operation and its bytes:
values of rows, raw bytes of the file, a shorter file, a note of the head, a state or an
entry. Checksums and signatures are mended where the operation says so: else the reader
would refuse everything at the first of them. Every call may raise `StoreError` alone.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from gateway.core.configuration import Active, Complete
from gateway.core.known_time import KnownTime
from gateway.core.ledger import SealedEntry, Signatory, seal_entry
from gateway.core.moment import Moment
from gateway.core.state import State
from gateway.ports import Commit, Stored, StoreError
from gateway.storage.head_note import decode_note
from gateway.storage.ledger_store import LedgerStore
from gateway.storage.quarantine import salvage
from gateway.storage.rows import state_sum
from gateway.storage.worker import InlineWorker
from protocol.codes import ClockQuality, Code
from protocol.entry import entry_hash
from protocol.errors import DecodeError
from protocol.event import AgentStarted
from protocol.frame import parse_frame
from protocol.keys import SIGNATURE_SIZE
from protocol.signing import to_be_signed
from tests.fuzz.target import Target
from tests.fuzz.targets.frames import with_length
from tests.gateway.fleet_end import FLEET_ID, VEHICLE, VEHICLE_KEY
from tests.gateway.world import SIGNER, SeededBytes

T = TypeVar("T")

_MEMORY_DISK: Final = "/dev/shm"
"""Where fsync costs nothing, if there is such a place."""

_NOW: Final = Moment(1_000, 2_000_000_000_000, ClockQuality.NTP)
_SIGNATORY: Final = Signatory(VEHICLE, FLEET_ID, bytes(16), VEHICLE_KEY)
_KIND: Final = 1
_EDITS_LIMIT: Final = 8

_TABLES: Final = {
    "vehicle": "state ledger_id head_seq head_hash receipted receipted_hash "
    "boot_counter boot_mark state_sum",
    "entry": "seq class frame hash request_id",
    "dead_letter": "seq class frame hash request_id code",
    "journal": "msg_id request_hash accepted_wall_ms result code",
    "origin": "previous_ledger_id previous_seq previous_hash reason",
    "salvaged": "ledger_id seq class frame hash",
    "configuration": "kind version sha256 body",
    "place": "seq payload",
    "trust": "bundle sha256 expiry_told",
    "known_time": "floor_ms boot_ms quality",
    "signing_key": "key_id",
}
_COLUMNS: Final = tuple(
    (table, column) for table, columns in _TABLES.items() for column in columns.split()
)
_FILES: Final = ("ledger.db", "ledger.db-wal", "ledger.db-note1", "ledger.db-note2")

_ROW, _RAW, _CUT, _NOTE, _STATE, _ENTRY = range(6)
_INTEGER, _BLOB, _TEXT, _NULL = range(4)


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run what never waits: the worker is in place."""
    try:
        work.send(None)
    except StopIteration as ended:
        value: T = ended.value
        return value
    raise AssertionError("the store waited for something")


def _store(path: Path) -> LedgerStore:
    return LedgerStore(
        path, worker=InlineWorker(), random_bytes=SeededBytes(1), signer=SIGNER
    )


def _directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(
        prefix="freefloat-fuzz-",
        dir=_MEMORY_DISK if os.access(_MEMORY_DISK, os.W_OK) else None,
    )


def _next(stored: Stored, count: int) -> tuple[SealedEntry, ...]:
    entries, head = [], stored.head
    for number in range(count):
        entry, head = seal_entry(
            AgentStarted(number + 1, bytes(4)), head, _SIGNATORY, now=_NOW
        )
        entries.append(entry)
    return tuple(entries)


def _made() -> dict[str, bytes]:
    """Return the files of a ledger in which every table has a row."""
    body = b"a configuration"
    active = Active(_KIND, 1, hashlib.sha256(body).digest())
    with _directory() as directory:
        path = Path(directory) / "ledger.db"
        store = _store(path)
        stored = _run(store.open(boot_mark="a"))
        entries = _next(stored, 5)
        commit = Commit(
            State(version=7),
            (replace(entries[0], place=bytes(44)), *entries[1:]),
            None,
            configuration=Complete(active, body),
            time=KnownTime(2_000_000_000_000, 1_000, ClockQuality.GNSS),
            trust=b"a bundle",
            key_id=VEHICLE_KEY.key_id,
        )
        _run(store.commit(commit))
        _run(store.release(2, [(2, Code.BAD_PARAM)]))
        _run(store.close())
        connection = apsw.Connection(str(path))
        connection.execute(
            "insert into journal values (1, ?, ?, 0, null, ?);"
            "insert into origin values (1, ?, 5, ?, 2);"
            "insert into salvaged select x'0102030405060708', seq, class, frame, hash "
            "from entry where seq = 5;"
            "insert into place values (5, ?)",
            (
                bytes(16),
                bytes(32),
                int(Code.IN_PROGRESS),
                bytes(8),
                bytes(32),
                bytes(44),
            ),
        )
        connection.execute("drop trigger entry_is_immutable")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        connection.close()
        return {
            file.name: file.read_bytes() for file in sorted(Path(directory).iterdir())
        }


_SOUND: Final = _made()


class _Reader:
    """Takes an input apart; what is not there is zero or empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def is_over(self) -> bool:
        return not self._data

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self.take(size).ljust(size, b"\0"), "big")

    def take(self, size: int) -> bytes:
        taken, self._data = self._data[:size], self._data[size:]
        return taken

    def sized(self) -> bytes:
        return self.take(self.number(2))


@dataclass(frozen=True, slots=True)
class _Disk:
    """The files that an input bends."""

    directory: Path

    @property
    def ledger(self) -> Path:
        return self.directory / _FILES[0]

    def edit(self, reader: _Reader) -> None:
        operation = reader.number() % 6
        if operation == _RAW:
            file = self._file(reader)
            data = bytearray(file.read_bytes())
            at, new = reader.number(3), reader.sized()
            data[at : at + len(new)] = new
            file.write_bytes(data)
        elif operation == _CUT:
            file = self._file(reader)
            file.write_bytes(file.read_bytes()[: reader.number(3)])
        elif operation == _NOTE:
            self._note(reader)
        else:
            try:
                self._rows(operation, reader)
            except apsw.Error:
                return  # SQLite takes no such value, or the file no longer

    def _file(self, reader: _Reader) -> Path:
        file = self.directory / _FILES[reader.number() % len(_FILES)]
        file.touch()
        return file

    def _note(self, reader: _Reader) -> None:
        file = self.directory / _FILES[2 + reader.number() % 2]
        is_mended, data = reader.number() & 1, reader.sized()
        if is_mended:
            data += hashlib.sha256(data).digest()[:16]
        file.write_bytes(data)

    def _rows(self, operation: int, reader: _Reader) -> None:
        connection = apsw.Connection(str(self.ledger))
        try:
            connection.execute("pragma ignore_check_constraints = on")
            if operation == _STATE:
                state = reader.sized()
                connection.execute(
                    "update vehicle set state = ?, state_sum = ?",
                    (state, state_sum(state)),
                )
            elif operation == _ENTRY:
                self._entry(connection, reader)
            else:
                table, column = _COLUMNS[reader.number() % len(_COLUMNS)]
                at = reader.number() % 8
                connection.execute(
                    f"update {table} set {column} = ?1 where rowid = "  # noqa: S608 - our own names
                    f"(select rowid from {table} limit 1 offset ?2)"
                    if table != "salvaged"
                    else f"update {table} set {column} = ?1 where ?2 = ?2",  # noqa: S608 - our own names
                    (_value(reader), at),
                )
        finally:
            connection.close(force=True)

    def _entry(self, connection: apsw.Connection, reader: _Reader) -> None:
        """Put a frame in the newest entry's place, signed and hashed anew."""
        frame = _signed(reader.sized())
        connection.execute(
            "update entry set frame = ?1, hash = ?2 where seq = "
            "(select max(seq) from entry)",
            (frame, entry_hash(frame)),
        )
        connection.execute("update vehicle set head_hash = ?", (entry_hash(frame),))


def _value(reader: _Reader) -> int | bytes | str | None:
    kind = reader.number() % 4
    if kind == _INTEGER:
        return int.from_bytes(reader.take(8).ljust(8, b"\0"), "big", signed=True)
    if kind == _BLOB:
        return reader.sized()
    if kind == _TEXT:
        return reader.sized().decode("latin-1")
    return None


def _signed(unsigned: bytes) -> bytes:
    frame = with_length(unsigned + bytes(SIGNATURE_SIZE))
    try:
        frame_class = parse_frame(frame).header.frame_class
    except DecodeError:
        return frame
    unsigned = frame[:-SIGNATURE_SIZE]
    return unsigned + VEHICLE_KEY.sign(to_be_signed(frame_class, FLEET_ID, unsigned))


def _check(data: bytes) -> None:
    with _directory() as directory:
        disk = _Disk(Path(directory))
        for name, content in _SOUND.items():
            (disk.directory / name).write_bytes(content)
        reader = _Reader(data)
        for _ in range(_EDITS_LIMIT):
            if reader.is_over:
                break
            disk.edit(reader)
        for name in _FILES[2:]:
            if (disk.directory / name).exists():
                decode_note((disk.directory / name).read_bytes())
        # An exclusive copy, since the store moves a damaged ledger aside.
        shutil.copyfile(disk.ledger, disk.directory / "copy.db")
        salvage(disk.directory / "copy.db", vfs=None, signer=SIGNER)
        _use(_store(disk.ledger))


def _use(store: LedgerStore) -> None:
    try:
        _run(store.look(boot_mark="a"))
        stored = _run(store.open(boot_mark="a"))
    except StoreError:
        return
    try:
        _read(store, stored)
        _run(store.commit(Commit(State(version=8), _next(stored, 1), None)))
        again = _run(store.open(boot_mark="a"))
        # Whatever was read first is a base to go on from.
        assert again.head.seq == stored.head.seq + 1
        assert again.state == State(version=8)
    except StoreError:
        return
    finally:
        _run(store.close())


def _read(store: LedgerStore, stored: Stored) -> None:
    entries = _run(store.entries(0, 1_000))
    assert [entry for entry in entries if entry.seq > stored.head.seq] == []
    _run(store.dead_letters())
    _run(store.configuration(_KIND))


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _seeds() -> Iterator[bytes]:
    yield b""
    # Few of each kind: a check takes long enough that many would be all of a short run.
    values = (
        bytes([_INTEGER]) + (1).to_bytes(8, "big"),
        bytes([_BLOB]) + _sized(bytes(32)),
        bytes([_TEXT]) + _sized(b"text"),
        bytes([_NULL]),
    )
    for number in range(len(_COLUMNS)):
        yield bytes([_ROW, number, 0]) + values[number % 2]
    for number, value in enumerate(values):
        yield bytes([_ROW, number, 0]) + value
    for at in (0, 20, 100, 4_096, 5 * 4_096):
        yield bytes([_RAW, 0]) + at.to_bytes(3, "big") + _sized(b"\x05\0\0\0\1")
        yield bytes([_CUT, 0]) + at.to_bytes(3, "big")
    note = _SOUND[_FILES[2]]
    for number in range(2):
        yield bytes([_NOTE, number, 1]) + _sized(note[:-16])
        yield bytes([_NOTE, number, 0]) + _sized(note)
    state = b'{"format":1,"state":{}}'
    yield bytes([_STATE]) + _sized(state)
    (entry,) = _next_seed()
    yield bytes([_ENTRY]) + _sized(entry[:-SIGNATURE_SIZE])


def _next_seed() -> tuple[bytes]:
    """Return the newest entry of the sound ledger."""
    with _directory() as directory:
        for name, content in _SOUND.items():
            (Path(directory) / name).write_bytes(content)
        store = _store(Path(directory) / _FILES[0])
        stored = _run(store.open(boot_mark="a"))
        (entry,) = _run(store.entries(stored.head.seq, 1))
        _run(store.close())
        return (entry.frame,)


TARGET: Final = Target(
    _check,
    _seeds,
    longest=4_096,
    measured=("gateway.storage", "gateway.core.state", "protocol"),
)
