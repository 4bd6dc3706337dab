"""Does what the fleet's SYNC frames ask for, once each has been judged (FF-SYN)."""

import logging
from typing import assert_never

from gateway.core.authentication import Dropped
from gateway.core.moment import Moment
from gateway.core.synchronisation import SyncReceived
from gateway.ports import Outlet
from gateway.runtime.configurator import Configurator
from gateway.runtime.herald import Herald
from gateway.runtime.standing import Standing
from protocol.codes import ClockQuality, Code
from protocol.sync import Challenge, ConfigChunk, ConfigOffer, FleetTime, Resend


class Synchroniser:
    """Answers by entries and hellos; nothing here moves a car."""

    def __init__(
        self,
        standing: Standing,
        *,
        outlet: Outlet,
        herald: Herald,
        configurator: Configurator,
    ) -> None:
        self._standing = standing
        self._configurator = configurator
        self._outlet = outlet
        self._herald = herald
        self._log = logging.getLogger(f"{__name__}.{standing.persona.vehicle_id.short}")

    async def take(self, asked: SyncReceived, *, now: Moment) -> Dropped | None:
        """Do what is asked; returns what is to be counted as dropped, if anything.

        Raises:
            StoreError: the disk failed under a configuration; none came into force.
        """
        match asked.body:
            case Resend():
                return self._resend(asked.body)
            case Challenge(nonce=nonce):
                self._herald.announce(now=now, nonce=nonce)
            case FleetTime(quality=quality):
                if not quality.trusted:
                    return Dropped(Code.BAD_PARAM, f"a clock of quality {quality.name}")
                self._standing.time.learn(asked.wall_ms, ClockQuality.SYNC, now=now)
            case ConfigOffer():
                return await self._configurator.take_offer(asked.body, now=now)
            case ConfigChunk():
                return await self._configurator.take_chunk(asked.body, now=now)
            case _:
                assert_never(asked.body)
        return None

    def _resend(self, wanted: Resend) -> Dropped | None:
        head = self._standing.head
        if wanted.ledger_id != head.ledger_id:
            return Dropped(
                Code.BAD_PARAM, f"asks for entries of ledger {wanted.ledger_id.hex()}"
            )
        first = max(wanted.first, self._standing.receipted + 1)
        last = min(wanted.last, head.seq)
        if first <= last:
            self._outlet.resend(first, last)
        return None
