"""How long the bridge keeps what it need not keep for ever (K25).

Once an hour, in one bridge of all that share a database, what is too old is let go, and
the database is made to forget it (`Database.forget`).
"""

import asyncio
from typing import Final

from bridge.errors import LeaseLostError, StoreError
from bridge.lease import Lease
from bridge.ports import WallClock
from bridge.rows.retention import Ages
from bridge.settings import RetentionSettings
from bridge.store import Store
from bridge.wire import LOG

EVERY_S: Final = 3_600.0
"""Ages are days: an hour later is soon enough."""

PAUSE_S: Final = 0.05
"""Between pieces, so that batches come first."""

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS


def ages_of(settings: RetentionSettings, *, now: int) -> Ages:
    """Return what is old at `now`, UTC ms."""
    return Ages(
        places_ms=now - settings.places_days * _DAY_MS,
        telemetry_ms=now - settings.telemetry_hours * _HOUR_MS,
        events_ms=now - settings.events_days * _DAY_MS,
        letters_ms=now - settings.letters_days * _DAY_MS,
        steps_ms=now - settings.mds_days * _DAY_MS,
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

    async def run(self) -> None:
        """Let go once an hour, in one bridge at a time."""
        await self._lease.hold(self._keep_on)

    async def _keep_on(self, _epoch: int) -> None:
        while True:
            try:
                await self.let_go()
            except LeaseLostError:
                raise
            except StoreError as error:
                LOG.warning("= retention: %s; tried again in an hour", error)
            await asyncio.sleep(EVERY_S)

    async def let_go(self) -> int:
        """Let go of everything that is old now; return how much it was.

        Raises:
            StoreError: some of it is left; call again.
        """
        ages = ages_of(self._settings, now=self._now())
        total = places = 0
        while True:
            piece = await self._store.let_go(ages, self._sinks)
            if piece.is_nothing:
                break
            places += piece.places
            total += piece.rows
            await asyncio.sleep(PAUSE_S)
        if total:
            await self._store.forget()
            LOG.info("= retention: let go of %d rows, %d of them places", total, places)
        return total
