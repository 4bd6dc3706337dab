"""Where orders wait for a second person, and are given once they were approved.

Everything that decides is written in one transaction with its event; what an approved
order becomes is found again by an idempotency key, so a bridge that stops in between
loses nothing and does nothing twice, and another bridge may finish what it began.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection

from bridge import cloud_event
from bridge.approvals import (
    CARRY_OUT_MS,
    Approval,
    ApprovalImpossibleError,
    ApprovalNeededError,
    ApprovalState,
    Cause,
    ConsentNeededError,
    DecisionRefusedError,
    MassLimits,
    MissingEntries,
    Outcome,
    Wanted,
    WantedBody,
    counts,
    immobilises,
    key_of,
)
from bridge.audit import AuditEntry
from bridge.commands import Origin
from bridge.consent import ConsentError, parse_consent, statement_of
from bridge.deferral import DEFERRABLE, require_deferrable
from bridge.dispatch import Dispatcher
from bridge.errors import GapError, OrderRefusedError, StoreError, UndecidedError
from bridge.gap_acceptance import pass_gap, require_lost
from bridge.lease import Lease
from bridge.orders import BoundOrder, Order, digest_of, opcode_of
from bridge.ports import RandomBytes, WallClock
from bridge.rows import approvals as rows
from bridge.rows.audit import append_audit
from bridge.rows.outbox import write_outbox
from bridge.settings import ApprovalSettings
from bridge.store import Store
from bridge.wire import LOG
from protocol.command import COMMAND_SCHEMA, build_command, parse_command
from protocol.identity import ID_SIZE, VehicleId

SWEEP_S: Final = 1.0
"""How often pending ones are looked at whose time is over."""

SWEEP_LIMIT: Final = 64
"""Approvals looked at in one sweep."""

LEFT_MS: Final = 5_000
"""What was approved so long ago and is not carried out was left by a bridge."""

ANSWER_S: Final = 5.0
"""How long who approves waits for the commands; the rest goes on without them."""

NOTED_EVERY: Final = 32
"""Vehicles after which is written down what became of them."""

_BRIDGE: Final = "bridge"
"""Who ends what nobody decided, in the audit trail."""


class ApprovalDesk:
    """Takes orders that need a second person, and decisions about them."""

    def __init__(
        self,
        settings: ApprovalSettings,
        *,
        store: Store,
        dispatcher: Dispatcher,
        now: WallClock,
        random_bytes: RandomBytes,
        lease: Lease,
        on_events: Callable[[], None],
        on_configured: Callable[[VehicleId], None],
    ) -> None:
        self._is_required = settings.required
        self._is_signed = settings.signed
        self._life_ms = settings.expire_s * 1000
        self._limits = MassLimits(
            settings.window_s * 1000, settings.vehicles_per_caller, settings.vehicles
        )
        self._store = store
        self._dispatcher = dispatcher
        self._now = now
        self._random_bytes = random_bytes
        self._lease = lease
        self._on_events = on_events
        self._on_configured = on_configured
        self._doing: dict[bytes, asyncio.Task[None]] = {}

    async def admit(
        self,
        caller: str,
        vehicle_id: VehicleId,
        order: Order,
        *,
        is_counted: bool,
        idempotency_key: str | None = None,
        defer_s: int = 0,
        audit_row: int = 0,
    ) -> None:
        """Let an order pass, or keep it for a second person.

        Args:
            caller: who orders.
            vehicle_id: of which vehicle.
            order: what.
            is_counted: whether the caller's orders count towards the limits.
            idempotency_key: the caller's; the order's repetitions follow its approval.
            defer_s: as `bridge.dispatch.Dispatcher.submit` takes it.
            audit_row: the row of the audit trail that asks for it.

        Raises:
            ApprovalNeededError: it waits, or was decided; nothing is sent by this call.
            ApprovalImpossibleError: it needs a second person and cannot wait.
            StoreError: nothing was noted.
        """
        if not self._is_required:
            return
        what = digest_of(order)
        digest = _digest(caller, [vehicle_id], what, idempotency_key)
        if idempotency_key is not None:
            # The approval is read first: what it lets go may be given in between.
            known = await self._store.read(lambda c: rows.find_by_request(c, digest))
            if await self._store.command_by_key(vehicle_id, idempotency_key):
                return
            if known is not None:
                raise ApprovalNeededError(known)
        cause = await self._cause(caller, vehicle_id, order, is_counted=is_counted)
        if cause is None:
            return
        if isinstance(order, BoundOrder):
            raise ApprovalImpossibleError(cause)
        wanted = Wanted(
            (vehicle_id,),
            opcode_of(order),
            build_command(order),
            idempotency_key,
            defer_s if opcode_of(order) in DEFERRABLE else 0,
        )
        kept = await self._keep(caller, wanted, cause, digest, audit_row=audit_row)
        raise ApprovalNeededError(kept)

    async def ask(
        self,
        caller: str,
        vehicle_ids: Sequence[VehicleId],
        order: Order,
        *,
        note: str,
        defer_s: int,
        audit_row: int = 0,
    ) -> Approval:
        """Keep one order for many vehicles; return its approval.

        Raises:
            ApprovalImpossibleError: the order holds secrets.
            OrderRefusedError: it may not wait for vehicles that are offline.
            StoreError: nothing was kept.
        """
        if isinstance(order, BoundOrder):
            raise ApprovalImpossibleError(Cause.MANY_VEHICLES)
        if defer_s:
            require_deferrable(order)
        unique = tuple(dict.fromkeys(vehicle_ids))
        payload = build_command(order)
        wanted = Wanted(unique, opcode_of(order), payload, None, defer_s)
        digest = _digest(caller, unique, digest_of(order), None)
        return await self._keep(
            caller,
            wanted,
            Cause.MANY_VEHICLES,
            digest,
            note=note,
            audit_row=audit_row,
        )

    async def admit_configuration(
        self, caller: str, vehicle_id: VehicleId, wanted: WantedBody, *, audit_row: int
    ) -> None:
        """Let a configuration pass, or keep it for a second person.

        It counts like an order: it can say who may drive, and where a rental may end.

        Raises:
            ApprovalNeededError: it waits; nothing changed by this call.
            StoreError: nothing was noted.
        """
        if not self._is_required:
            return
        known = await self._store.configurations(vehicle_id)
        if (wanted.kind, wanted.sha256) in {(one.kind, one.sha256) for one in known}:
            return
        limits, now = self._limits, self._now()
        cause = await self._store.write(
            lambda c: rows.reach(c, caller, vehicle_id, limits, now=now)
        )
        if cause is not None:
            raise ApprovalNeededError(
                await self.ask_configuration(
                    caller, [vehicle_id], wanted, cause=cause, audit_row=audit_row
                )
            )

    async def ask_configuration(
        self,
        caller: str,
        vehicle_ids: Sequence[VehicleId],
        wanted: WantedBody,
        *,
        cause: Cause = Cause.MANY_VEHICLES,
        note: str = "",
        audit_row: int = 0,
    ) -> Approval:
        """Keep one configuration for many vehicles; return its approval.

        Raises:
            StoreError: nothing was kept.
        """
        unique = tuple(dict.fromkeys(vehicle_ids))
        what = b"configure" + bytes([wanted.kind]) + wanted.sha256
        return await self._keep(
            caller,
            Wanted(unique, None, b"", configuration=wanted),
            cause,
            _digest(caller, unique, what, None),
            note=note,
            audit_row=audit_row,
        )

    async def ask_gaps(
        self, caller: str, gaps: Sequence[MissingEntries], *, note: str, audit_row: int
    ) -> Approval:
        """Keep the wish to go on behind missing entries; return its approval.

        It waits for a second person whatever the settings say, for nothing undoes it.

        Args:
            caller: who wants it.
            gaps: one for each vehicle.
            note: why.
            audit_row: the row of the audit trail that asks for it.

        Raises:
            GapError: one of them may still come, or is no gap; nothing was kept.
            StoreError: nothing was kept.
        """
        now = self._now()

        def look(connection: Connection) -> None:
            for gap in gaps:
                require_lost(connection, gap, now=now)

        await self._store.read(look)
        vehicles = tuple(gap.vehicle_id for gap in gaps)
        what = b"".join(
            gap.ledger_id + gap.first.to_bytes(8, "big") + gap.last.to_bytes(8, "big")
            for gap in gaps
        )
        return await self._keep(
            caller,
            Wanted(vehicles, None, b"", gaps=tuple(gaps)),
            Cause.GIVES_UP_ENTRIES,
            _digest(caller, vehicles, b"gaps" + what, None),
            note=note,
            audit_row=audit_row,
        )

    async def find(self, approval_id: bytes) -> Approval | None:
        """Return an approval, or None."""
        return await self._store.read(lambda c: rows.find_approval(c, approval_id))

    async def list(
        self, state: ApprovalState | None, *, before: int, limit: int
    ) -> list[Approval]:
        """Return approvals before a row, the newest first."""
        return await self._store.read(
            lambda c: rows.list_approvals(c, state, before=before, limit=limit)
        )

    async def decide(
        self,
        approval_id: bytes,
        *,
        by: str,
        is_approved: bool,
        reason: str,
        consent: bytes = b"",
        audit_row: int = 0,
    ) -> Approval | None:
        """Approve or reject; the same decision of the same person again is no error.

        Args:
            approval_id: 16 bytes.
            by: who decides.
            is_approved: what they decide.
            reason: what they say about it.
            consent: what they signed with their own key; empty for nothing.
            audit_row: the row of the audit trail that decides.

        Returns:
            The approval, with what became of it if that took no longer than
            `ANSWER_S`; None if there is none.

        Raises:
            DecisionRefusedError: by who asked, or it is decided otherwise, or over.
            ConsentNeededError: it must be signed and is not, or something else was.
            UndecidedError: it may be decided; the same decision again says so.
            StoreError: nothing was decided.
        """
        found = await self.find(approval_id)
        if found is None:
            return None
        wanted = ApprovalState.APPROVED if is_approved else ApprovalState.REJECTED
        if found.asked_by == by:
            raise DecisionRefusedError(found, is_own=True)
        now = self._now()
        if found.state is ApprovalState.PENDING:
            if now >= found.expires_ms:
                await self._expire(found, now)
            else:
                if is_approved:
                    self._require_consent(found, consent)
                after = replace(
                    found,
                    state=wanted,
                    decided_by=by,
                    decided_ms=now,
                    reason=reason,
                    is_carried_out=not is_approved,
                    consent=consent if is_approved else b"",
                    decided_row=audit_row,
                )
                await self._write(found, after, now)
            found = await self._decided(found)
        if found.state is not wanted or found.decided_by != by:
            raise DecisionRefusedError(found, is_own=False)
        if found.state is ApprovalState.APPROVED and not found.is_carried_out:
            await asyncio.wait({self._begin(found)}, timeout=ANSWER_S)
            found = await self._decided(found)
        return found

    async def _decided(self, approval: Approval) -> Approval:
        """Return an approval as it is now that somebody decided."""
        try:
            return await self.find(approval.approval_id) or approval
        except StoreError as error:
            raise UndecidedError(str(error)) from error

    def statement_of(self, approval: Approval) -> bytes:
        """Return what who approves signs with their own key; empty for nothing."""
        return statement_of(approval, self._store.fleet_id)

    def _require_consent(self, approval: Approval, consent: bytes) -> None:
        """Whose key it is the signer knows; here is only seen that it fits."""
        if not consent:
            if self._is_signed and self.statement_of(approval):
                raise ConsentNeededError(approval, "it is not signed")
            return
        try:
            stated = parse_consent(consent).statement
        except ConsentError as error:
            raise ConsentNeededError(approval, str(error)) from error
        if stated != self.statement_of(approval):
            raise ConsentNeededError(approval, "something else was signed")

    async def run(self) -> None:
        """End what nobody decides and finish what was left, until cancelled."""
        try:
            await self._lease.hold(self._sweep_on)
        finally:
            for task in self._doing.values():
                task.cancel()
            await asyncio.gather(*self._doing.values(), return_exceptions=True)

    async def _sweep_on(self, _epoch: int) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            with contextlib.suppress(StoreError):
                await self.sweep()

    async def sweep(self) -> None:
        """Look once for what is over and for what a bridge left undone.

        Raises:
            StoreError: the next sweep tries again.
        """
        now = self._now()
        over, left = await self._store.read(
            lambda c: (
                rows.overdue(c, now=now, limit=SWEEP_LIMIT),
                rows.unfinished(c, limit=SWEEP_LIMIT),
            )
        )
        for approval in over:
            await self._expire(approval, now)
        begun = [
            self._begin(approval)
            for approval in left
            if now - (approval.decided_ms or 0) >= LEFT_MS
        ]
        if begun:
            await asyncio.wait(begun)

    async def _cause(
        self, caller: str, vehicle_id: VehicleId, order: Order, *, is_counted: bool
    ) -> Cause | None:
        if immobilises(order):
            return Cause.IMMOBILISES
        if not is_counted or not counts(order):
            return None
        limits, now = self._limits, self._now()
        # Counted and not ordered is on the safe side.
        return await self._store.write_soon(
            lambda c: rows.reach(c, caller, vehicle_id, limits, now=now)
        )

    async def _keep(
        self,
        caller: str,
        wanted: Wanted,
        cause: Cause,
        digest: bytes,
        *,
        note: str = "",
        audit_row: int = 0,
    ) -> Approval:
        now = self._now()
        made = Approval(
            row_id=0,
            approval_id=self._random_bytes(ID_SIZE),
            wanted=wanted,
            cause=cause,
            digest=digest,
            asked_by=caller,
            asked_ms=now,
            expires_ms=now + self._life_ms,
            note=note,
            audit_row=audit_row,
        )

        def work(connection: Connection) -> Approval:
            kept = rows.add_approval(connection, made)
            if kept.approval_id == made.approval_id:
                self._tell(connection, kept, now)
            return kept

        kept = await self._store.write_soon(work)
        self._on_events()
        return kept

    async def _write(self, before: Approval, after: Approval, now: int) -> None:
        def work(connection: Connection) -> None:
            if not rows.decide(connection, before, after):
                return
            self._tell(connection, after, now)
            if after.state is ApprovalState.EXPIRED:
                what = f"approval {after.approval_id.hex()}"
                entry = AuditEntry(now, _BRIDGE, "", what, after.state.value)
                append_audit(connection, [entry])

        await self._store.write_soon(work)
        self._on_events()

    async def _expire(self, approval: Approval, now: int) -> None:
        expired = replace(
            approval,
            state=ApprovalState.EXPIRED,
            decided_ms=now,
            is_carried_out=True,
        )
        await self._write(approval, expired, now)

    def _tell(self, connection: Connection, approval: Approval, now: int) -> None:
        fleet_id = self._store.fleet_id
        event = cloud_event.approval(approval, fleet_id=fleet_id, now=now)
        write_outbox(connection, [event], now=now)

    def _begin(self, approval: Approval) -> asyncio.Task[None]:
        name = approval.approval_id
        task = self._doing.get(name)
        if task is None:
            task = asyncio.create_task(self._carry_out(approval))
            self._doing[name] = task
            task.add_done_callback(lambda _done: self._doing.pop(name, None))
        return task

    async def _carry_out(self, approval: Approval) -> None:
        """Give the order to every vehicle that did not get it yet."""
        done = list(approval.outcomes)
        left = [
            vehicle_id
            for vehicle_id in approval.wanted.vehicle_ids
            if vehicle_id not in {outcome.vehicle_id for outcome in done}
        ]
        until_ms = (approval.decided_ms or 0) + CARRY_OUT_MS
        try:
            for vehicle_id in left:
                if self._now() > until_ms:
                    problem = "not given in time after its approval"
                    done.append(Outcome(vehicle_id, b"", problem))
                    continue
                done.append(await self._give(approval, vehicle_id))
                if len(done) % NOTED_EVERY == 0:
                    await self._note(replace(approval, outcomes=tuple(done)))
            await self._note(
                replace(approval, outcomes=tuple(done), is_carried_out=True)
            )
        except StoreError as error:
            # The sweep finishes it.
            LOG.warning("= approval %s: %s", approval.approval_id.hex()[:8], error)

    async def _note(self, approval: Approval) -> None:
        await self._store.write(lambda c: rows.note_outcomes(c, approval))

    async def _give(self, approval: Approval, vehicle_id: VehicleId) -> Outcome:
        wanted = approval.wanted
        if wanted.configuration is not None:
            kind, body = wanted.configuration.kind, wanted.configuration.body
            await self._store.put_configuration(
                vehicle_id,
                kind,
                body,
                now=self._now(),
                approval_id=approval.approval_id,
            )
            self._on_configured(vehicle_id)
            return Outcome(vehicle_id, b"")
        if wanted.opcode is None:
            return await self._pass_over(approval, vehicle_id)
        order = parse_command(wanted.opcode, COMMAND_SCHEMA, wanted.payload)
        key = wanted.idempotency_key or key_of(approval)
        origin = Origin(approval.audit_row, approval.approval_id, approval.asked_by)
        given = await self._store.command(origin.command_id(vehicle_id))
        if given is not None:
            # By another bridge, or by this one before it stopped.
            return Outcome(vehicle_id, given.command_id)
        try:
            record, _ = await self._dispatcher.submit(
                vehicle_id,
                order,
                idempotency_key=key,
                wait_s=0,
                defer_s=wanted.defer_s,
                origin=origin,
            )
        except OrderRefusedError as error:
            return Outcome(vehicle_id, b"", str(error))
        return Outcome(vehicle_id, record.command_id)

    async def _pass_over(self, approval: Approval, vehicle_id: VehicleId) -> Outcome:
        [gap] = [g for g in approval.wanted.gaps if g.vehicle_id == vehicle_id]
        now = self._now()
        try:
            await self._store.write(
                lambda c: pass_gap(
                    c, gap, approval, fleet_id=self._store.fleet_id, now=now
                )
            )
        except GapError as error:
            return Outcome(vehicle_id, b"", str(error))
        self._on_events()
        return Outcome(vehicle_id, b"")


def _digest(
    caller: str,
    vehicle_ids: Sequence[VehicleId],
    what: bytes,
    idempotency_key: str | None,
) -> bytes:
    """Return 32 bytes that tell a repeated request from another one."""
    parts = [
        caller.encode(),
        b"".join(vehicle_id.raw for vehicle_id in vehicle_ids),
        what,
        (idempotency_key or "").encode(),
    ]
    hashed = hashlib.sha256(b"ff-approval-v1\0")
    for part in parts:
        hashed.update(len(part).to_bytes(4, "big") + part)
    return hashed.digest()
