"""Commands on their way: from an order to a signed frame, and on to a signed end.

Before a frame leaves, its sequence and the command with its bytes are durable. After
it left, three things may happen: a signed answer comes through the intake, silence
makes the same bytes go out again, or time makes the command "unknown" until a HELLO
settles it. Nothing here decides an outcome; `bridge.commands` does.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from bridge import commands
from bridge.bound_orders import KnownCar
from bridge.commands import CommandRecord, CommandState, Origin, Sendings
from bridge.composer import Composer
from bridge.compound import PARTS, CompoundOrder, composed, opcodes_for
from bridge.deferral import require_deferrable
from bridge.errors import (
    NoSignerError,
    NotConnectedError,
    OrderRefusedError,
    Refusal,
    SigningError,
    StoreError,
    UndecidedError,
    refused_by_signer,
)
from bridge.figures import Figures
from bridge.instant import InstantClock
from bridge.lease import Lease
from bridge.lost_rental import require_books_clear
from bridge.orders import KINDS, BoundOrder, Order, complete, digest_of, opcode_of
from bridge.ports import CommandSigner, RandomBytes, SigningOrder, WallClock
from bridge.registry import Registry, RegistryDirectory
from bridge.rows.approvals import find_consent
from bridge.store import Store
from bridge.traces import accepted, ended
from bridge.vehicle import VehicleState
from bridge.wire import LOG, Wire
from protocol.codes import FrameClass, Opcode
from protocol.command import COMMAND_SCHEMA, build_command
from protocol.enrolment import VehicleRecord
from protocol.identity import ID_SIZE, VehicleId
from protocol.snapshot import NO_RENTAL
from protocol.topic import topic_of
from transport.collector import Tracer
from transport.errors import OutcomeUnknownError, TransportError

SWEEP_S: Final = 0.5
"""How often silence is looked for: fine against resends after 2.5 s."""

NOBODY: Final = Origin()
"""Of an order of the bridge's own, or of a test."""


