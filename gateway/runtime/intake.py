"""Frames from the fleet: judged, then stepped, answered, freed or dropped.

The rules are the core's (`gateway.core.acceptance`, `gateway.core.ledger`); here their
verdicts are carried out. One decision is made here, since the mind cannot see the disk:
one that is nearly full takes no new reservation (I-20).
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.core.acceptance import (
    Bucket,
    Dropped,
    Refused,
    Repeated,
    judge,
    open_receipt,
)
from gateway.core.events import CommandReceived
from gateway.core.ledger import judge_receipt
from gateway.core.moment import Moment
from gateway.core.state import Request
from gateway.ports import Outlet, Store, StoreError
from gateway.runtime.herald import Herald
from gateway.runtime.standing import Standing
from protocol.codes import Code, Executed, FrameClass
from protocol.command import Reserve
from protocol.frame import parse_frame

RESERVED_KIB: Final = 256
"""Below this room the car takes no new reservation, so that a rental that runs can
always be ended and reported; a whole rental takes about 10 KiB (I-20)."""

Proceed = Callable[[CommandReceived, Moment], Awaitable[None]]
"""Steps an accepted command."""


class Intake:
    """Carries out the verdicts on frames from the fleet."""

    def __init__(
        self,
        standing: Standing,
        *,
        store: Store,
        outlet: Outlet,
        herald: Herald,
        proceed: Proceed,
    ) -> None:
        self._standing = standing
        self._store = store
        self._outlet = outlet
        self._herald = herald
        self._proceed = proceed
        vehicle = standing.persona.vehicle_id.short
        self._log = logging.getLogger(f"{__name__}.{vehicle}")
        self._bucket = Bucket()
        self.dropped: dict[Code, int] = {}
        """Frames that were not even answered, by reason."""

    async def take(
        self, frame_class: FrameClass, data: bytes, *, retained: bool, now: Moment
    ) -> None:
        """Do what one frame asks for, as far as it may.

        Raises:
            StoreError: it could not be kept, and nothing was done.
        """
        self._bucket, has_room = self._bucket.take(now=now)
        if not has_room:
            self._drop(Dropped(Code.RATE_LIMITED, "frames come too fast"))
        elif frame_class is FrameClass.CMD:
            await self._take_command(data, retained=retained, now=now)
        elif frame_class is FrameClass.RECEIPT:
            await self._take_receipt(data)
        else:
            label = frame_class.label
            self._drop(
                Dropped(Code.BAD_CLASS, f"class {label} means nothing in version 1")
            )

    async def _take_command(self, data: bytes, *, retained: bool, now: Moment) -> None:
        verdict = judge(data, retained=retained, desk=self._standing.desk, now=now)
        if isinstance(verdict, Dropped):
            self._drop(verdict)
            return
        # Its signature holds, so its header can be believed.
        self._herald.hear(parse_frame(data).header.key_id)
        if isinstance(verdict, Repeated):
            self._herald.repeat(verdict, now=now)
        elif isinstance(verdict, Refused):
            self._herald.refuse(verdict, now=now)
        elif self._is_full and isinstance(verdict.command, Reserve):
            self._herald.refuse(_storage_full(verdict), now=now)
        else:
            await self._try(verdict, now)

    async def _try(self, command: CommandReceived, now: Moment) -> None:
        try:
            await self._proceed(command, now)
        except StoreError as error:
            if not error.retryable or error.may_have_taken_effect:
                raise
            self._log.warning("= command refused, nothing was done: %s", error)
            self._herald.refuse(_storage_full(command), now=now)

    @property
    def _is_full(self) -> bool:
        return self._store.free_kib() < RESERVED_KIB

    async def _take_receipt(self, data: bytes) -> None:
        standing = self._standing
        receipt = open_receipt(data, standing.desk)
        if isinstance(receipt, Dropped):
            self._drop(receipt)
            return
        freed = judge_receipt(
            receipt,
            standing.head,
            receipted=standing.receipted,
            hash_at=self._store.hash_at,
        )
        if freed is None:
            detail = f"a receipt up to {receipt.upto} does not fit this ledger"
            self._drop(Dropped(Code.BAD_PARAM, detail))
            return
        if freed.upto > standing.receipted or freed.rejected:
            await self._store.release(freed.upto, freed.rejected)
            standing.receipted = freed.upto
        for seq, code in freed.rejected:
            self._log.error("= entry %d is rejected for good: %s", seq, code.name)
        self._outlet.receipted(
            freed.upto,
            credit=receipt.credit,
            gaps=tuple((gap.first, gap.last) for gap in receipt.gaps),
        )

    def _drop(self, dropped: Dropped) -> None:
        count = self.dropped.get(dropped.code, 0) + 1
        self.dropped[dropped.code] = count
        # The first of a kind, then ever more rarely: a flood must not fill the log.
        if count.bit_count() == 1:
            self._log.warning(
                "= frame dropped, %s: %s (%d so far)",
                dropped.code.name,
                dropped.detail,
                count,
            )


def _storage_full(command: CommandReceived) -> Refused:
    request = Request(command.msg_id, command.request_hash)
    return Refused(request, Code.STORAGE_FULL, Executed.NO)
