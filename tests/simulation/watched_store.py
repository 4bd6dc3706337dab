"""The car's production store, which tells the oracle before it lets go of anything."""

from collections.abc import Callable, Sequence
from typing import Any

from gateway.storage.ledger_store import LedgerStore
from protocol.codes import Code


class WatchedStore(LedgerStore):
    """A store with a witness.

    Args:
        on_release: told the ledger and up to where entries are about to be freed.
        parts: as of `LedgerStore`.
    """

    def __init__(
        self, *args: Any, on_release: Callable[[bytes, int], None], **parts: Any
    ) -> None:
        super().__init__(*args, **parts)
        self._on_release = on_release

    async def release(self, upto: int, rejected: Sequence[tuple[int, Code]]) -> None:
        self._on_release(self._head.ledger_id, upto)
        await super().release(upto, rejected)
