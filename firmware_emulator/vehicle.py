"""A whole emulated vehicle: the production gateway on emulated devices.

`gateway.bootstrap` puts the gateway together, as it does in a car: the same runtime,
core, store and uplink, with one SQLite file of its own. Only the devices are emulated,
and the way to the broker can be cut.

    async with EmulatedVehicle.on_broker(
        directory, host="127.0.0.1", port=8883, data=data, devices=devices
    ) as vehicle:
        await vehicle.wait_ready()
        ...
        vehicle.cut_link()
        await vehicle.power_cut()
"""

import asyncio
import secrets
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from pathlib import Path
from typing import Final, Protocol, Self

from firmware_emulator.devices import EmulatedDevices
from firmware_emulator.errors import StepError
from firmware_emulator.link import LOOPBACK, CuttableLink
from firmware_emulator.power import MainsStore
from gateway.bootstrap import Gateway, build_gateway, signer_of
from gateway.ports import RandomBytes, StoreError
from gateway.runtime.parts import AgentRestartError
from gateway.runtime.timekeeper import Timekeeper
from gateway.storage.identity import Identity, load_identity
from gateway.uplink.link import Link, LinkFactory
from gateway.uplink.mqtt_links import mqtt_links
from gateway.uplink.tls_store import InstalledTls
from protocol.codes import Light
from protocol.identity import VehicleId
from transport.backoff import Backoff
from transport.collector import Tracer
from transport.tls import TlsIdentity

LEDGER: Final = "ledger.db"
"""Name of the ledger's file in a car's data directory."""

RECORDER: Final = "recorder"
"""Name of the flight recorder's directory there, as in `gateway.settings`."""

READY_TIMEOUT_S: Final = 15.0
"""From starting to a lamp that shows something; a fleet of 50 needs 2 s."""

REBOOT_MS: Final = 1_000
"""How long the emulated computer is without power."""


class Way(AbstractAsyncContextManager[object], Protocol):
    """A car's way to its broker, which can be cut."""

    @property
    def is_cut(self) -> bool:
        """Whether no connection comes up."""

    def cut(self) -> None:
        """Reset the connection and let none come up."""

    def restore(self) -> None:
        """Let connections through again."""

    def stall(self) -> None:
        """Keep the connection and let nothing through."""


