"""Frames from the fleet: judged, then stepped, answered, freed or dropped.

The rules are the core's (`gateway.core.acceptance`, `gateway.core.ledger`); here their
verdicts are carried out. One decision is made here, since an order costs room whatever
the mind makes of it: a disk that is nearly full takes none but about the rental under
way (I-20).

A refusal is a signed "not executed" and must stay true: what was refused is never
carried out later in its session, however the broker repeats it or the car changes
meanwhile (I-10, I-11). Only one that asks for the same bytes again spends nothing.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.core.acceptance import Refused, Repeated, judge, open_receipt
from gateway.core.authentication import Bucket, Dropped, address
from gateway.core.events import CommandReceived
from gateway.core.ledger import judge_receipt
from gateway.core.moment import Moment
from gateway.core.state import Request
from gateway.core.synchronisation import judge_sync
from gateway.core.trust_renewal import TrustInUse, judge_trust
from gateway.ports import Outlet, Store, StoreError
from gateway.runtime.herald import Herald
from gateway.runtime.room import is_kept_for_rental
from gateway.runtime.standing import Standing
from gateway.runtime.synchroniser import Synchroniser
from protocol.codes import (
    ClockQuality,
    Code,
    Executed,
    FrameClass,
    Lane,
    Opcode,
    Retry,
)
from protocol.command import COMMANDS
from protocol.errors import AuthenticationError, DecodeError
from protocol.frame import Header, parse_frame
from protocol.receipt import Receipt
from protocol.result import retry_of

REFUSALS_KEPT: Final = 64
"""Refusals of this session that a resend gets again as they were: a sender repeats its
bytes for a minute at most."""

_SPENDS_NOTHING: Final = frozenset(
    {
        # Of another session, or of a sequence that is spent already.
        Code.SESSION_STALE,
        Code.ID_REUSED,
        Code.SUPERSEDED,
        # True for ever of these bytes, in a lane that they may not use or do not name.
        Code.UNKNOWN_OPCODE,
        Code.ROLE_FORBIDDEN,
        Code.OPCODE_FORBIDDEN,
        Code.BAD_PARAM,
    }
)

Proceed = Callable[[CommandReceived, Moment], Awaitable[Refused | None]]
"""Steps a command that passed the pipeline; returns the refusal that the car's state
answered it with, if any."""

TakeReceipt = Callable[[Receipt], Awaitable[bool]]
"""Takes a receipt that does not fit this ledger; returns whether it fits an older."""

RenewTrust = Callable[[TrustInUse, Moment], Awaitable[None]]
"""Puts a bundle in the place of the one in use."""


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
        salvage: TakeReceipt,
        renew_trust: RenewTrust,
        synchroniser: Synchroniser,
    ) -> None:
        self._standing = standing
        self._store = store
        self._outlet = outlet
        self._herald = herald
        self._proceed = proceed
        self._salvage = salvage
        self._renew_trust = renew_trust
        self._synchroniser = synchroniser
        vehicle = standing.persona.vehicle_id.short
        self._log = logging.getLogger(f"{__name__}.{vehicle}")
        # By whether a frame is a receipt: what answers a backlog keeps out no order.
        self._buckets = {True: Bucket(), False: Bucket()}
        self._refusals: dict[bytes, Refused] = {}
        self.dropped: dict[Code, int] = {}
        """Frames that were not even answered, by reason."""

    async def take(
        self, frame_class: FrameClass, data: bytes, *, retained: bool, now: Moment
    ) -> None:
        """Do what one frame asks for, as far as it may.

        Raises:
            StoreError: it could not be kept, and nothing was done.
        """
        try:
            address(data, frame_class, self._standing.desk(now=now))
        except (DecodeError, AuthenticationError) as error:
            self._drop(Dropped(error.code, error.detail))
            return
        is_receipt = frame_class is FrameClass.RECEIPT
        self._buckets[is_receipt], has_room = self._buckets[is_receipt].take(now=now)
        if not has_room:
            self._drop(Dropped(Code.RATE_LIMITED, "frames come too fast"))
        elif frame_class is FrameClass.CMD:
            await self._take_command(data, retained=retained, now=now)
        elif is_receipt:
            await self._take_receipt(data, now=now)
        elif frame_class is FrameClass.SYNC:
            await self._take_sync(data, retained=retained, now=now)
        elif frame_class is FrameClass.TRUST:
            await self._take_trust(data, now=now)
        else:
            label = frame_class.label
            self._drop(
                Dropped(Code.WRONG_DIRECTION, f"class {label} goes to the fleet")
            )

    async def _take_command(self, data: bytes, *, retained: bool, now: Moment) -> None:
        desk = self._standing.desk(now=now)
        verdict = judge(data, retained=retained, desk=desk, now=now)
        if isinstance(verdict, Dropped):
            self._drop(verdict)
            return
        # Its signature holds, so its header can be believed.
        header = parse_frame(data).header
        self._herald.hear(header.key_id)
        self._hear(header)
        if isinstance(verdict, Repeated):
            self._herald.repeat(verdict, now=now)
        elif isinstance(verdict, Refused):
            known = self._known(verdict)
            self._herald.refuse(known, now=now)
            self._spend(header, known)
        elif self._is_too_full_for(verdict):
            self._herald.refuse(_storage_full(verdict), now=now)
            self._spend(header, _storage_full(verdict))
        else:
            refused = await self._try(verdict, now)
            if refused is not None:
                self._spend(header, refused)

    async def _try(self, command: CommandReceived, now: Moment) -> Refused | None:
        try:
            return await self._proceed(command, now)
        except StoreError as error:
            if not error.retryable or error.may_have_taken_effect:
                raise
            self._log.warning("= command refused, nothing was done: %s", error)
            refused = _storage_full(command)
            self._herald.refuse(refused, now=now)
            return refused

    def _known(self, refused: Refused) -> Refused:
        """Return the refusal that these bytes got before, if they did."""
        known = self._refusals.get(refused.request.msg_id)
        if known is None or known.request != refused.request:
            return refused
        return known if refused.code is Code.SUPERSEDED else refused

    def _spend(self, header: Header, refused: Refused) -> None:
        """See to it that what was refused for good is never carried out after all."""
        if (
            refused.code in _SPENDS_NOTHING
            or retry_of(refused.code) is Retry.SAME_BYTES
        ):
            return
        # Its opcode is known; whether its lane is right may not have been asked.
        lane = (header.key_id, COMMANDS[Opcode(header.type)].lane)
        lanes = self._standing.session.lanes
        lanes[lane] = max(lanes.get(lane, 0), header.seq)
        self._refusals[refused.request.msg_id] = refused
        if len(self._refusals) > REFUSALS_KEPT:
            del self._refusals[next(iter(self._refusals))]

    def _is_too_full_for(self, verdict: CommandReceived) -> bool:
        held = self._standing.state.rental_id
        serves_rental = held is not None and verdict.command.rental_id == held
        return not serves_rental and is_kept_for_rental(self._store)

    async def _take_receipt(self, data: bytes, *, now: Moment) -> None:
        standing = self._standing
        receipt = open_receipt(data, standing.desk(now=now), now=now)
        if isinstance(receipt, Dropped):
            self._drop(receipt)
            return
        header = parse_frame(data).header
        is_of_session = self._hear(header)
        if standing.is_in_service:
            detail = "the disk takes no receipt now; the fleet gives it again"
            self._drop(Dropped(Code.STORAGE_CORRUPT, detail))
            return
        if is_of_session:
            # One of an older session may have been held back for years.
            standing.time.learn(header.wall_ms, ClockQuality.SYNC, now=now)
        freed = judge_receipt(
            receipt,
            standing.head,
            receipted=standing.receipted,
            hash_at=self._store.hash_at,
        )
        if freed is None and await self._salvage(receipt):
            return
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

    async def _take_sync(self, data: bytes, *, retained: bool, now: Moment) -> None:
        desk = self._standing.desk(now=now)
        asked = judge_sync(data, retained=retained, desk=desk, now=now)
        if isinstance(asked, Dropped):
            self._drop(asked)
            return
        self._hear(parse_frame(data).header)
        self._standing.session.lanes[asked.key_id, Lane.TRUST] = asked.seq
        stray = await self._synchroniser.take(asked, now=now)
        if stray is not None:
            self._drop(stray)

    async def _take_trust(self, data: bytes, *, now: Moment) -> None:
        trust = judge_trust(data, self._standing.desk(now=now), now=now)
        if isinstance(trust, Dropped):
            self._drop(trust)
        elif trust is not None:
            await self._renew_trust(trust, now)
            # They belong to the session that ended with the old bundle.
            self._refusals.clear()

    def _hear(self, header: Header) -> bool:
        """Note the header of a frame whose signature holds; is it of this session?

        A hello may be lost while the entries behind it arrive: a bridge that comes back
        to its broker between the two signs receipts all the same, and orders for a
        session that is over. Nobody without a key may say that a hello has arrived: a
        car whose hello was lost would not say it again, and nobody could order
        anything.
        """
        if header.session_id != self._standing.session.id:
            return False
        self._outlet.heard()
        return True

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
