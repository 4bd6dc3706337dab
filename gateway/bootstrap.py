"""Putting a gateway together. What it consists of comes in; nothing is looked up here.

Devices are arguments, so the same function builds the gateway of a real car, of an
emulated one and of a test. Reader, board and display may not exist yet when they are
passed: their `run` opens them.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from gateway.core.events import Event
from gateway.core.state import State
from gateway.ports import (
    Board,
    Clock,
    Display,
    KeyHolder,
    Keyring,
    Positioning,
    RandomBytes,
    Reader,
    Store,
    StoreError,
    Vault,
    Worker,
)
from gateway.recorder.flight_recorder import FlightRecorder
from gateway.recorder.insight import CarInsight
from gateway.recorder.tape import Tape
from gateway.runtime.endurance import Endurance
from gateway.runtime.runtime import Runtime
from gateway.runtime.standing import Persona
from gateway.runtime.step import Observer, Step, ignore
from gateway.runtime.timekeeper import Timekeeper
from gateway.storage.failure_note import FailureNote
from gateway.storage.files import SystemFiles
from gateway.storage.identity import Identity
from gateway.storage.key_files import KeyFiles
from gateway.storage.key_order import KeyOrder
from gateway.storage.ledger_store import LedgerStore
from gateway.storage.signer import Signer
from gateway.storage.update_order import UpdateOrder
from gateway.storage.vault import SealedVault
from gateway.storage.worker import ThreadWorker
from gateway.uplink.journeys import Journeys
from gateway.uplink.link import LinkFactory
from gateway.uplink.mqtt_uplink import MqttUplink
from gateway.uplink.renewal import Renewal
from protocol.codes import Code
from protocol.rental_codes import Component
from transport.backoff import Backoff
from transport.collector import Tracer

_VERSION_PARTS: Final = 3

RECORDER_KEY_SIZE: Final = 32
"""Bytes of what hides cards in a recording; drawn anew at each start."""


class Gateway:
    """A gateway ready to run; made by `build_gateway`, run once."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        uplink: MqttUplink,
        store: Store,
        reader: Reader,
        board: Board,
        display: Display,
        boot_mark: str,
        renewal: Renewal | None,
        clock: Clock,
        failures: FailureNote,
        key_order: KeyOrder | None,
        update_order: UpdateOrder | None,
        recorder: FlightRecorder | None,
        endurance: Endurance | None,
        close: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._uplink = uplink
        self._store = store
        self._reader = reader
        self._board = board
        self._display = display
        self._boot_mark = boot_mark
        self._renewal = renewal
        self._clock = clock
        self._failures = failures
        self._key_order = key_order
        self._update_order = update_order
        self._recorder = recorder
        self._endurance = endurance
        self._close = close

    @property
    def state(self) -> State:
        """The state that stands: committed, not merely decided."""
        return self._runtime.state

    @property
    def key_holder(self) -> KeyHolder:
        """The signing key of now, for who certifies it."""
        return self._runtime.key_holder

    @property
    def dropped(self) -> dict[Code, int]:
        """Frames that were not even answered, by reason."""
        return self._runtime.dropped

    def report(self, event: Event) -> None:
        """Take an event as a device would; never blocks."""
        self._runtime.report(event)

    async def rotate_key(self) -> None:
        """Change the signing key, as ROTATE_KEY does; call it while `run` runs.

        Raises:
            KeyringError: the old key stays.
            StoreError: as of `run`, and the old key stays.
        """
        await self._runtime.rotate_key()

    async def run(self) -> None:
        """Run until cancelled; then everything is closed, and all that counts is kept.

        Raises:
            AgentRestartError: the fleet has agent or computer started anew (I-33), or
                a reduced agent ends to be whole (I-30).
            StoreError: the ledger cannot be opened, or failed. The process should end
                and start anew (reliability.md L13).
        """
        async with AsyncExitStack() as closing:
            closing.callback(self._close)
            closing.push_async_callback(self._store.close)
            await self._start()
            try:
                async with asyncio.TaskGroup() as parts:
                    self._begin_needed(parts)
                    if self._endurance is None or not self._endurance.start.reduced:
                        self._begin_rest(parts)
            except BaseExceptionGroup as group:
                # One part ended all; the others were cancelled and have nothing to say.
                self._note_failure(group.exceptions[0])
                raise group.exceptions[0] from None

    def _begin_needed(self, parts: asyncio.TaskGroup) -> None:
        """Begin what a customer at the car needs: it opens, locks and ends by card."""
        runtime = self._runtime
        report, keep = runtime.report, runtime.parts.keep
        parts.create_task(keep(Component.BOARD, lambda: self._board.run(report)))
        parts.create_task(keep(Component.READER, lambda: self._reader.run(report)))
        parts.create_task(runtime.parts.until_restart())
        parts.create_task(self._display.run(report))
        parts.create_task(runtime.run())
        if self._update_order is not None:
            # Also in a reduced agent, which a better program may make whole.
            parts.create_task(
                self._update_order.follow(report, lambda: runtime.state, self._clock)
            )
        if self._endurance is not None:
            watched = self._endurance.run(self._clock, report, lambda: runtime.state)
            parts.create_task(watched)

    def _begin_rest(self, parts: asyncio.TaskGroup) -> None:
        """Begin what a running rental can do without for a while (I-30)."""
        runtime = self._runtime
        if runtime.has_ledger:
            parts.create_task(
                runtime.parts.keep(Component.UPLINK, lambda: self._uplink.run(runtime))
            )
        if self._recorder is not None:
            parts.create_task(self._recorder.run())
        if self._key_order is not None:
            follow = self._key_order.follow(self.rotate_key, self._clock)
            parts.create_task(follow)
        if self._renewal is not None:
            parts.create_task(
                self._renewal.run(runtime.key_holder, self._uplink.renew_link)
            )

    async def _start(self) -> None:
        """Open the ledger, or begin in service mode if the disk failed again and again.

        Raises:
            StoreError: it cannot be opened.
        """
        now_ms = self._clock.now().boot_ms
        hopeless = self._failures.is_hopeless(self._boot_mark, now_ms=now_ms)
        try:
            await self._runtime.start(boot_mark=self._boot_mark, in_service=hopeless)
        except StoreError as error:
            self._note_failure(error)
            raise

    def _note_failure(self, error: BaseException) -> None:
        # An I/O error, after which nobody knows what was kept.
        if isinstance(error, StoreError) and error.may_have_taken_effect:
            self._failures.add(self._boot_mark, now_ms=self._clock.now().boot_ms)


