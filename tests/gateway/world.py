"""A car, its fleet and time: the harness of the gateway's tests.

It builds the real gateway by `gateway.bootstrap`: real runtime, core, ledger store and
uplink. Fakes stand at ports only, SQLite writes to a disk in memory, and time stands
until a test moves it::

    async with World() as world:
        rental = await world.reserve(ALICE)
        world.present(ALICE)
        await world.advance(1.0)
        assert not world.board.locked
"""

import asyncio
import itertools
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.bootstrap import Gateway, build_gateway
from gateway.core.ledger import SealedEntry
from gateway.core.state import State
from gateway.core.trust_renewal import TrustInUse
from gateway.ports import Store, StoreError, Vault
from gateway.runtime.endurance import Endurance
from gateway.runtime.step import Step
from gateway.storage.failure_note import FailureNote
from gateway.storage.identity import Identity
from gateway.storage.key_files import KeyFiles
from gateway.storage.ledger_store import LedgerStore
from gateway.storage.signer import Signer
from gateway.storage.worker import InlineWorker
from protocol.codes import Code, LockDefault
from protocol.command import ANY_VERSION, Reserve
from protocol.event import EventBody, RentalEnded
from protocol.identity import card_digest
from protocol.trust import sign_bundle
from tests.gateway.devices import (
    FakeBoard,
    FakeDisplay,
    FakePositioning,
    FakeReader,
    FakeVault,
)
from tests.gateway.fleet_end import (
    BUNDLE,
    FLEET_ID,
    ROOT_KEY,
    VEHICLE,
    VEHICLE_KEY,
    Air,
    FleetEnd,
)
from tests.gateway.manual_clock import ManualClock, idle
from tests.gateway.powerloss import Disk, DiskVfs
from transport.backoff import Backoff
from transport.collector import Tracer

ALICE: Final = bytes.fromhex("04a1b2c3d4e5f6")
MALLORY: Final = bytes.fromhex("04ffffffffffff")
PIN: Final = "4711"

LEDGER: Final = Path("ledger.db")

IDENTITY: Final = Identity(
    vehicle_id=VEHICLE,
    fleet_id=FLEET_ID,
    signing_key=VEHICLE_KEY,
    sealing_key=X25519PrivateKey.from_private_bytes(bytes(range(32))),
    trust=TrustInUse(BUNDLE, sign_bundle(BUNDLE, (ROOT_KEY,))),
    directory=Path("identity"),
    certificate=Path("tls.crt"),
    certificate_key=Path("tls.key"),
    trust_anchors=Path("trust-anchors.pem"),
)

StoreFactory = Callable[[DiskVfs], Store]
"""Makes the store on a disk."""

SIGNER: Final = Signer(VEHICLE, FLEET_ID, (VEHICLE_KEY.verify_key,))

MARKER: Final = Path("identity/ledger-marker")


def production_store(vfs: DiskVfs) -> Store:
    """Return the store of a real car on a disk in memory."""
    return LedgerStore(
        LEDGER,
        worker=InlineWorker(),
        # Another id for each ledger that begins on one disk.
        random_bytes=SeededBytes(vfs.mount),
        # Small, so that copying the log into the file happens in every test too.
        checkpoint_pages=12,
        signer=SIGNER,
        marker=MARKER,
        vfs=vfs.name,
        files=vfs.files,
    )