class Dispatcher:
    """Turns orders into commands and waits for their ends."""

    def __init__(
        self,
        *,
        store: Store,
        registry: RegistryDirectory,
        signer: CommandSigner,
        wire: Wire,
        sendings: Sendings,
        fleet_id: bytes,
        instant: InstantClock,
        random_bytes: RandomBytes,
        lease: Lease,
        figures: Figures,
        on_events: Callable[[], None] = lambda: None,
        tracer: Tracer | None = None,
    ) -> None:
        self._store = store
        self._registry = registry
        self._signer = signer
        self._wire = wire
        self._sendings = sendings
        self._fleet_id = fleet_id
        self._instant = instant
        self._now: WallClock = lambda: instant().utc_ms
        self._random_bytes = random_bytes
        self._lease = lease
        self._figures = figures
        self._on_events = on_events
        self._waiting: dict[bytes, set[asyncio.Event]] = {}
        self._composer = Composer(
            store=store,
            sign=self._sign_part,
            send=self._send,
            ended=self._compound_ended,
            now=self._now,
        )
        self._tracer = tracer
        self._is_released = False

    async def submit(
        self,
        vehicle_id: VehicleId,
        order: Order,
        *,
        idempotency_key: str | None,
        wait_s: float,
        retry_of: bytes = b"",
        defer_s: float = 0,
        origin: Origin = NOBODY,
    ) -> tuple[CommandRecord, bool]:
        """Sign and send a command, and wait for its end at most `wait_s` seconds.

        Args:
            vehicle_id: whom it addresses.
            order: what is wanted.
            idempotency_key: the caller's, or None.
            wait_s: 0 or more.
            retry_of: the command in whose place this one is to stand; it must be proved
                that the car did not execute that one and never will.
            defer_s: how long it may wait unsigned for a car that is offline.
            origin: whose word it goes back to.

        Returns:
            The command as it is then, and whether this call repeated an earlier one
            with the same idempotency key, in which case nothing new was sent.

        Raises:
            OrderRefusedError: it cannot be given to this car now; nothing was sent.
            UndecidedError: it may be sent yet; says which command it would be.
            StoreError: nothing was sent, and nothing will be.
        """
        begun_ms = self._now()
        if idempotency_key is not None:
            known = await self._store.command_by_key(vehicle_id, idempotency_key)
            if known is not None:
                return await self._repeat(known, order, origin, wait_s)
        if retry_of:
            await self._require_undone(retry_of, vehicle_id, order)
        if defer_s:
            require_deferrable(order)
        try:
            record, *parts = await self._sign(
                vehicle_id, order, idempotency_key, retry_of, origin
            )
        except OrderRefusedError as refused:
            if not defer_s or refused.refusal is not Refusal.OFFLINE:
                raise
            record = self._defer(
                vehicle_id, order, idempotency_key, retry_of, origin, defer_s=defer_s
            )
            parts = []
        with self._waiter(record.command_id) as changed:
            stored = await self._add(record, parts)
            self._trace_accepted(stored, begun_ms)
            if stored.command_id != record.command_id:
                # Two calls with one key at the same time: the other one was first.
                return await self._repeat(stored, order, origin, wait_s)
            for part in parts or (record,):
                if part.frame:
                    await self._send(part)
            return await self._wait(record, changed, wait_s), False

    async def _add(
        self, record: CommandRecord, parts: Sequence[CommandRecord]
    ) -> CommandRecord:
        try:
            return await self._store.add_command(record, *parts)
        except UndecidedError as error:
            # If it is there after all, the sweep sends it while it is valid.
            raise UndecidedError(str(error), command_id=record.command_id) from error

    def _trace_accepted(self, record: CommandRecord, begun_ms: int) -> None:
        if self._tracer is not None:
            now = self._now()
            self._tracer.record([accepted(record, begun_ms=begun_ms, now=now)])

    async def cancel(self, command_id: bytes) -> CommandRecord | None:
        """Take back a command that waits unsigned; None if there is none with this id.

        Raises:
            OrderRefusedError: it was signed, so only the car can end it.
        """
        stored = await self._store.command(command_id)
        if stored is None:
            return None
        if stored.state is CommandState.DEFERRED:
            after = commands.given_up(stored, CommandState.CANCELLED, now=self._now())
            if await self._store.replace_command(stored, after):
                self.changed([after])
                return after
            stored = await self._store.command(command_id) or stored
        raise OrderRefusedError(
            Refusal.TOO_LATE,
            f"the command is {stored.state}: only the vehicle ends what was signed",
        )

    async def find(self, command_id: bytes, *, wait_s: float) -> CommandRecord | None:
        """Return a command, after waiting for its end at most `wait_s` seconds."""
        with self._waiter(command_id) as changed:
            record = await self._store.command(command_id)
            if record is None:
                return None
            return await self._wait(record, changed, wait_s)

    def changed(self, records: Sequence[CommandRecord]) -> None:
        """Wake whoever waits for these commands; called after their commit."""
        self._figures.changed(records)
        for record in records:
            if self._tracer is not None and record.state.is_terminal:
                self._tracer.record(ended(record))
            self.stirred(record.command_id)
            if record.state.is_terminal:
                if record.part_of:
                    self._composer.stir(record.part_of)
                LOG.info(
                    "= command %s %s: %s",
                    record.command_id.hex()[:8],
                    record.kind,
                    record.state,
                    extra={
                        "event": "command_ended",
                        "car": str(record.vehicle_id),
                        "msg_id": record.command_id.hex(),
                    },
                )

    def stirred(self, command_id: bytes) -> None:
        """Wake whoever waits for a command that another bridge may have changed."""
        for event in self._waiting.get(command_id, ()):
            event.set()

    def release(self) -> None:
        """Answer everybody who waits with the state of now, and let nobody wait again.

        The bridge stops: what they wait for comes to another one, who is asked next.
        """
        self._is_released = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def run(self) -> None:
        """Resend and time out, of all bridges in one at a time, until cancelled."""
        try:
            await self._lease.hold(self._sweep_on)
        finally:
            await self.close()

    async def close(self) -> None:
        """Stop carrying compounds on; whoever sweeps next does it."""
        await self._composer.close()

    async def _sweep_on(self, _epoch: int) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            with contextlib.suppress(StoreError):
                await self.sweep()

    async def sweep(self) -> None:
        """Look once for commands that need sending again or have become unknown.

        Raises:
            StoreError: the next sweep tries again.
        """
        now = self._now()
        for stored in await self._store.open_commands():
            record = self._sendings.apply(stored)
            if stored.parts:
                await self._composer.carry_on(stored.command_id)
            elif stored.state is CommandState.DEFERRED:
                await self._sign_deferred(stored, now)
            elif commands.is_overdue(record, now=now):
                await self._give_up(stored, record, now)
            elif commands.may_resend(record, now=now):
                await self._send(record)

    async def _sign_deferred(self, stored: CommandRecord, now: int) -> None:
        """Sign what waited for its car, if the car is there now."""
        if now > stored.expires_ms:
            after = commands.given_up(stored, CommandState.EXPIRED, now=now)
            if await self._store.replace_command(stored, after):
                self.changed([after])
            return
        try:
            opcode = Opcode(stored.opcode)
            _, vehicle = await self._addressee(stored.vehicle_id, opcode)
            signed = await self._bind(stored, vehicle, stored.intent)
        except OrderRefusedError:
            # Offline, in doubt, or nothing may be signed: until the deadline.
            return
        if await self._store.replace_command(stored, signed):
            await self._send(signed)

    async def _give_up(
        self, stored: CommandRecord, record: CommandRecord, now: int
    ) -> None:
        after = commands.timed_out(record, now=now)
        if await self._store.replace_command(stored, after):
            self._sendings.forget(record.command_id)
            LOG.warning(
                "= command %s %s: unknown, no answer came",
                record.command_id.hex()[:8],
                record.kind,
            )
            self.changed([after])

    async def _repeat(
        self, known: CommandRecord, order: Order, origin: Origin, wait_s: float
    ) -> tuple[CommandRecord, bool]:
        if known.origin.caller not in {"", origin.caller}:
            # Answered with the other's command, they would take what that one did, or
            # did long ago, for what they ordered.
            raise OrderRefusedError(
                Refusal.KEY_REUSED,
                "this Idempotency-Key was used by another caller for this vehicle; "
                "nothing was sent, take a key that nobody else takes",
                field="Idempotency-Key",
            )
        if known.request_digest != digest_of(order):
            raise OrderRefusedError(
                Refusal.KEY_REUSED,
                "this Idempotency-Key was used for another order to this vehicle; "
                "nothing was sent, a new order takes a new key",
                field="Idempotency-Key",
            )
        with self._waiter(known.command_id) as changed:
            newest = await self._store.command(known.command_id) or known
            return await self._wait(newest, changed, wait_s), True

    async def _require_undone(
        self, command_id: bytes, vehicle_id: VehicleId, order: Order
    ) -> None:
        earlier = await self._store.command(command_id)
        if (
            earlier is None
            or earlier.vehicle_id != vehicle_id
            or earlier.opcode != opcode_of(order)
        ):
            raise OrderRefusedError(
                Refusal.BAD_VALUE,
                "retry_of names no command of this kind to this vehicle",
                field="retry_of",
            )
        if not commands.is_proved_undone(earlier):
            raise OrderRefusedError(
                Refusal.NOT_PROVED,
                f"the earlier command is {earlier.state}: nothing proves that it was "
                "not executed; wait for its end",
                field="retry_of",
            )

    async def _sign(
        self,
        vehicle_id: VehicleId,
        order: Order,
        idempotency_key: str | None,
        retry_of: bytes,
        origin: Origin,
    ) -> list[CommandRecord]:
        """Return a signed command, or a compound and its first part, signed."""
        if isinstance(order, CompoundOrder):
            return await self._compose(
                vehicle_id, order, idempotency_key, retry_of, origin
            )
        opcode = opcode_of(order)
        record, vehicle = await self._addressee(vehicle_id, opcode)
        await require_books_clear(self._store, vehicle_id, vehicle, order)
        # Deriving a PIN's verifier takes tens of milliseconds on purpose.
        car = KnownCar(
            vehicle_id=vehicle_id,
            fleet_id=self._fleet_id,
            sealing_key=record.sealing_key,
            car_now_ms=self._car_now(vehicle),
            random_bytes=self._random_bytes,
        )
        payload = await asyncio.to_thread(complete, order, car)
        requested = self._request(vehicle_id, order, idempotency_key, retry_of, origin)
        return [await self._bind(requested, vehicle, payload)]

    async def _compose(
        self,
        vehicle_id: VehicleId,
        order: CompoundOrder,
        idempotency_key: str | None,
        retry_of: bytes,
        origin: Origin,
    ) -> list[CommandRecord]:
        await self._addressee(vehicle_id, opcode_of(order))
        compound = composed(
            self._request(vehicle_id, order, idempotency_key, retry_of, origin),
            order,
            [self._random_bytes(ID_SIZE) for _ in range(PARTS)],
            now=self._now(),
        )
        first = await self._composer.signed_part(compound, 0)
        return [replace(compound, ledger_id=first.ledger_id), first]

    async def _sign_part(self, record: CommandRecord, payload: bytes) -> CommandRecord:
        _, vehicle = await self._addressee(record.vehicle_id, Opcode(record.opcode))
        return await self._bind(record, vehicle, payload)

    def _compound_ended(self, record: CommandRecord) -> None:
        self.changed([record])
        self._on_events()

    async def parts_of(self, record: CommandRecord) -> dict[bytes, CommandRecord]:
        """Return those parts of a compound that exist, by id."""
        if not record.parts:
            return {}
        known = await self._composer.parts_of(record)
        return {name: self._sendings.apply(part) for name, part in known.items()}

    def _request(
        self,
        vehicle_id: VehicleId,
        order: Order,
        idempotency_key: str | None,
        retry_of: bytes,
        origin: Origin,
    ) -> CommandRecord:
        opcode = opcode_of(order)
        return commands.request(
            CommandRecord(
                command_id=origin.command_id(vehicle_id) or self._random_bytes(ID_SIZE),
                vehicle_id=vehicle_id,
                kind=KINDS[opcode],
                opcode=opcode,
                rental_id=getattr(order, "rental_id", NO_RENTAL),
                requested_ms=self._now(),
                idempotency_key=idempotency_key,
                request_digest=digest_of(order),
                retry_of=retry_of,
                origin=origin,
            )
        )

    def _defer(
        self,
        vehicle_id: VehicleId,
        order: Order,
        idempotency_key: str | None,
        retry_of: bytes,
        origin: Origin,
        *,
        defer_s: float,
    ) -> CommandRecord:
        if isinstance(order, BoundOrder):
            raise TypeError("an order that holds secrets is never stored")
        requested = self._request(vehicle_id, order, idempotency_key, retry_of, origin)
        now = self._now()
        deadline_ms = now + round(defer_s * 1000)
        payload = build_command(order)
        return commands.deferred(requested, payload, deadline_ms=deadline_ms, now=now)

    async def _bind(
        self, record: CommandRecord, vehicle: VehicleState, payload: bytes
    ) -> CommandRecord:
        """Return a command signed for the car's session and clock as they are now."""
        now = self._now()
        car_now_ms = self._car_now(vehicle)
        to = vehicle.addressee(record.vehicle_id, car_now_ms, now=now)
        opcode, approval_id = Opcode(record.opcode), record.origin.approval_id
        consent = b""
        if approval_id:
            consent = await self._store.read(lambda c: find_consent(c, approval_id))
        try:
            signed = await self._signer.sign(
                SigningOrder(to, opcode, payload, record.command_id, consent)
            )
        except (SigningError, NoSignerError) as error:
            raise refused_by_signer(error) from error
        bound = replace(
            record,
            session_id=vehicle.session_id,
            ledger_id=vehicle.ledger_id,
            checks=_checked(vehicle, opcode, car_now_ms, now=now),
        )
        return commands.signed(
            bound,
            signed,
            expires_ms=now + signed.not_after_ms - car_now_ms,
            now=self._now(),
        )

    async def _addressee(
        self, vehicle_id: VehicleId, opcode: Opcode
    ) -> tuple[VehicleRecord, VehicleState]:
        record = self._registered(vehicle_id)
        vehicle = await self._store.vehicle(vehicle_id) or VehicleState()
        if not self._wire.is_connected:
            raise OrderRefusedError(
                Refusal.OFFLINE,
                "the bridge has no link to the broker; nothing was sent",
            )
        if not vehicle.is_online(now=self._now()):
            raise OrderRefusedError(
                Refusal.OFFLINE,
                "the vehicle is offline; nothing was sent, and nothing happens later",
            )
        if vehicle.doubt is not None:
            raise OrderRefusedError(
                Refusal.IN_DOUBT,
                f"nothing is signed for the vehicle: {vehicle.doubt.reason}; it was "
                "asked to prove that it speaks now, try again",
            )
        for needed in opcodes_for(opcode):
            if not vehicle.understands(needed, COMMAND_SCHEMA):
                for_what = "" if needed is opcode else f", a part of {KINDS[opcode]}"
                raise OrderRefusedError(
                    Refusal.UNSUPPORTED,
                    "the vehicle did not say that it understands "
                    f"{KINDS[needed]}{for_what}",
                    field="kind",
                    capability=KINDS[needed],
                )
        return record, vehicle

    def _registered(self, vehicle_id: VehicleId) -> VehicleRecord:
        registry: Registry = self._registry.current
        record = registry.get(vehicle_id)
        if record is None:
            raise OrderRefusedError(
                Refusal.UNKNOWN_VEHICLE, "no vehicle of this fleet has this id"
            )
        return record

    def _car_now(self, vehicle: VehicleState) -> int:
        car_now_ms = vehicle.clock.car_now_ms(at=self._instant())
        if car_now_ms is None:
            raise OrderRefusedError(
                Refusal.NO_CLOCK,
                "the vehicle's clock is not known yet; try again when it has spoken",
            )
        return car_now_ms

    async def _send(self, record: CommandRecord) -> None:
        now = self._now()
        topic = topic_of(record.vehicle_id, FrameClass.CMD)
        expiry_s = max((record.expires_ms - now) // 1000, 1)
        try:
            await self._wire.send(topic, record.frame, expiry_s=expiry_s)
        except OutcomeUnknownError:
            # It may have arrived: unknown is not failed (L10).
            self._sendings.note(record.command_id, now=now)
        except (NotConnectedError, TransportError) as error:
            LOG.warning("= command %s not sent: %s", record.command_id.hex()[:8], error)
        else:
            self._sendings.note(record.command_id, now=now)

    async def _wait(
        self, record: CommandRecord, changed: asyncio.Event, wait_s: float
    ) -> CommandRecord:
        """Wait for an end that is committed; `changed` was registered beforehand."""
        deadline = asyncio.get_running_loop().time() + wait_s
        newest = record
        while not newest.state.is_terminal and not self._is_released:
            left_s = deadline - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(max(left_s, 0)):
                    await changed.wait()
            except TimeoutError:
                break
            changed.clear()
            try:
                newest = await self._store.command(record.command_id) or newest
            except StoreError as error:
                # It is given: what is known of it is the answer.
                LOG.warning("= command %s: %s", record.command_id.hex()[:8], error)
                break
        return self._sendings.apply(newest)

    @contextlib.contextmanager
    def _waiter(self, command_id: bytes) -> Iterator[asyncio.Event]:
        changed = asyncio.Event()
        waiting = self._waiting.setdefault(command_id, set())
        waiting.add(changed)
        try:
            yield changed
        finally:
            waiting.discard(changed)
            if not waiting:
                self._waiting.pop(command_id, None)


def _checked(
    vehicle: VehicleState, opcode: Opcode, car_now_ms: int, *, now: int
) -> tuple[tuple[str, str], ...]:
    """Return what was found before signing, for whoever asks later."""
    heard_ms = max(now - vehicle.presence.heard_ms, 0)
    schema = dict(vehicle.capabilities).get(int(opcode))
    return (
        ("registered", "the registry has the vehicle's keys"),
        ("online", f"heard {heard_ms} ms before"),
        ("not in doubt", f"session {vehicle.session_id.hex()} stands"),
        ("capability", f"understands {KINDS[opcode]} up to schema {schema}"),
        ("clock", f"its boot clock shows at least {car_now_ms} ms"),
        ("trust", f"it has bundle {vehicle.bundle_version}, group {vehicle.group}"),
    )
