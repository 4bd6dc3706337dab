"""Entries of an older, damaged ledger: sent again until the fleet has receipted them.

They are what a customer was told before the damage, a rental's end perhaps, so they are
sent too; but a few at a time and behind everything else, since the ledger of now comes
first and a fleet never receipts beyond the gap that the damage left.
"""

from collections.abc import Sequence
from typing import Final

from gateway.core.ledger import LedgerHead, SealedEntry, judge_receipt, ledger_of
from gateway.ports import Outlet, Store
from protocol.receipt import Receipt

SALVAGE_BATCH: Final = 32
"""Entries sent in one session, and after each receipt that frees some: 10 KiB."""


class Salvage:
    """What was salvaged and is not receipted.

    Args:
        store: where entries are freed.
        outlet: takes them.
    """

    def __init__(self, *, store: Store, outlet: Outlet) -> None:
        self._entries: list[SealedEntry] = []
        self._store = store
        self._outlet = outlet
        self._next = 0

    def start(self, entries: Sequence[SealedEntry]) -> None:
        """Begin with what the store holds, in order."""
        self._entries = list(entries)

    def send(self) -> None:
        """Offer the next ones; after the last come the first again."""
        count = min(SALVAGE_BATCH, len(self._entries))
        for _ in range(count):
            entry = self._entries[self._next % len(self._entries)]
            self._next = (self._next + 1) % len(self._entries)
            self._outlet.offer(entry.frame_class, entry.frame, can_wait=True)

    async def take_receipt(self, receipt: Receipt) -> bool:
        """Free what a verified receipt of an older ledger names.

        Returns:
            Whether it was one: the very hash of an entry that is held here (I-22).

        Raises:
            StoreError: nothing was freed; the next receipt does it.
        """
        held = {
            entry.seq: entry
            for entry in self._entries
            if ledger_of(entry) == receipt.ledger_id
        }
        if not held:
            return False
        newest = held[max(held)]
        freed = judge_receipt(
            receipt,
            LedgerHead(receipt.ledger_id, newest.seq, newest.hash),
            receipted=min(held) - 1,
            hash_at=lambda seq: held[seq].hash if seq in held else None,
        )
        if freed is None or freed.upto < min(held):
            return False
        await self._store.release_salvaged(receipt.ledger_id, freed.upto)
        self._entries = [
            entry
            for entry in self._entries
            if entry.seq > freed.upto or ledger_of(entry) != receipt.ledger_id
        ]
        self._next = 0
        self.send()
        return True
