"""The shell's loop: event in, decision committed, state adopted, actions performed.

Rule 1: intent is durable before the bolt moves. Entries are sealed and committed
together with the new state; only then does the state count and anything move. If the
commit fails, the old state stands and nothing was done (architecture.md, L12).
Rule 2: one thing at a time. Events, frames and sessions go through one queue, so a
frame is always judged by the state that the frame before it left.
Rule 3: nothing is decided here.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from gateway.core.acceptance import Refused
from gateway.core.actions import AllowEngine, DriveLocks, SendRefusal
from gateway.core.configuration import Complete
from gateway.core.events import (
    AgentStarted,
    CommandReceived,
    ConfigurationTold,
    DeadlineReached,
    DiskFailed,
    DiskRecovered,
    Event,
    LedgerReplaced,
    Noted,
    RoomChanged,
    UplinkConnected,
    UplinkLost,
)
from gateway.core.ledger import LedgerHead
from gateway.core.moment import NEVER, Moment
from gateway.core.state import Request, State
from gateway.core.trust_renewal import TrustInUse
from gateway.core.turn import Decision
from gateway.core.vehicle import handle, next_deadline
from gateway.ports import (
    Board,
    Clock,
    Display,
    Keyring,
    KeyringError,
    Outlet,
    Positioning,
    RandomBytes,
    Store,
    Stored,
    StoreError,
    Vault,
)
from gateway.runtime.alarm import Alarm
from gateway.runtime.attached import NOTHING, Attached
from gateway.runtime.beginning import UNREADABLE, reset_of
from gateway.runtime.committer import Committer
from gateway.runtime.configurator import Configurator
from gateway.runtime.custodian import Custodian
from gateway.runtime.diagnostician import Diagnostician, Insight, NoInsight, Probe
from gateway.runtime.foreknowledge import Foreknowledge
from gateway.runtime.freshness import is_outdated
from gateway.runtime.herald import Herald
from gateway.runtime.intake import Intake
from gateway.runtime.journal import Journal
from gateway.runtime.key_proofs import KeyProofs
from gateway.runtime.mailbox import Mailbox
from gateway.runtime.parts import Parts
from gateway.runtime.performer import Performer
from gateway.runtime.salvage import Salvage
from gateway.runtime.session import Session
from gateway.runtime.standing import Persona, Standing
from gateway.runtime.step import Observer, Step, ignore
from gateway.runtime.synchroniser import Synchroniser
from gateway.runtime.timekeeper import Timekeeper
from protocol.codes import ClockQuality, Code, DeathReason, FrameClass
from protocol.command import RotateKey
from protocol.event import EventBody
from protocol.keys import SigningKey
from protocol.rental_codes import Component
from protocol.vehicle_event import KeyRotated

QUEUE_LIMIT: Final = 1_024
"""Events of devices that wait; a device that floods loses its own reports only."""

SPIN_GUARD_MS: Final = 1_000
"""How much later a deadline is looked at again that came and changed nothing: a fault
of the mind must not keep the processor, and so the battery, busy."""


NO_PROBES: Final[Mapping[Component, Probe]] = MappingProxyType({})
NO_INSIGHT: Final = NoInsight()


class Runtime:
    """Implements `gateway.ports.Agent` around the core.

    Call `start` once, then `run` beside the devices and the uplink.

    Args:
        persona: who it is.
        trust: the bundle in the car's directory, verified.
        keyring: where the signing key lies.
        key: the signing key that the directory holds.
        time: what is known about the time.
        store: what survives.
        board: locks, lights, engine hold.
        display: screen.
        positioning: where the car is.
        vault: PINs.
        outlet: takes what is to be sent.
        clock: time.
        random_bytes: for sessions and message ids.
        probes: how devices are asked whether they live.
        insight: answers what the state does not.
        observer: is shown every step.
        recovered: is called when the disk takes the ledger again.
    """

    def __init__(
        self,
        persona: Persona,
        *,
        trust: TrustInUse,
        keyring: Keyring,
        key: SigningKey,
        time: Timekeeper,
        store: Store,
        board: Board,
        display: Display,
        positioning: Positioning,
        vault: Vault,
        outlet: Outlet,
        clock: Clock,
        random_bytes: RandomBytes,
        probes: Mapping[Component, Probe] = NO_PROBES,
        insight: Insight = NO_INSIGHT,
        observer: Observer = ignore,
        recovered: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._recovered = recovered
        self._outlet = outlet
        self._positioning = positioning
        self._clock = clock
        self._random_bytes = random_bytes
        self._observer = observer
        # The vehicle stands in the logger's name, so every line of a fleet has it.
        self._log = logging.getLogger(f"{__name__}.{persona.vehicle_id.short}")
        self._mailbox = Mailbox()
        self._alarm = Alarm(clock, lambda: self._mailbox.post(self._take_alarm))
        self._standing = Standing(
            persona=persona,
            key=key,
            trust=trust,
            time=time,
            state=State(),
            head=LedgerHead(b"", 0, b""),
            receipted=0,
            journal=Journal((), now=NEVER),
            session=Session(0, random_bytes, now=NEVER),
        )
        self._herald = Herald(
            self._standing,
            store=store,
            outlet=outlet,
            positioning=positioning,
            clock=clock,
            random_bytes=random_bytes,
        )
        self.parts = Parts()
        """What runs beside this and can be started anew."""
        self._performer = Performer(
            board=board,
            display=display,
            vault=vault,
            parts=self.parts,
            refuse=self._herald.send_refusal,
            report=self._post,
        )
        self._diagnostician = Diagnostician(
            self._standing,
            probes=probes,
            insight=insight,
            store=store,
            clock=clock,
            tell=self._tell,
        )
        self._salvage = Salvage(store=store, outlet=outlet)
        self._committer = Committer(
            self._standing,
            store=store,
            outlet=outlet,
            positioning=positioning,
            random_bytes=random_bytes,
        )
        self._foreknowledge = Foreknowledge(store=store, positioning=positioning)
        self._owes_hello = False
        self._configurator = Configurator(self._standing, store=store, note=self.note)
        self._custodian = Custodian(
            self._standing,
            keyring=keyring,
            clock=clock,
            outlet=outlet,
            herald=self._herald,
            step=self._step,
        )
        self.key_holder = KeyProofs(self._standing, store=store)
        """The signing key of now, for who certifies it."""
        self._intake = Intake(
            self._standing,
            store=store,
            outlet=outlet,
            herald=self._herald,
            proceed=self._obey,
            salvage=self._salvage.take_receipt,
            renew_trust=self._custodian.renew_trust,
            synchroniser=Synchroniser(
                self._standing,
                outlet=outlet,
                herald=self._herald,
                configurator=self._configurator,
            ),
        )
        self._patient_until_ms = 0

    @property
    def state(self) -> State:
        """The state that stands: committed, not merely decided."""
        return self._standing.state

    @property
    def head(self) -> LedgerHead:
        """The newest entry of the ledger."""
        return self._standing.head

    @property
    def dropped(self) -> dict[Code, int]:
        """Frames that were not even answered, by reason."""
        return dict(self._intake.dropped)

    # -- life -------------------------------------------------------------------------

    async def start(self, *, boot_mark: str, in_service: bool = False) -> None:
        """Open the store and queue the start of the agent as the first event.

        Args:
            boot_mark: changes with every boot of the machine.
            in_service: whether the disk has failed so often that it is only read, and
                written again when it lets itself be written (L13).

        Raises:
            StoreError: the store cannot be opened; nothing was done.
        """
        if in_service:
            looked = await self._store.look(boot_mark=boot_mark)
            stored = UNREADABLE if looked is None else looked
        else:
            stored = await self._store.open(boot_mark=boot_mark)
        now = self._clock.now()
        standing = self._standing
        standing.state = stored.state
        standing.head = stored.head
        standing.receipted = stored.receipted
        standing.origin = stored.origin
        self._salvage.start(stored.salvaged)
        standing.journal = Journal(stored.journal, now=now)
        standing.session = Session(stored.boot_counter, self._random_bytes, now=now)
        standing.time.restore(stored.time, same_boot=stored.same_boot)
        self._configurator.start(stored.configurations)
        await self._custodian.settle_key(stored.key_id)
        self.key_holder.start(stored.rotations)
        if in_service:
            self._committer.begin_holding(boot_mark=boot_mark, now=now)
        self._log.info(
            "= start %d, mode %s, ledger at %d of which %d receipted",
            stored.boot_counter,
            stored.state.mode.name,
            stored.head.seq,
            stored.receipted,
        )
        started = AgentStarted(
            stored.boot_counter, standing.persona.firmware, stored.same_boot
        )

        async def begin() -> None:
            """Take the first step of a start."""
            now = self._clock.now()
            if stored.origin and not self._standing.head.seq:
                # FF-LED-09: entry 1, before the ledger says anything else.
                await self._step(LedgerReplaced(reset_of(stored.origin)), now)
            await self._custodian.begin(started, stored, now)
            await self._tell_facts(stored)
            if in_service:
                await self._step(DiskFailed(), now)

        self._mailbox.post(begin)

    async def _tell_facts(self, stored: Stored) -> None:
        """Tell the mind every configuration that is in force, as after each start."""
        for active in stored.configurations:
            try:
                body = await self._store.configuration(active.kind)
            except StoreError as error:
                self._log.warning("= configuration %d not read: %s", active.kind, error)
                continue
            if body is not None:
                told = ConfigurationTold(active.kind, body)
                await self._step(told, self._clock.now())

    @property
    def has_ledger(self) -> bool:
        """Whether it is known which ledger this car has: without it nothing is sent."""
        return any(self._standing.head.ledger_id)

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            StoreError: the store failed in a way that only reopening settles (L13), or
                at the start already; nothing of the event was done. End the process
                and start anew.
        """
        try:
            await self._mailbox.do_next()
            while True:
                self._set_alarm()
                try:
                    await self._mailbox.do_next()
                except StoreError as error:
                    if not error.retryable:
                        raise
                    self._log.warning("= nothing was kept or done: %s", error)
        finally:
            self._alarm.stop()
            self._mailbox.close()
            await self._performer.close()
            await self._diagnostician.close()

    def report(self, event: Event) -> None:
        """Take an event of a device; never blocks."""
        if len(self._mailbox) < QUEUE_LIMIT:
            since_ms = self._clock.now().boot_ms
            self._mailbox.post(lambda: self._take_report(event, since_ms))
        else:
            self._log.warning(
                "= %d events wait: lost one %s", QUEUE_LIMIT, type(event).__name__
            )

    # -- the uplink's side (gateway.ports.Agent) --------------------------------------

    async def prepare_session(self) -> bytes:
        """Begin a new session and return the signed will of its connection."""
        frames: list[bytes] = []

        async def work() -> None:
            now = self._clock.now()
            self._custodian.begin_session(now)
            frames.append(self._herald.prepare(now=now))

        await self._mailbox.ask(work)
        return frames[0]

    async def open_session(self) -> bytes:
        """Return the signed HELLO frame of the session that was prepared."""
        return await self._say_hello(renewed=False)

    async def renew_session(self) -> bytes:
        """Begin a new session on the same connection and return its signed HELLO."""
        return await self._say_hello(renewed=True)

    async def _say_hello(self, *, renewed: bool) -> bytes:
        frames: list[bytes] = []

        async def work() -> None:
            now = self._clock.now()
            if renewed:
                self._custodian.begin_session(now)
            self._standing.session.is_open = True
            self._post(UplinkConnected())
            frames.append(self._herald.hello(now=now))
            # The present first, then the past.
            self._herald.sample(now=now)
            self._herald.send_kept_samples(now=now)
            self._salvage.send()

        await self._mailbox.ask(work)
        return frames[0]

    async def close_session(self) -> None:
        """Make commands of the session void and keep samples for later."""

        async def work() -> None:
            self._custodian.begin_session(self._clock.now())
            self._standing.session.is_open = False
            self._post(UplinkLost())

        await self._mailbox.ask(work)

    def farewell(self) -> bytes:
        """Return the signed DEATH of a car that stops; the loop may have ended."""
        return self._herald.death(DeathReason.STOPPED, now=self._clock.now())

    async def receive(
        self, frame_class: FrameClass, data: bytes, *, retained: bool
    ) -> None:
        """Take one frame from the fleet; returns when what it caused is durable.

        Raises:
            StoreError: it could not be kept; do not acknowledge the message.
        """

        async def work() -> None:
            now = self._clock.now()
            self._custodian.notice_suspend(now)
            await self._intake.take(frame_class, data, retained=retained, now=now)
            await self._custodian.notice_freeze(now)

        await self._mailbox.ask(work)

    def place_frame(self, place: bytes) -> bytes:
        """Return a signed PLACE frame of a stored place."""
        return self._herald.place(place, now=self._clock.now())

    # -- the step ---------------------------------------------------------------------

    def _post(self, event: Event) -> None:
        self._mailbox.post(lambda: self._take(event))

    async def _take(self, event: Event) -> None:
        await self._step(event, self._clock.now())

    async def _take_report(self, event: Event, since_ms: int) -> None:
        """Step a device's event, unless it is no longer true that it just happened."""
        now = self._clock.now()
        self._custodian.notice_suspend(now)
        late_ms = now.boot_ms - since_ms
        if is_outdated(event, late_ms):
            name = type(event).__name__
            self._log.warning("= %s waited %d ms: dropped", name, late_ms)
            return
        await self._step(event, now)

    async def _obey(self, command: CommandReceived, now: Moment) -> Refused | None:
        successor = None
        if isinstance(command.command, RotateKey):
            successor = await self._custodian.next_key()
            if successor is not None:
                command = replace(command, new_key=successor.verify_key.raw)
        decision = await self._step(command, now, Attached(successor=successor))
        if decision.accepted is not None:
            self._diagnostician.take(command, received=now)
        for action in decision.actions:
            if isinstance(action, SendRefusal):
                request = Request(command.msg_id, command.request_hash)
                return Refused(request, action.result.code, action.result.executed)
        return None

    async def rotate_key(self) -> None:
        """Change the signing key by order of somebody at the car (FF-ENR-12).

        Raises:
            KeyringError: no key can be made or named now; the old one stays.
            StoreError: it could not be kept, and the old one stays.
        """
        is_named = False

        async def work() -> None:
            nonlocal is_named
            is_named = await self._custodian.rotate_key(now=self._clock.now())

        await self._mailbox.ask(work)
        if not is_named:
            raise KeyringError(
                "no new signing key can be made now: see the agent's log, free space "
                "on the disk, then order it again"
            )

    async def _tell(self, entries: Sequence[EventBody]) -> None:
        async def work() -> None:
            await self.note(*entries, now=self._clock.now())

        await self._mailbox.ask(work)

    async def note(
        self,
        *entries: EventBody,
        now: Moment,
        configuration: Complete | None = None,
    ) -> None:
        """Write what the shell learned to the ledger, durably; call it from a job.

        Args:
            entries: in order.
            now: when.
            configuration: a body that comes into force in the same transaction.

        Raises:
            StoreError: nothing of it was kept.
        """
        event: Event = Noted(entries)
        if configuration is not None:
            active = configuration.active
            event = ConfigurationTold(active.kind, configuration.body, entries)
        await self._step(event, now, Attached(configuration=configuration))

    async def _step(
        self, event: Event, now: Moment, attached: Attached = NOTHING
    ) -> Decision:
        first = self._foreknowledge.before(event, self._standing.state, now=now)
        if first is not None:
            await self._step(first, now)
        trusted_ms = self._standing.time.trusted_ms(now)
        now = replace(now, trusted_ms=trusted_ms)
        before = self._standing.state
        decision = handle(before, event, now=now)
        if decision.illegal is not None:
            self._log.warning(
                "= %s changes nothing: %s", type(event).__name__, decision.illegal
            )
        entries = await self._committer.commit(decision, attached, now)
        rotates = any(isinstance(body, KeyRotated) for body in decision.entries)
        successor = attached.successor if rotates else None
        if successor is not None:
            await self._custodian.switch_key(successor)
            self.key_holder.note(entries)
        self._observer(Step(before, event, decision, entries, now))
        if entries:
            self._outlet.entries_grew()
        is_late = self._is_late(decision)
        for action in decision.actions:
            if is_late and isinstance(action, DriveLocks | AllowEngine):
                self._log.error("= too late, not done: %s", action)
            else:
                await self._performer.perform(action)
        self._owes_hello |= isinstance(first, RoomChanged)
        if self._owes_hello and decision.state.pending is None:
            # No entry tells of the room, which would cost room (ADR 26). Not before
            # a command has its outcome, which a HELLO without it would deny.
            self._owes_hello = False
            self._herald.announce(now=now)
        return decision

    def _is_late(self, decision: Decision) -> bool:
        """Return whether the actuation ran out of time before it could begin.

        A disk that stalls, or a machine that sleeps, does so in a commit. Nobody stands
        at the car any more, and what was checked before holds no longer (I-1, I-6); the
        deadline that has come answers for it.
        """
        pending = decision.state.pending
        return pending is not None and pending.deadline_ms <= self._clock.now().boot_ms

    # -- time -------------------------------------------------------------------------

    def _set_alarm(self) -> None:
        dues = [
            self._herald.telemetry_due_ms(now=self._clock.now()),
            self._committer.retry_at_ms,
            self._configurator.next_deadline(),
        ]
        deadline_ms = next_deadline(self._standing.state)
        if deadline_ms is not None:
            dues.append(max(deadline_ms, self._patient_until_ms))
        self._alarm.set(min(due for due in dues if due is not None))

    def _look_at_the_sky(self, now: Moment) -> None:
        """Take the time from the satellites, as far as it counts (FF-TIM-08)."""
        told_ms = self._positioning.utc_ms()
        if told_ms is not None:
            self._standing.time.learn(told_ms, ClockQuality.GNSS, now=now)

    async def _take_alarm(self) -> None:
        now = self._clock.now()
        self._custodian.notice_suspend(now)
        await self._custodian.notice_freeze(now)
        self._look_at_the_sky(now)
        if self._herald.telemetry_due_ms(now=now) <= now.boot_ms:
            self._herald.sample(now=now)
        await self._configurator.pass_time(now=now)
        if await self._committer.try_disk(now=now):
            self._recovered()
            await self._step(DiskRecovered(), now)
        deadline_ms = next_deadline(self._standing.state)
        if deadline_ms is None or deadline_ms > now.boot_ms:
            return
        # Also when the step fails: a full disk must not be asked without a pause.
        self._patient_until_ms = now.boot_ms + SPIN_GUARD_MS
        await self._step(DeadlineReached(), now)
        if next_deadline(self._standing.state) == deadline_ms:
            self._log.error("= a deadline of the state does not pass")
        else:
            self._patient_until_ms = 0
