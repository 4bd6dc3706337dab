"""A whole car of the simulation: the production gateway on emulated devices.

Its ledger lies on a disk in memory that loses and tears what was not synced
(`tests.gateway.powerloss`), its way to the broker is the simulation's, and everything
else is what a car has: the same bootstrap, core, runtime, store, uplink and vault.
"""

import asyncio
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final

from firmware_emulator.car import Car
from firmware_emulator.chance import seeded
from firmware_emulator.devices import EmulatedDevices, mixed_car
from gateway.bootstrap import Gateway, build_gateway, signer_of
from gateway.core.appearance import light_of
from gateway.core.state import State
from gateway.ports import StoreError
from gateway.runtime.parts import AgentRestartError
from gateway.runtime.room import RESERVED_KIB
from gateway.runtime.step import Step
from gateway.storage.failure_note import FailureNote
from gateway.storage.identity import Identity
from gateway.storage.key_files import KeyFiles
from gateway.storage.worker import ThreadWorker
from gateway.uplink.link import Link
from protocol.codes import FrameClass
from protocol.topic import topic_of
from tests.gateway.powerloss import Disk, DiskVfs
from tests.simulation.broker import Broker
from tests.simulation.clock import JumpyClock
from tests.simulation.oracle import Oracle
from tests.simulation.trace import Trace
from tests.simulation.watched_store import WatchedStore

LEDGER: Final = Path("ledger.db")

UP_MS: Final = 3_600_000
"""How long a car's machine has been up when a seed begins."""

LAMP_LOOK_S: Final = 0.4

LAMP_MOST_S: Final = 1.0
"""How long the lamp may be wrong: 500 ms for the mind (H15), and as long again for two
looks and for a board that joins the line."""

ANEW_S: Final = 1.0
"""After which a supervisor starts an agent that ended by itself."""