class EmulatedVehicle:
    """One vehicle; an asynchronous context manager that lives as long as the car.

    Args:
        identity: which vehicle (`gateway.storage.identity.load_identity`).
        data: directory of its ledger; made if it does not exist.
        devices: its car and what is mounted in it.
        links: makes links to its broker.
        link: the proxy that the links go through, None for a way that cannot be cut.
        time: what it knows about the time, if `links` judges certificates by it.
        random_bytes: for session and message ids.
        backoff: waits between attempts to connect; None for a car's usual ones.
        recorder: whether its flight recorder runs; a large fleet does without.
        tracer: takes its spans; None for none. The caller closes it.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        data: Path,
        devices: EmulatedDevices,
        links: LinkFactory,
        link: Way | None = None,
        time: Timekeeper | None = None,
        random_bytes: RandomBytes = secrets.token_bytes,
        backoff: Backoff | None = None,
        recorder: bool = False,
        tracer: Tracer | None = None,
    ) -> None:
        """Keep the parts; nothing runs before the vehicle is entered."""
        self._identity = identity
        self._links = links
        self._time = time
        self._random_bytes = random_bytes
        self._backoff = backoff
        self._recordings = data / RECORDER if recorder else None
        self._stack = AsyncExitStack()
        self._life: asyncio.Task[None] | None = None
        self._power: asyncio.Task[None] | None = None
        self._store: MainsStore | None = None
        self.data = data
        """Directory of its ledger."""
        self.tracer = tracer
        """Takes its spans, from the next start on if it is set later."""
        self.devices = devices
        """Car, board, reader, display, clock, witness."""
        self.link = link
        """The way to the broker."""
        self.gateway: Gateway | None = None
        """The gateway that runs, None without power. Look at it for reports only."""

    @classmethod
    def on_broker(
        cls,
        directory: Path,
        *,
        host: str,
        port: int,
        data: Path,
        devices: EmulatedDevices,
        backoff: Backoff | None = None,
        recorder: bool = False,
    ) -> Self:
        """Return a vehicle that reaches a real broker over a link that can be cut.

        Args:
            directory: the car's directory of `freefloat certs issue`.
            host: the broker; its certificate must name 127.0.0.1 too, as those of
                `freefloat certs init` do, because the car talks to the proxy.
            port: its port.
            data: directory of the ledger.
            devices: the car and what is mounted in it.
            backoff: waits between attempts to connect.
            recorder: whether its flight recorder runs.

        Raises:
            IdentityError: the directory cannot be used.
        """
        identity = load_identity(directory)
        link = CuttableLink(host, port)
        real_links: LinkFactory | None = None
        tls = InstalledTls(
            TlsIdentity(
                identity.certificate, identity.certificate_key, identity.trust_anchors
            )
        )

        time = Timekeeper(devices.clock, identity.trust.bundle.issued_ms)

        def links(will: bytes) -> AbstractAsyncContextManager[Link]:
            # The proxy's port is known when it listens, and stays the same.
            nonlocal real_links
            if real_links is None:
                real_links = mqtt_links(
                    identity.vehicle_id,
                    tls,
                    host=LOOPBACK,
                    port=link.port,
                    time=time,
                )
            return real_links(will)

        return cls(
            identity,
            data=data,
            devices=devices,
            links=links,
            link=link,
            time=time,
            backoff=backoff,
            recorder=recorder,
        )

    # --- life -----------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Build the car, switch the power on and let it live.

        Raises:
            OSError: the data directory cannot be made.
        """
        self.data.mkdir(parents=True, exist_ok=True)
        await self._stack.__aenter__()
        if self.link is not None:
            await self._stack.enter_async_context(self.link)
        self._life = asyncio.create_task(self.devices.world.run())
        self._switch_on()
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End the gateway as a service manager would, then the car."""
        await self._switch_off()
        if self._life is not None:
            await _end(self._life)
        await self._stack.aclose()

    @property
    def vehicle_id(self) -> VehicleId:
        """Which vehicle."""
        return self._identity.vehicle_id

    @property
    def recordings(self) -> Path | None:
        """Where its flight recorder writes; None if it has none."""
        return self._recordings

    @property
    def has_power(self) -> bool:
        """Whether its gateway runs."""
        return self._power is not None and not self._power.done()

    async def wait_ready(self, *, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Return when the car's lamp shows that somebody is in command.

        Raises:
            StepError: it does not; the gateway's own error is the cause.
        """

        def is_ready() -> bool:
            return self._is_dead() or self.devices.world.firmware.indicator.light in {
                Light.GREEN,
                Light.YELLOW,
                Light.RED,
            }

        await self.devices.witness.until(
            is_ready, timeout_s=timeout_s, missing="the car's light"
        )
        self.require_alive()

    def require_alive(self) -> None:
        """Return if the gateway runs.

        Raises:
            StepError: it ended by itself; the cause says why.
        """
        if self._is_dead() and self._power is not None:
            cause = None if self._power.cancelled() else self._power.exception()
            raise StepError(f"the gateway of {self.vehicle_id} ended: {cause}") from (
                cause
            )

    async def power_cut(self, *, off_ms: int = REBOOT_MS) -> None:
        """Take the power away from gateway and board, and give it back.

        Nothing is finished: the broker sees a reset, the disk keeps what was committed.
        Bolts, starter relay, engine and speed are mechanics and stay as they are.

        Args:
            off_ms: how long, in the world's time.
        """
        await self.power_off()
        await self.devices.clock.sleep(off_ms)
        self.power_on()

    async def power_off(self) -> None:
        """Take the power away from gateway and board; see `power_cut`."""
        was_cut = self.link is not None and self.link.is_cut
        if self.link is not None:
            self.link.cut()
        if self._store is not None:
            await self._store.cut()
        await self._switch_off()
        if self._store is not None:
            self._store.restore_disk()
            self._store = None
        if self.link is not None and not was_cut:
            self.link.restore()

    def power_on(self) -> None:
        """Give power back: machine and board boot, the gateway starts."""
        self.devices.clock.reboot()
        self.devices.world.restart_board()
        self._switch_on()

    async def restart(self) -> None:
        """End the gateway in order and start it again; the machine keeps running."""
        await self._switch_off()
        self._switch_on()

    def cut_link(self) -> None:
        """Reset the connection to the broker and let none come up.

        Raises:
            RuntimeError: this vehicle was composed without a link that can be cut.
        """
        self._require_link().cut()

    def restore_link(self) -> None:
        """Let connections through again; the car reconnects by itself."""
        self._require_link().restore()

    # --- power ----------------------------------------------------------------------

    def crowd_disk(self, left_kib: int | None) -> None:
        """Let other programs fill the disk, until the next start.

        Args:
            left_kib: what they leave, KiB; None for enough.
        """
        if self._store is None:
            raise StepError("without power nobody fills the disk")
        self._store.left_kib = left_kib

    def _switch_on(self) -> None:
        devices = self.devices
        self._store = MainsStore(
            self.data / LEDGER,
            random_bytes=self._random_bytes,
            signer=signer_of(self._identity),
        )
        self.gateway = build_gateway(
            self._identity,
            store=self._store,
            links=self._links,
            reader=devices.reader,
            board=devices.board,
            display=devices.display,
            positioning=devices.positioning,
            clock=devices.clock,
            random_bytes=self._random_bytes,
            boot_mark=devices.clock.boot_mark,
            time=self._time,
            backoff=self._backoff,
            observer=devices.witness.stepped,
            recordings=self._recordings,
            tracer=self.tracer,
        )
        self._power = asyncio.create_task(self._live(self.gateway))
        self._power.add_done_callback(lambda _: devices.witness.notice())

    async def _live(self, gateway: Gateway) -> None:
        """Run the gateway; start it anew as a supervisor if the fleet wants it."""
        try:
            await gateway.run()
        except AgentRestartError as error:
            if error.of_machine:
                self.devices.clock.reboot()
            self._switch_on()

    async def _switch_off(self) -> None:
        if self._power is not None:
            # Without power its store fails; in order it ends by being cancelled.
            with suppress(StoreError):
                await _end(self._power)
        self._power = None
        self.gateway = None

    def _is_dead(self) -> bool:
        return self._power is not None and self._power.done()

    def _require_link(self) -> Way:
        if self.link is None:
            raise RuntimeError("this vehicle's link cannot be cut")
        return self.link


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it has ended; its own error is raised."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
