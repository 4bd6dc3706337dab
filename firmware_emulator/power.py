"""The power of a gateway's computer, and what its disk holds when it is cut.

A power cut lets nothing be finished: no log is copied back, no connection closed, no
last word said. `MainsStore` is the production store behind a switch. Cutting it waits
for the write that is on its way, keeps the disk's bytes of that instant, and lets no
other write through; `restore_disk` puts those bytes back once everything that held the
files is gone. What the gateway's own shutdown does in between is as if it had never
been. Writes that tear in the middle of a page are the business of the store's own tests
(reliability.md L12).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gateway.core.ledger import SealedEntry
from gateway.ports import Commit, RandomBytes, Stored, StoreError
from gateway.storage.head_note import NOTE_SUFFIXES
from gateway.storage.ledger_store import LedgerStore
from gateway.storage.signer import Signer
from gateway.storage.worker import ThreadWorker
from protocol.codes import Code

_SUFFIXES: Final = ("", "-wal", "-journal", "-shm", *NOTE_SUFFIXES)
"""What SQLite (sqlite.org/tempfiles.html) and the store keep beside the file."""


class MainsStore:
    """Implements `gateway.ports.Store`: a `LedgerStore` on a computer's mains.

    Args:
        path: the ledger's file.
        random_bytes: gives a new ledger its id.
        signer: who signs the entries.
    """

    def __init__(
        self, path: Path, *, random_bytes: RandomBytes, signer: Signer
    ) -> None:
        """Keep the path; nothing is opened."""
        self._path = path
        self._worker = ThreadWorker("emulated-ledger")
        # Without a marker in the identity directory: whoever deletes the data of an
        # emulated car wants a new one.
        self._store = LedgerStore(
            path, worker=self._worker, random_bytes=random_bytes, signer=signer
        )
        self._disk: dict[str, bytes] | None = None
        self.left_kib: int | None = None
        """Room that other programs leave on the disk, KiB; None for enough."""

    @property
    def is_cut(self) -> bool:
        """Whether the power is gone."""
        return self._disk is not None

    async def cut(self) -> None:
        """Take the power away; what is committed by now is on the disk."""
        await self._worker.run(self._keep_disk)

    def restore_disk(self) -> None:
        """Put the disk's bytes of the cut back; call it when the gateway has ended."""
        if self._disk is None:
            return
        for suffix in _SUFFIXES:
            file = self._beside(suffix)
            data = self._disk.get(suffix)
            if data is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(data)

    async def open(self, *, boot_mark: str) -> Stored:
        """Open the file.

        Raises:
            StoreError: the file cannot be opened, or there is no power.
        """
        self._require_power()
        return await self._store.open(boot_mark=boot_mark)

    async def look(self, *, boot_mark: str) -> Stored | None:
        """Read what is held and write nothing."""
        self._require_power()
        return await self._store.look(boot_mark=boot_mark)

    async def commit(self, commit: Commit) -> None:
        """Make all of it durable, or none.

        Raises:
            StoreError: nothing was kept.
        """
        self._require_power()
        await self._store.commit(commit)

    async def release(self, upto: int, rejected: Sequence[tuple[int, Code]]) -> None:
        """Record receipts and free the entries.

        Raises:
            StoreError: nothing changed.
        """
        self._require_power()
        await self._store.release(upto, rejected)

    async def entries(self, first: int, limit: int) -> Sequence[SealedEntry]:
        """Return up to `limit` stored entries from sequence `first` on."""
        self._require_power()
        return await self._store.entries(first, limit)

    async def release_salvaged(self, ledger_id: bytes, upto: int) -> None:
        """Free entries of an older ledger.

        Raises:
            StoreError: nothing changed.
        """
        self._require_power()
        await self._store.release_salvaged(ledger_id, upto)

    async def forget_rotations(self, frames: Sequence[bytes]) -> None:
        """Let go of rotations that the authority has certified.

        Raises:
            StoreError: nothing changed.
        """
        self._require_power()
        await self._store.forget_rotations(frames)

    async def configuration(self, kind: int) -> bytes | None:
        """Return the body in force of this kind."""
        self._require_power()
        return await self._store.configuration(kind)

    def hash_at(self, seq: int) -> bytes | None:
        """Return the hash of an entry that has no receipt yet."""
        return self._store.hash_at(seq)

    def free_kib(self) -> int:
        """Return the room left for the ledger."""
        free_kib = self._store.free_kib()
        return free_kib if self.left_kib is None else min(free_kib, self.left_kib)

    async def close(self) -> None:
        """Close; everything committed stays."""
        await self._store.close()
        self._worker.close()

    def _require_power(self) -> None:
        if self.is_cut:
            raise StoreError("the computer has no power")

    def _keep_disk(self) -> None:
        # In the store's own thread, so that no write is half-way.
        self._disk = {
            suffix: file.read_bytes()
            for suffix in _SUFFIXES
            if (file := self._beside(suffix)).exists()
        }

    def _beside(self, suffix: str) -> Path:
        return self._path.with_name(self._path.name + suffix)
