"""How long the bridge keeps what it need not keep for ever (K25).

Once an hour, in one bridge of all that share a database, what is too old is let go, and
the database is made to forget it (`Database.forget`).
"""

import asyncio
from collections import Counter
from functools import partial
from typing import Final

from bridge.errors import StoreError
from bridge.lease import Lease
from bridge.ports import WallClock
from bridge.rows.retention import Ages, Kind, let_go
from bridge.settings import RetentionSettings
from bridge.store import Store
from bridge.wire import LOG

EVERY_S: Final = 3_600.0
"""Ages are days: an hour later is soon enough."""

PAUSE_S: Final = 0.05
"""Between pieces, so that batches come first."""

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS

_AHEAD_MS: Final = _DAY_MS
"""Clocks of bridges that share a database differ by less."""


def ages_of(settings: RetentionSettings, *, now: int) -> Ages:
    """Return what is old at `now`, UTC ms."""
    return Ages(
        places_ms=now - settings.places_days * _DAY_MS,
        telemetry_ms=now - settings.telemetry_hours * _HOUR_MS,
        events_ms=now - settings.events_days * _DAY_MS,
        letters_ms=now - settings.letters_days * _DAY_MS,
        steps_ms=now - settings.mds_days * _DAY_MS,
        ahead_ms=now + _AHEAD_MS,
    )


class Retention:
    """Lets go of what is old, until cancelled."""

    def __init__(
        self,
        settings: RetentionSettings,
        store: Store,
        *,
        sinks: tuple[str, ...],
        now: WallClock,
        holder: str,
    ) -> None:
        self._settings = settings
        self._store = store
        self._sinks = sinks
        self._now = now
        self._lease = Lease(store, "retention", holder=holder)
        self._is_readable = False
        """Whether the database's log may still hold what was let go."""

    async def run(self) -> None:
        """Let go once an hour, in one bridge at a time."""
        await self._lease.hold(self._keep_on)

    async def _keep_on(self, _epoch: int) -> None:
        while True:
            await self.let_go()
            await asyncio.sleep(EVERY_S)

    async def let_go(self) -> Counter[Kind]:
        """Let go of everything that is old now; return how much of each kind it was.

        A kind that fails is said, and left for the next call; no other waits for it.
        """
        ages = ages_of(self._settings, now=self._now())
        gone: Counter[Kind] = Counter()
        left = list(Kind)
        while left:
            for kind in tuple(left):
                count = await self._let_go_piece(kind, ages)
                gone[kind] += count
                if not count:
                    left.remove(kind)
            await asyncio.sleep(PAUSE_S)
        gone = +gone
        if gone:
            self._is_readable = True
            told = ", ".join(f"{kind} {count}" for kind, count in gone.items())
            LOG.info("= retention: let go of %s", told)
        await self._forget()
        return gone

    async def _let_go_piece(self, kind: Kind, ages: Ages) -> int:
        work = partial(let_go, kind=kind, ages=ages, sinks=self._sinks)
        try:
            return await self._store.write(work)
        except StoreError as error:
            LOG.warning(
                "= retention: old %s are kept too long: %s; everything else is let "
                "go, and it is tried again in an hour; if that comes again, look for "
                "what locks or slows the database",
                kind,
                error,
            )
            return 0

    async def _forget(self) -> None:
        if not self._is_readable:
            return
        try:
            await self._store.forget()
        except StoreError as error:
            LOG.warning(
                "= retention: what was let go may still be readable: %s; tried again "
                "in an hour",
                error,
            )
        else:
            self._is_readable = False