class SimulatedCar:
    """One car; `start` it once, then hurt it."""

    def __init__(
        self,
        name: str,
        identity: Identity,
        *,
        rng: Random,
        broker: Broker,
        oracle: Oracle,
        trace: Trace,
    ) -> None:
        self.name = name
        self.identity = identity
        self.broker = broker
        self.oracle = oracle
        self._trace = trace
        self._rng = rng
        loop = asyncio.get_running_loop()
        self.clock = JumpyClock(
            loop.time, lambda: oracle.began_ms / 1_000, booted_before_ms=UP_MS
        )
        physics = oracle.watched(
            mixed_car(seeded(rng.getrandbits(64), "body")), self.name
        )
        self.devices = EmulatedDevices(physics, self.clock)
        self.disk = Disk()
        self.disk_left_kib: int | None = None
        """Room that other programs leave on the disk; None for enough."""
        self._failures = FailureNote()
        self._vfs: DiskVfs | None = None
        self._life: asyncio.Task[None] | None = None
        self._world: asyncio.Task[None] | None = None
        self._lamp: asyncio.Task[None] | None = None
        self.store: WatchedStore | None = None
        self.gateway: Gateway | None = None
        oracle.add_car(self.identity, self)

    @property
    def client(self) -> str:
        """Its name at the broker."""
        return str(self.identity.vehicle_id)

    @property
    def physics(self) -> Car:
        return self.devices.car

    @property
    def state(self) -> State | None:
        """The state that stands; None without power."""
        return None if self.gateway is None else self.gateway.state

    def fill_disk(self, left_kib: int | None) -> None:
        """Let other programs fill the disk, or make room again (I-20)."""
        self.disk_left_kib = left_kib
        kept = self.oracle.cars[self.client].kept
        is_full = left_kib is not None and left_kib < RESERVED_KIB
        kept.full_since_s = asyncio.get_running_loop().time() if is_full else None

    # -- life ----------------------------------------------------------------------

    def start(self) -> None:
        """Build the car and switch it on."""
        self._world = asyncio.create_task(self.devices.world.run())
        self._lamp = asyncio.create_task(self._watch_lamp())
        self._switch_on()

    async def end(self) -> None:
        """End everything; no invariant is asked any more."""
        await self._switch_off()
        for task in (self._lamp, self._world):
            if task is not None:
                await _cancel(task)

    async def power_cut(self, off_s: float) -> None:
        """Cut the power, lose or tear what was not synced, and boot again."""
        self._trace.note(self.name, f"loses power for {off_s:.1f} s", kind="power cuts")
        await self._die()
        self.disk = self.disk.after_power_cut(self._rng)
        self.devices.world.restart_board()
        await asyncio.sleep(off_s)
        self.clock.reboot()
        self.devices.world.restart_board()
        self._switch_on()

    async def kill(self) -> None:
        """Kill the agent: the system keeps what it wrote, a supervisor starts anew."""
        self._trace.note(self.name, "agent is killed", kind="agents killed")
        await self._die()
        self.disk.cut_at = None
        await asyncio.sleep(ANEW_S)
        self._switch_on()

    @property
    def is_on(self) -> bool:
        return self._life is not None

    async def _die(self) -> None:
        self.disk.cut()
        self.oracle.car_died(self.client)
        self.broker.cut(self.client)
        await self._switch_off()

    def _switch_on(self) -> None:
        vfs = self._vfs = DiskVfs(self.disk)
        rng = seeded(self._rng.getrandbits(64), "agent")
        identity, devices = self.identity, self.devices
        self.store = WatchedStore(
            LEDGER,
            disk_left_kib=lambda: self.disk_left_kib,
            on_release=partial(self.oracle.require_receipted, self.client),
            worker=ThreadWorker("ledger"),
            random_bytes=rng.randbytes,
            checkpoint_pages=12,
            signer=signer_of(identity),
            marker=Path("identity/ledger-marker"),
            vfs=vfs.name,
            files=vfs.files,
        )
        self.gateway = build_gateway(
            identity,
            store=self.store,
            links=self._connect,
            reader=devices.reader,
            board=devices.board,
            display=devices.display,
            positioning=devices.positioning,
            clock=self.clock,
            random_bytes=rng.randbytes,
            boot_mark=self.clock.boot_mark,
            keyring=KeyFiles(
                identity.directory,
                identity.signing_key,
                files=vfs.files,
                worker=ThreadWorker("keys"),
            ),
            observer=self._stepped,
            failures=self._failures,
        )
        self._life = asyncio.create_task(self._live(self.gateway, self.disk))

    def _connect(self, will: bytes) -> AbstractAsyncContextManager[Link]:
        topic = topic_of(self.identity.vehicle_id, FrameClass.DEATH)
        return self.broker.connect(self.client, (topic, will))

    def _stepped(self, step: Step) -> None:
        self.devices.witness.stepped(step)
        self.oracle.stepped(self.client, step)

    async def _watch_lamp(self) -> None:
        """I-16: look at the lamp itself, through the windscreen."""
        loop = asyncio.get_running_loop()
        right_s = loop.time()
        while True:
            await asyncio.sleep(LAMP_LOOK_S)
            board, state = self.devices.board, self.state
            is_joined = board._link is not None and not board._is_lost
            shown = self.devices.world.firmware.indicator
            if (
                state is None
                or not is_joined
                or board.cable_cut
                or (shown.light, shown.blinking) == light_of(state)
            ):
                right_s = loop.time()
            elif loop.time() - right_s > LAMP_MOST_S:
                self.oracle.fail(
                    f"I-16: the lamp of {self.name} shows {shown}, it should show "
                    f"{light_of(state)[0].name}"
                )

    async def _live(self, gateway: Gateway, disk: Disk) -> None:
        """Run the gateway; start it anew as a supervisor would."""
        try:
            await gateway.run()
        except AgentRestartError as error:
            self._trace.note(self.name, "starts anew by order")
            self._trace.count("agents started anew by order")
            # Nobody is there until the supervisor has started it.
            self.gateway = None
            if error.of_machine:
                self.oracle.car_died(self.client)
                self.clock.reboot()
                self.devices.world.restart_board()
        except StoreError as error:
            if disk is not self.disk or disk.cut_at is not None:
                return
            self._trace.note(self.name, f"ends by itself: {type(error).__name__}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
            self.oracle.fail(f"{self.name}: the gateway ended by {error!r}", error)
            return
        else:
            return
        await asyncio.sleep(ANEW_S)
        self._drop_disk()
        self._switch_on()

    async def _switch_off(self) -> None:
        life, self._life = self._life, None
        if life is not None:
            with suppress(StoreError):
                await _cancel(life)
        self.gateway = self.store = None
        self._drop_disk()

    def _drop_disk(self) -> None:
        if self._vfs is not None:
            self._vfs.unregister()
            self._vfs = None


async def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
