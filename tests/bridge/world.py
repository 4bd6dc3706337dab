"""The bridge without its sockets: real store, intake, dispatcher; broker and clock not.

async with World(fleet, tmp_path / "bridge.sqlite") as world:
    await world.say(FrameClass.HELLO, world.car.hello())
    command = await world.order(Unlock(RENTAL, ANY_VERSION))
"""

import asyncio
import contextlib
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509

from bridge.clock_watch import ClockWatch
from bridge.cloud_event import OFFLINE_TYPE, ONLINE_TYPE
from bridge.commands import CommandRecord, Sendings
from bridge.configurator import Configurator
from bridge.database import Database
from bridge.dispatch import Dispatcher
from bridge.figures import Figures
from bridge.instant import Instant
from bridge.intake import Intake
from bridge.lease import Lease
from bridge.orders import Order
from bridge.registry import RegistryDirectory
from bridge.relay import Relay
from bridge.signer import FrameSigner, InProcessReceiptSigner, OwnSeal
from bridge.sinks.ports import Sink
from bridge.sqlite_database import SqliteDatabase
from bridge.steward import Steward
from bridge.store import Store
from bridge.trust import Trust
from bridge.vehicle import VehicleState
from bridge.wire import Wire
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.fleet import FleetPart
from protocol.keyfile import parse_signing_key
from tests.bridge.car import Car
from tests.bridge.memory_broker import MemoryBroker, Message

if TYPE_CHECKING:
    from bridge.errors import RegistryError
    from bridge.ports import Connect, FrameSeen
    from protocol.keys import SigningKey

NOW_MS: Final = 1_800_000_000_000
"""2027-01-15."""

BOOT_MS: Final = 5_000_000
"""What every car's clock shows at `NOW_MS`."""

MACHINE_MS: Final = 77_000_000
"""What the boot clock of the bridge's machine shows then."""


PRESENCE: Final = frozenset({ONLINE_TYPE, OFFLINE_TYPE})