def build_gateway(
    identity: Identity,
    *,
    store: Path | Store,
    links: LinkFactory,
    reader: Reader,
    board: Board,
    display: Display,
    positioning: Positioning,
    clock: Clock,
    random_bytes: RandomBytes,
    boot_mark: str,
    time: Timekeeper | None = None,
    keyring: Keyring | None = None,
    renewal: Renewal | None = None,
    vault: Vault | None = None,
    backoff: Backoff | None = None,
    observer: Observer = ignore,
    failures: FailureNote | None = None,
    key_order: KeyOrder | None = None,
    update_order: UpdateOrder | None = None,
    recordings: Path | None = None,
    endurance: Endurance | None = None,
    told: Callable[[], Sequence[str]] = lambda: (),
    tracer: Tracer | None = None,
) -> Gateway:
    """Put a gateway together; nothing is opened before it runs.

    Args:
        identity: who it is (`gateway.storage.identity.load_identity`).
        store: the ledger's file, or a store of the caller's.
        links: makes links (`gateway.uplink.mqtt_links.mqtt_links`).
        reader: card reader.
        board: locks, lights, engine hold, sensors.
        display: screen and keypad.
        positioning: where the car is.
        clock: time (`gateway.runtime.system_clock.SystemClock`).
        random_bytes: the system's generator (`secrets.token_bytes`).
        boot_mark: changes with every boot (`gateway.runtime.system_clock.boot_mark`).
        time: what is known about the time, if `links` judges certificates by it.
        keyring: where the signing key lies; None for the identity's directory.
        renewal: keeps the certificate young (`gateway.uplink.renewal`); None where
            somebody else does.
        vault: PINs; None for one with the identity's sealing key in memory.
        backoff: waits between attempts to connect; None for the car's usual ones.
        observer: is shown every step (`gateway.runtime.step`).
        failures: remembers a failing disk over the process's end; None for none that
            does, and so no service mode.
        key_order: where somebody at the car orders a new signing key; None where
            nobody can.
        update_order: where an updater wishes to exchange the program; None where
            nobody does.
        recordings: directory of the flight recorder; None for none.
        endurance: counts crashes over restarts; None where nobody starts it anew.
        told: lines ``name=value`` for SNAPSHOT that the caller alone knows.
        tracer: takes the car's spans; None for none. The caller closes it.
    """
    failures = FailureNote() if failures is None else failures
    workers: list[Worker] = []

    def worker(purpose: str) -> Worker:
        # Named after the car: of a fleet in one process each thread can be told apart.
        workers.append(ThreadWorker(f"{purpose}-{identity.vehicle_id.short}"))
        return workers[-1]

    def close() -> None:
        for each in workers:
            each.close()
        if renewal is not None:
            renewal.close()

    if isinstance(store, Path):
        store = LedgerStore(
            store,
            worker=worker("ledger"),
            random_bytes=random_bytes,
            signer=signer_of(identity),
            marker=identity.ledger_marker,
        )
    if vault is None:
        vault = SealedVault(
            identity.sealing_key,
            fleet_id=identity.fleet_id,
            vehicle_id=identity.vehicle_id,
            worker=worker("vault"),
        )
    if time is None:
        time = Timekeeper(clock, identity.trust.bundle.issued_ms)
    uplink = MqttUplink(
        identity.vehicle_id,
        links=links,
        store=store,
        clock=clock,
        random=lambda: int.from_bytes(random_bytes(4), "big") / 2**32,
        backoff=backoff,
        journeys=(
            None
            if tracer is None
            else Journeys(
                tracer, identity.vehicle_id, clock=clock, trusted_ms=time.trusted_ms
            )
        ),
    )
    if keyring is None:
        keyring = KeyFiles(
            identity.directory,
            identity.signing_key,
            files=SystemFiles(),
            worker=worker("keys"),
        )
    recorder = None
    if recordings is not None:
        recorder = FlightRecorder(
            recordings,
            tape=Tape(
                vehicle=str(identity.vehicle_id),
                version=firmware_text(),
                key=random_bytes(RECORDER_KEY_SIZE),
            ),
            worker=worker("recorder"),
            clock=clock,
        )
        observer = _both(recorder.take, observer)
    runtime = Runtime(
        Persona(
            vehicle_id=identity.vehicle_id,
            fleet_id=identity.fleet_id,
            group=identity.group,
            firmware=firmware_version(),
        ),
        trust=identity.trust,
        key=identity.signing_key,
        keyring=keyring,
        time=time,
        store=store,
        board=board,
        display=display,
        positioning=positioning,
        vault=vault,
        outlet=uplink,
        clock=clock,
        random_bytes=random_bytes,
        probes={Component.BOARD: board.probe, Component.READER: reader.probe},
        insight=CarInsight(
            recorder,
            endurance,
            board_starts=lambda: board.starts,
            told=told,
        ),
        observer=observer,
        recovered=failures.clear,
    )
    return Gateway(
        runtime=runtime,
        uplink=uplink,
        store=store,
        reader=reader,
        board=board,
        display=display,
        boot_mark=boot_mark,
        renewal=renewal,
        clock=clock,
        failures=failures,
        key_order=key_order,
        update_order=update_order,
        recorder=recorder,
        endurance=endurance,
        close=close,
    )


def _both(first: Observer, second: Observer) -> Observer:
    def watch(step: Step) -> None:
        first(step)
        second(step)

    return watch


def signer_of(identity: Identity) -> Signer:
    """Return who signs the entries of this car."""
    return Signer(
        identity.vehicle_id, identity.fleet_id, (identity.signing_key.verify_key,)
    )


def firmware_text() -> str:
    """Return the installed version as people write it."""
    try:
        return version("freefloat")
    except PackageNotFoundError:
        return "0.0.0"


def firmware_version() -> bytes:
    """Return the installed version as on the wire: major, minor, patch, 0."""
    text = firmware_text()
    parts = [int(part) for part in text.split(".")[:_VERSION_PARTS] if part.isdigit()]
    return bytes(min(part, 255) for part in parts).ljust(_VERSION_PARTS + 1, b"\0")
