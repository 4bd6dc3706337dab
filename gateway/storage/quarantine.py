"""A damaged ledger moved aside: kept as evidence, and read for what it still tells.

Its state is not taken over. Whether it is the newest one cannot be told from a damaged
file, and an older one would bring a rental back that is over and paid. Its entries can
be: each is signed by this car and names its place, so the fleet takes it for what it
is, once (unique by vehicle, ledger and sequence), however it came.

Order, for a power cut in between: logs are renamed before their file. A file without
its log is an older ledger that looks whole; so a log that lies aside without its file
says that the file is to follow, and it follows before anything is opened.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw

from gateway.core.ledger import LedgerHead, SealedEntry, ledger_of
from gateway.storage.errors import StoreDamagedError
from gateway.storage.files import Files
from gateway.storage.rows import SEQ_LIMIT, STARTS_LIMIT, number
from gateway.storage.signer import Signer
from protocol.codes import FrameClass
from protocol.entry import LEDGER_ID_SIZE, entry_hash, split_entry
from protocol.errors import ProtocolError
from protocol.frame import parse_frame

QUARANTINED: Final = 3
"""Damaged ledgers that are kept, the newest ones: a disk that damages more is dying."""

SALVAGE_LIMIT: Final = 256
"""Entries taken from a damaged ledger, the oldest without a receipt first, as many as a
fleet holds beyond a gap."""

_LOGS: Final = ("-wal",)
"""What SQLite keeps beside the file; a journal exists before the first commit only."""

_INFIX: Final = ".damaged-"


@dataclass(frozen=True, slots=True)
class Salvage:
    """What a damaged ledger still tells."""

    head: LedgerHead | None = None
    """As it says itself; None if it does not."""
    boot_counter: int = 0
    """As it says itself."""
    entries: tuple[SealedEntry, ...] = ()
    """Entries without a receipt that this car has signed, in order."""
    ledger_id: bytes = bytes(LEDGER_ID_SIZE)
    """Theirs."""


def quarantined(files: Files, ledger: Path) -> list[Path]:
    """Return the damaged ledgers that are kept, the oldest first."""
    prefix = ledger.name + _INFIX
    return [
        ledger.with_name(name)
        for name in files.names(ledger.parent)
        if name.startswith(prefix) and name[len(prefix) :].isdigit()
    ]


def quarantine(files: Files, ledger: Path) -> Path:
    """Move a damaged ledger aside and return where it lies.

    Raises:
        OSError: the disk failed; call it again after reopening.
    """
    kept = quarantined(files, ledger)
    number = int(kept[-1].name.rpartition("-")[2]) + 1 if kept else 1
    aside = _aside(ledger, number)
    for suffix in _LOGS:
        if files.exists(_beside(ledger, suffix)):
            files.rename(_beside(ledger, suffix), _beside(aside, suffix))
    files.rename(ledger, aside)
    for old in kept[: len(kept) + 1 - QUARANTINED]:
        for suffix in (*_LOGS, ""):
            files.remove(_beside(old, suffix))
    return aside


def finish_quarantine(files: Files, ledger: Path) -> None:
    """Move a file after its logs if a power cut came between.

    Raises:
        OSError: the disk failed; call it again after reopening.
    """
    names = files.names(ledger.parent)
    prefix = ledger.name + _INFIX
    for name in names:
        aside, log, _ = name.partition(_LOGS[0])
        if name.startswith(prefix) and log and aside not in names:
            if files.exists(ledger):
                files.rename(ledger, ledger.with_name(aside))
            else:
                files.remove(ledger.with_name(name))


def _aside(ledger: Path, number: int) -> Path:
    return ledger.with_name(f"{ledger.name}{_INFIX}{number:04d}")


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def salvage(path: Path, *, vfs: str | None, signer: Signer | None) -> Salvage:
    """Read what can be read of a damaged ledger; nothing of it is changed.

    Args:
        path: where it lies.
        vfs: SQLite's file system.
        signer: whose entries count; None salvages none.
    """
    connection = None
    try:
        connection = apsw.Connection(str(path), vfs=vfs)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.execute("pragma locking_mode = exclusive")
        return _read(connection, signer)
    except apsw.Error:
        return Salvage()
    finally:
        if connection is not None:
            with suppress(apsw.Error):
                connection.close(force=True)


def _read(connection: apsw.Connection, signer: Signer | None) -> Salvage:
    head, receipted, boot_counter = None, 0, 0
    with suppress(apsw.Error, StoreDamagedError, ValueError):
        (row,) = connection.execute(
            "select ledger_id, head_seq, head_hash, receipted, boot_counter "
            "from vehicle"
        )
        if isinstance(row[0], bytes) and isinstance(row[2], bytes):
            head = LedgerHead(row[0], number(row[1], limit=SEQ_LIMIT), row[2])
            receipted = number(row[3], limit=SEQ_LIMIT)
            boot_counter = number(row[4], limit=STARTS_LIMIT - 2)
    if signer is None:
        return Salvage(head, boot_counter)
    found: dict[int, SealedEntry] = {}
    # From both ends: where a page between them cannot be read, a scan stops.
    for order in ("asc", "desc"):
        with suppress(apsw.Error):
            for seq, frame in connection.execute(
                f"select seq, frame from entry where seq > ? order by seq {order} "  # noqa: S608 - a constant
                "limit ?",
                (receipted, SALVAGE_LIMIT),
            ):
                entry = _genuine(seq, frame, signer)
                if entry is not None:
                    found[entry.seq] = entry
    return _of_one_ledger(head, boot_counter, found)


def _of_one_ledger(
    head: LedgerHead | None, boot_counter: int, found: dict[int, SealedEntry]
) -> Salvage:
    ids = [ledger_of(entry) for entry in found.values()]
    if not ids:
        return Salvage(head, boot_counter)
    # What most of them say: they are signed, the file's own word is not.
    ledger_id = max(set(ids), key=ids.count)
    kept = [
        entry for _, entry in sorted(found.items()) if ledger_of(entry) == ledger_id
    ]
    return Salvage(head, boot_counter, tuple(kept[:SALVAGE_LIMIT]), ledger_id)


def _genuine(seq: object, data: object, signer: Signer) -> SealedEntry | None:
    """Return the entry if this car has signed it for this place."""
    if not isinstance(data, bytes):
        return None
    try:
        frame = parse_frame(data)
        split_entry(frame.payload)
    except ProtocolError:
        return None
    header = frame.header
    if header.seq != seq or not signer.has_signed(frame):
        return None
    return SealedEntry(
        seq=header.seq,
        frame_class=FrameClass(header.frame_class),
        frame=data,
        hash=entry_hash(data),
        request_id=None,
    )