class World:
    def __init__(
        self,
        fleet: FleetDirectory,
        path: Path,
        sinks: tuple[Sink, ...] = (),
        *,
        database: Database | None = None,
        holder: str = "test",
        connect: "Connect | None" = None,
    ) -> None:
        self.fleet = fleet
        self.now_ms = NOW_MS
        self.stepped_ms = 0
        self.path = path
        self.broker = MemoryBroker()
        self.seen: list[FrameSeen] = []
        self.refused: list[RegistryError] = []
        self.holder = holder
        self._randoms = 0
        self.store = Store(
            database or SqliteDatabase(path),
            fleet_id=fleet.fleet.fleet_id,
            random_bytes=self.random_bytes,
        )
        self.registry = RegistryDirectory(
            fleet.path / FleetPart.REGISTRY,
            fleet_id=fleet.fleet.fleet_id,
            issuers=x509.load_pem_x509_certificates(
                (fleet.path / FleetPart.ISSUING_CERTIFICATE).read_bytes()
            ),
            wall_ns=lambda: 0,
            refused=self.refused.append,
        )
        self.registry.refresh()
        self.cars = [
            Car(fleet.vehicle_directory(vehicle_id), boot_ms=self.boot_ms)
            for vehicle_id in fleet.vehicle_ids()
        ]
        self.car = self.cars[0]
        self.wire = Wire(self.seen.append)
        self.sendings = Sendings()
        self.figures = Figures()
        fleet_id = fleet.fleet.fleet_id
        self.trust = Trust.begin(fleet.trust_bundle(), fleet_id=fleet_id)
        self.command_key = parse_signing_key(
            (fleet.path / FleetPart.COMMAND_KEY).read_bytes(), name="command"
        )
        self.receipt_key = parse_signing_key(
            (fleet.path / FleetPart.RECEIPT_KEY).read_bytes(), name="receipt"
        )
        self.command_keys: list[SigningKey] = [self.command_key]
        self.signer = FrameSigner(
            OwnSeal(lambda: self.command_keys, fleet_id=fleet_id),
            lambda: self.trust,
            sequences=self.store,
            random_bytes=self.random_bytes,
        )
        self.relays = [
            Relay(sink, self.store, now=self.now, random=lambda: 1.0, holder=holder)
            for sink in sinks
        ]
        self.dispatcher = Dispatcher(
            store=self.store,
            registry=self.registry,
            signer=self.signer,
            wire=self.wire,
            sendings=self.sendings,
            fleet_id=fleet_id,
            instant=self.instant,
            random_bytes=self.random_bytes,
            lease=Lease(self.store, "commands", holder=holder),
            figures=self.figures,
            on_events=self._wake,
        )
        self.configurator = Configurator(
            store=self.store,
            signer=self.signer,
            wire=self.wire,
            instant=self.instant,
            sleep=lambda _s: asyncio.sleep(0),
        )
        self.steward = Steward(
            store=self.store,
            trust=lambda: self.trust,
            signer=self.signer,
            configurator=self.configurator,
            wire=self.wire,
            instant=self.instant,
        )
        self.clock_watch = ClockWatch()
        self.intake = Intake(
            connect=connect or self.broker.connect,
            wire=self.wire,
            store=self.store,
            registry=self.registry,
            receipt_signer=InProcessReceiptSigner(
                lambda: (self.receipt_key,),
                lambda: self.trust,
                fleet_id=fleet_id,
                random_bytes=self.random_bytes,
            ),
            fleet_id=fleet_id,
            instant=self.instant,
            random=lambda: 1.0,
            sendings=self.sendings,
            on_commands=self.dispatcher.changed,
            on_events=self._wake,
            on_greeted=self.steward.greeted,
            on_receipt=self.steward.receipted,
            clock_watch=self.clock_watch,
            figures=self.figures,
        )
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.store.open()
        self._tasks.append(asyncio.create_task(self.intake.run()))
        for relay in self.relays:
            await relay.open()
            self._tasks.append(asyncio.create_task(relay.run()))
        await self.broker.subscribed.wait()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.dispatcher.close()
        await self.configurator.close()
        for relay in self.relays:
            await relay.close()
        await self.store.close()

    def now(self) -> int:
        return self.now_ms

    def instant(self) -> Instant:
        boot_ms = MACHINE_MS + self.now_ms - self.stepped_ms - NOW_MS
        return Instant(self.now(), boot_ms, self.holder)

    def boot_ms(self) -> int:
        return BOOT_MS + self.now_ms - self.stepped_ms - NOW_MS

    def step(self, seconds: float) -> None:
        """Set the machine's wall clock forward, or back if negative."""
        self.stepped_ms += round(seconds * 1000)
        self.now_ms += round(seconds * 1000)

    def random_bytes(self, size: int) -> bytes:
        self._randoms += 1
        # Bridges beside one another draw different numbers.
        start = self.holder.encode()[:size] if self.holder != "test" else b""
        return start + self._randoms.to_bytes(size - len(start), "big")

    def advance(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)

    def deliver(
        self, frame_class: FrameClass, data: bytes, car: Car | None = None
    ) -> Message:
        return self.broker.deliver((car or self.car).topic(frame_class), data)

    async def say(
        self, frame_class: FrameClass, *frames: bytes, car: Car | None = None
    ) -> None:
        """Publish as the car and wait until the bridge acknowledged all of it."""
        messages = [self.deliver(frame_class, data, car) for data in frames]
        for message in messages:
            await message.is_done.wait()

    async def greet(self, car: Car | None = None) -> None:
        """Let a car say HELLO, and take its receipt out of the way."""
        who = car or self.car
        await self.say(FrameClass.HELLO, who.hello(), car=who)
        await self.broker.next_sent(FrameClass.RECEIPT)

    async def order(self, order: Order, *, wait_s: float = 0) -> CommandRecord:
        record, _ = await self.dispatcher.submit(
            self.car.id, order, idempotency_key=None, wait_s=wait_s
        )
        return record

    async def vehicle(self, car: Car | None = None) -> VehicleState:
        state = await self.store.vehicle((car or self.car).id)
        assert state is not None
        return state

    async def events(self) -> list[str]:
        """Return the types of what ledgers told; cars that come and go are left out."""
        return [kind for kind in await self.all_events() if kind not in PRESENCE]

    async def all_events(self) -> list[str]:
        """Return the types of everything in the outbox."""
        return [row.type for row in await self.store.outbox_after(0, 1000)]

    async def wait_cursor(self, sink: str, position: int) -> None:
        """Wait until a sink took everything up to `position`."""
        for _ in range(1_000):
            if await self.store.cursor(sink) >= position:
                return
            await asyncio.sleep(0.01)
        raise TimeoutError(sink)

    def _wake(self) -> None:
        for relay in self.relays:
            relay.wake()