class SeededBytes:
    """`gateway.ports.RandomBytes` that repeats with its seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose

    def __call__(self, size: int) -> bytes:
        return self._random.randbytes(size)


class World:
    """One car and everything around it.

    Args:
        identity: who the car is, and whom its directory trusts.
        store: makes the store; tests plant faults with another one.
        vault: PINs; None for one that knows `PIN`.
        seed: of all chance.
        is_online: whether the link can be made at the start.
        recordings: directory of the flight recorder; None for none.
        endurance: counts the starts, given the boot's mark; None for nobody.
        tracer: takes the car's spans; None for nobody.
    """

    def __init__(
        self,
        *,
        identity: Identity = IDENTITY,
        store: StoreFactory = production_store,
        vault: Vault | None = None,
        seed: int = 0,
        is_online: bool = True,
        recordings: Path | None = None,
        endurance: Callable[[str], Endurance] | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.identity = identity
        self.clock = ManualClock()
        self.disk = Disk()
        self.board = FakeBoard(self.clock)
        self.reader = FakeReader()
        self.display = FakeDisplay()
        self.positioning = FakePositioning()
        self.vault = FakeVault(PIN) if vault is None else vault
        self.air = Air()
        self.air.is_up = is_online
        self.fleet = FleetEnd(self.air, self.clock)
        self.air.fleet = self.fleet
        self.steps = list[Step]()
        """Every step of the car, of all its starts."""
        self.failure: BaseException | None = None
        """Why the gateway ended by itself, if it did."""
        self._make_store = store
        self._recordings = recordings
        self._endurance = endurance
        self._tracer = tracer
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._starts = itertools.count(1)
        self._boot_mark = "boot 1"
        self.failures = FailureNote()
        """Outlives the process, as a file of a memory file system does."""
        self._gateway: Gateway | None = None
        self._task: asyncio.Task[None] | None = None
        self._vfs: DiskVfs | None = None
        self.store: Store | None = None

    # -- life -------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the gateway on the disk as it is, and let a second pass."""
        self._vfs = DiskVfs(self.disk)
        self.store = self._make_store(self._vfs)
        self.failure = None
        endurance = None
        if self._endurance is not None:
            endurance = self._endurance(self._boot_mark)
            endurance.begin()
        self._gateway = build_gateway(
            self.identity,
            store=self.store,
            links=self.air.links,
            reader=self.reader,
            board=self.board,
            display=self.display,
            positioning=self.positioning,
            vault=self.vault,
            clock=self.clock,
            random_bytes=SeededBytes(next(self._starts)),
            boot_mark=self._boot_mark,
            keyring=KeyFiles(
                self.identity.directory,
                self.identity.signing_key,
                files=self._vfs.files,
                worker=InlineWorker(),
            ),
            backoff=Backoff(jitter=0.0),
            observer=self.steps.append,
            failures=self.failures,
            recordings=self._recordings,
            endurance=endurance,
            tracer=self._tracer,
        )
        self._task = asyncio.create_task(self._run(self._gateway))
        await self.advance(1.0)

    async def _run(self, gateway: Gateway) -> None:
        try:
            await gateway.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test sees it
            self.failure = error
        finally:
            self.air.link = None

    async def stop(self) -> None:
        """End the gateway in order."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if self._vfs is not None:
            self._vfs.unregister()
            self._vfs = None

    async def crash(self) -> None:
        """Kill the process where it stands; the system keeps what it wrote."""
        self.air.lose()
        self.disk.cut()
        await self.stop()
        self.disk.cut_at = None

    async def restart(self) -> None:
        """Kill the process and start it anew on the running machine."""
        await self.crash()
        await self.start()

    async def power_cut(self, *, off_s: float = 10.0) -> None:
        """Cut the power, lose or tear what was not synced, and boot again."""
        self.air.lose()
        self.disk.cut()
        await self.stop()
        self.disk = self.disk.after_power_cut(self._random)
        self.clock.reboot(off_s)
        self.reboot_mark()
        await self.start()

    def reboot_mark(self) -> None:
        """Let the machine say that it has booted."""
        self._boot_mark = f"boot {self.clock.boot_ms}-{next(self._starts)}"

    @property
    def is_running(self) -> bool:
        """Whether the gateway runs."""
        return self._task is not None and not self._task.done()

    # -- time and doing ---------------------------------------------------------------

    async def advance(self, seconds: float) -> None:
        """Let time pass and everything happen that follows."""
        await self.clock.advance(seconds)

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        await idle()

    def present(self, uid: bytes) -> None:
        """Hold a card to the windscreen."""
        self.reader.present(uid)

    async def reserve(
        self, *cards: bytes, sealed: bytes = b"sealed", rental_id: bytes | None = None
    ) -> bytes:
        """Have the fleet reserve the car for 15 minutes; returns the rental's id."""
        if rental_id is None:
            rental_id = b"rental--" + self._random.randbytes(8)
        data = self.fleet.send(
            reservation(rental_id, *cards, world=self, sealed=sealed)
        )
        await self.settle()
        assert self.fleet.codes_of(data) == [Code.OK]
        return rental_id

    async def begin_rental(self) -> bytes:
        """Reserve for Alice and open by her card; returns the rental's id."""
        rental_id = await self.reserve(ALICE)
        # Past the time in which a second tap counts as the last one.
        await self.advance(2.0)
        self.present(ALICE)
        await self.advance(1.0)
        assert not self.board.locked
        return rental_id

    async def end_rental(self) -> None:
        """Wait out the boarding time and lock by card, which ends by default."""
        await self.advance(10.0)
        self.present(ALICE)
        await self.advance(1.0)

    # -- looking ----------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The state that stands."""
        assert self._gateway is not None, "start the world first"
        return self._gateway.state

    @property
    def gateway(self) -> Gateway:
        """The gateway of now."""
        assert self._gateway is not None, "start the world first"
        return self._gateway

    def written(self) -> list[SealedEntry]:
        """Return every entry that a step wrote, of all starts."""
        return [entry for step in self.steps for entry in step.entries]

    def reports(self) -> list[RentalEnded]:
        """Return the rental reports that reached the fleet."""
        return [
            event for event in self.fleet.events() if isinstance(event, RentalEnded)
        ]

    def events(self) -> list[type[EventBody]]:
        """Return the kinds of events that reached the fleet, in order."""
        return [type(event) for event in self.fleet.events()]

    async def kept(self) -> list[int]:
        """Return the sequences that the car's store holds."""
        assert self.store is not None
        try:
            return [entry.seq for entry in await self.store.entries(1, 10_000)]
        except StoreError:
            return []


def reservation(
    rental_id: bytes, *cards: bytes, world: World, sealed: bytes = b"sealed"
) -> Reserve:
    """Return a reservation of 15 minutes from now."""
    return Reserve(
        rental_id=rental_id,
        expected_version=ANY_VERSION,
        reserved_until_ms=world.clock.boot_ms + 15 * 60_000,
        lock_default=LockDefault.END,
        language=b"de",
        cards=tuple(card_digest(rental_id, card) for card in cards),
        sealed=sealed,
    )
