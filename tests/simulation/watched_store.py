"""The car's production store, which tells the oracle before it lets go of anything."""

from collections.abc import Callable, Sequence
from typing import Any

from gateway.storage.ledger_store import LedgerStore
from protocol.codes import Code


class WatchedStore(LedgerStore):
    """A store with a witness.

    Args:
        on_release: told the ledger and up to where entries are about to be freed.
        disk_left_kib: what other programs leave of the disk, KiB; None for enough.
        parts: as of `LedgerStore`.
    """

    def __init__(
        self,
        *args: Any,
        on_release: Callable[[bytes, int], None],
        disk_left_kib: Callable[[], int | None],
        **parts: Any,
    ) -> None:
        super().__init__(*args, **parts)
        self._on_release = on_release
        self._disk_left_kib = disk_left_kib

    def free_kib(self) -> int:
        left_kib = self._disk_left_kib()
        free_kib = super().free_kib()
        return free_kib if left_kib is None else min(free_kib, left_kib)

    async def release(self, upto: int, rejected: Sequence[tuple[int, Code]]) -> None:
        self._on_release(self._head.ledger_id, upto)
        await super().release(upto, rejected)
