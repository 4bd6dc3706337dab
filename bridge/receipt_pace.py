"""How often a car is told what is safe; pure.

A receipt says all that is safe, so the last of several says what all of them did. Where
a car catches up, each batch would otherwise bring it one, 50 a second: so many that it
drops what it can no longer judge (FF-AUTH-07), the last receipt or an order among it.

Rule 1: the first receipt of a quiet ledger goes at once: one event is confirmed as fast
as it is stored.
Rule 2: the next one waits until `APART_S` after it, and what comes meanwhile takes its
place.
Rule 3: what names gaps or rejected entries goes at once, since the next one may not say
it again. It takes the place of one that waits.
Rule 4: what waits for a car that is doubted now is not said: the answer to its
challenge gets a receipt that says it all (FF-SYN-10).
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from bridge.committed import ReceiptDue
from bridge.ingest import VerifiedEntry
from protocol.identity import VehicleId

APART_S: Final = 0.1
"""Between two receipts of a ledger: 10 of the 30 frames a second that a car judges, so
that two bridges which share a car's frames leave room too. A car may have 64 entries
under way (`bridge.credit`): 640 a second, more than its radio carries."""


@dataclass(frozen=True, slots=True)
class Told:
    """A receipt, and the entries that its car hears of by it."""

    due: ReceiptDue
    entries: tuple[tuple[VerifiedEntry, int], ...] = ()
    """With the UTC ms at which each was stored; for traces."""

    @property
    def is_urgent(self) -> bool:
        """Whether it says what the next one may not."""
        return bool(self.due.receipt.gaps or self.due.receipt.rejects)

    def after(self, older: "Told") -> "Told":
        """Return this one in the place of one that waits."""
        return replace(self, entries=older.entries + self.entries)


class ReceiptPace:
    """Remembers the ledgers that got a receipt a moment ago."""

    def __init__(self) -> None:
        """Begin with every ledger quiet."""
        self._last_s: OrderedDict[tuple[VehicleId, bytes], float] = OrderedDict()
        self._waiting: dict[tuple[VehicleId, bytes], Told] = {}

    @property
    def next_s(self) -> float | None:
        """When to ask `ripe` again; None while nothing waits."""
        if not self._waiting:
            return None
        return next(iter(self._last_s.values())) + APART_S

    def take(self, told: Iterable[Told], *, now_s: float) -> list[Told]:
        """Return what goes now; the rest waits.

        Args:
            told: receipts of one batch.
            now_s: a clock that does not step back.
        """
        going = self.ripe(now_s=now_s)
        for newer in told:
            if newer.due.vehicle.doubt is not None:
                self._forget(newer.due.vehicle_id)
            key = (newer.due.vehicle_id, newer.due.receipt.ledger_id)
            older = self._waiting.pop(key, None)
            one = newer if older is None else newer.after(older)
            if key in self._last_s and not one.is_urgent:
                self._waiting[key] = one
            else:
                self._went(key, now_s)
                going.append(one)
        return going

    def ripe(self, *, now_s: float) -> list[Told]:
        """Return what has waited for long enough, and forget who became quiet."""
        going = []
        while self._last_s:
            key, last_s = next(iter(self._last_s.items()))
            if now_s < last_s + APART_S:
                break
            del self._last_s[key]
            if (one := self._waiting.pop(key, None)) is not None:
                self._went(key, now_s)
                going.append(one)
        return going

    def rest(self) -> list[Told]:
        """Return all that waits, before the end of a link."""
        going = list(self._waiting.values())
        self._waiting.clear()
        self._last_s.clear()
        return going

    def _forget(self, vehicle_id: VehicleId) -> None:
        for key in [key for key in self._waiting if key[0] == vehicle_id]:
            del self._waiting[key]

    def _went(self, key: tuple[VehicleId, bytes], now_s: float) -> None:
        self._last_s.pop(key, None)
        self._last_s[key] = now_s
