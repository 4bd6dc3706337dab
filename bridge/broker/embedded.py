"""The embedded broker as a context manager: found, configured, started, stopped.

For development, pilots and up to about 1,000 cars; beyond that, run a broker of your
own with deploy/mosquitto.conf (docs/adr/0004-embedded-broker.md).

    async with EmbeddedBroker(
        directory=state / "broker",
        identity=TlsIdentity(broker_crt, broker_key, anchors),
        access=BrokerAccess(
            is_vehicle=registry.admits, withdrawn=lambda: registry.withdrawn
        ),
        clock=clock,
    ) as broker:
        print(broker.kind, broker.host, broker.port)

Nothing that a broker remembers is worth keeping here: sessions are clean, nothing is
retained, and what must not be lost lies in ledgers (reliability.md L1). Each start
begins with an empty store.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Callable
from datetime import datetime
from ipaddress import IPv4Address
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from bridge.broker import mosquitto, nats
from bridge.broker.access import BrokerAccess
from bridge.broker.errors import BrokerDiedError, BrokerSetupError, BrokerStartError
from bridge.broker.mosquitto_warden import MosquittoWarden
from bridge.broker.process import BrokerCommand, BrokerProcess, free_port
from bridge.broker.program import BrokerKind, BrokerProgram, find_broker
from bridge.broker.service_certificate import make_service_certificate, write_private
from bridge.broker.trespass import TrespassWatch
from transport.tls import TlsIdentity, check_server_identity, client_context

if TYPE_CHECKING:
    from bridge.broker.callout import AuthorisationService

_ATTEMPTS: Final = 5
"""How often a free port is looked for: between finding and using it, another program
may take it, rarely once and not five times."""

_LARGEST_PORT: Final = 65_535

ACK_WAIT_S: Final = 30
"""Seconds after which NATS sends an unacknowledged message again on the same
connection; its default, written out because a bridge must commit well within it."""


class EmbeddedBroker:
    """A broker of ours; enter it to start it, leave it to stop it.

    Start it from a thread that lives as long as the broker shall, usually the main one:
    on Linux the kernel ends the broker when that thread ends, however it ends.
    """

    def __init__(
        self,
        *,
        directory: Path,
        identity: TlsIdentity,
        access: BrokerAccess,
        clock: Callable[[], datetime],
        kind: BrokerKind | str = BrokerKind.AUTO,
        host: str = "127.0.0.1",
        port: int = 0,
        binary: Path | None = None,
        ack_wait_s: int = ACK_WAIT_S,
    ) -> None:
        """Note what to run; nothing is started or written yet.

        Args:
            directory: for settings, log and store; made with mode 0700. One broker at
                a time uses it.
            identity: the server's certificate, key and the clients' trust anchors.
            access: who may do what.
            clock: returns the present time, aware; for certificates' dates.
            kind: which broker, or AUTO.
            host: address to listen on; clients must find it in the certificate.
            port: TCP port, or 0 for a free one.
            binary: this program instead of the one that is found.
            ack_wait_s: NATS only; see `ACK_WAIT_S`.
        """
        self._directory = directory
        self._identity = identity
        self._access = access
        self._clock = clock
        self._kind = BrokerKind(kind)
        self._host = host
        self._asked_port = port
        self._binary = binary
        self._ack_wait_s = ack_wait_s
        self._port = port
        self._process: BrokerProcess | None = None
        self._service: AuthorisationService | None = None
        self._warden: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def kind(self) -> BrokerKind:
        """Which broker; never AUTO once it has been entered."""
        return self._kind

    @property
    def host(self) -> str:
        """The address that it listens on."""
        return self._host

    @property
    def port(self) -> int:
        """The MQTT port; 0 until it has been entered."""
        return self._port

    @property
    def log(self) -> Path:
        """The broker's own log."""
        return self._directory / "broker.log"

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return None if self._process is None else self._process.pid

    async def __aenter__(self) -> Self:
        """Start the broker; it answers when this returns.

        Raises:
            TlsSetupError: the server's certificate or key cannot be used.
            BrokerSetupError: there is no broker, or the directory cannot be used.
            BrokerStartError: the broker gave up, for instance because the port is in
                use. No process is left.
        """
        if self._process is not None:
            raise BrokerSetupError("this broker is running already")
        if not 0 <= self._asked_port <= _LARGEST_PORT:
            raise BrokerSetupError(
                f"port {self._asked_port} is not within 0 and {_LARGEST_PORT}"
            )
        check_server_identity(self._identity, now=self._clock())
        program = find_broker(self._kind, binary=self._binary)
        self._prepare_directory()
        for attempt in range(1, _ATTEMPTS + 1):
            self._port = self._asked_port or self._find_port()
            try:
                await self._start(program)
            except BrokerStartError as error:
                can_try_another = error.is_port_taken and not self._asked_port
                if not can_try_another or attempt == _ATTEMPTS:
                    raise
            else:
                break
        self._kind = program.kind
        clock_s = asyncio.get_running_loop().time
        watch = TrespassWatch(self.log, clock_s=clock_s)
        self._watch = asyncio.create_task(watch.run(), name="broker log")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the broker; no process is left when this returns."""
        await self.stop()

    async def stop(self) -> None:
        """Stop the broker before the context ends; calling it again does nothing."""
        service, self._service = self._service, None
        process, self._process = self._process, None
        tasks = [one for one in (self._warden, self._watch) if one is not None]
        self._warden = self._watch = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        # The process first: taking leave of one that is frozen would take 30 s.
        try:
            if process is not None:
                await process.stop()
        finally:
            if service is not None:
                await service.stop()

    async def wait_died(self) -> BrokerDiedError:
        """Wait until the broker has ended unasked; return why, in its own words.

        Run it as a task beside the program's others. After an orderly stop it never
        returns: cancel it.
        """
        process, service = self._process, self._service
        if process is None:
            raise BrokerSetupError("this broker is not running")
        if service is None:
            return await process.wait_died()
        died = asyncio.ensure_future(process.wait_died())
        closed = asyncio.ensure_future(service.closed.wait())
        try:
            await asyncio.wait({died, closed}, return_when=asyncio.FIRST_COMPLETED)
            # The connection breaks a moment before the kernel reports the process.
            await asyncio.wait({died}, timeout=1)
            if died.done() or process.is_stopping:
                return await died
        finally:
            died.cancel()
            closed.cancel()
        return BrokerDiedError(
            "the connection of the authorisation service to nats-server broke, so "
            "nobody can connect any more: start again"
        )

    def _prepare_directory(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.log.touch(mode=0o600)
        except OSError as error:
            raise BrokerSetupError(
                f"{self._directory} cannot be used for the broker's files "
                f"({error.strerror}): choose another directory"
            ) from error

    def _find_port(self) -> int:
        try:
            return free_port(self._host)
        except OSError as error:
            raise BrokerSetupError(
                f"this machine has no address {self._host!r} to listen on "
                f"({error.strerror or error}): choose 127.0.0.1 or one of its own"
            ) from error

    async def _start(self, program: BrokerProgram) -> None:
        self.log.write_bytes(b"")  # the last start's complaints are not this one's
        if program.kind is BrokerKind.MOSQUITTO:
            await self._start_mosquitto(program)
        else:
            await self._start_nats(program)

    async def _start_mosquitto(self, program: BrokerProgram) -> None:
        settings = self._directory / "mosquitto.conf"
        certificate = self._directory / "warden.crt"
        warden = TlsIdentity(certificate, self._directory / "warden.key", certificate)
        # Its key stays: mosquitto reads it again at every SIGHUP.
        make_service_certificate(
            warden.certificate,
            warden.key,
            host=IPv4Address("127.0.0.1"),
            now=self._clock(),
        )
        while (warden_port := free_port("127.0.0.1")) == self._port:
            pass  # both are free until mosquitto has them
        access_list = self._directory / "mosquitto.acl"
        withdrawn = self._access.withdrawn()
        write_private(
            access_list,
            mosquitto.mosquitto_access_list(
                self._access.bridges, self._access.engineers, withdrawn
            ).encode(),
        )
        write_private(
            settings,
            mosquitto.mosquitto_settings(
                host=self._host,
                port=self._port,
                identity=self._identity,
                access_list=access_list,
                pid_file=self._directory / "mosquitto.pid",
                warden=warden,
                warden_port=warden_port,
            ).encode(),
        )
        process = self._process = await BrokerProcess.start(
            self._command(
                "mosquitto", program, ("-c", str(settings)), ready=mosquitto.READY
            )
        )
        keeper = MosquittoWarden(
            self._access,
            access_list=access_list,
            reload=process.reload,
            port=warden_port,
            context=client_context(warden, now=self._clock()),
            written=withdrawn,
        )
        self._warden = asyncio.create_task(
            _while_it_lives(process, keeper), name="mosquitto warden"
        )

    async def _start_nats(self, program: BrokerProgram) -> None:
        try:
            from bridge.broker.callout import AuthorisationService  # noqa: PLC0415 - needs packages that only this broker needs
        except ImportError as error:
            raise BrokerSetupError(
                f"nats-server needs the Python package {error.name!r} beside it: "
                "pip install 'freefloat[broker]'"
            ) from error
        store = self._directory / "store"
        shutil.rmtree(store, ignore_errors=True)
        service = AuthorisationService(self._access, clock=self._clock)
        issuer, callout, steward, warden = service.public_keys
        identity = nats.NatsServiceIdentity(
            certificate=self._directory / "service.crt",
            key=self._directory / "service.key",
            issuer=issuer,
            callout=callout,
            steward=steward,
            warden=warden,
        )
        make_service_certificate(
            identity.certificate,
            identity.key,
            host=IPv4Address("127.0.0.1"),
            now=self._clock(),
        )
        client_port = free_port("127.0.0.1")
        settings = self._directory / "nats-server.conf"
        write_private(
            settings,
            nats.nats_settings(
                host=self._host,
                port=self._port,
                client_port=client_port,
                identity=self._identity,
                service=identity,
                store=store,
                ack_wait_s=self._ack_wait_s,
            ).encode(),
        )
        process = await BrokerProcess.start(
            self._command(
                "nats-server", program, ("-c", str(settings)), ready=nats.READY
            )
        )
        try:
            await service.start(client_port, identity)
        except BaseException:
            await process.stop()
            raise
        finally:
            # Both sides have read them; a copy of a running broker's directory shall
            # not be a way in.
            with contextlib.suppress(OSError):
                identity.key.unlink()
        self._process, self._service = process, service

    def _command(
        self,
        name: str,
        program: BrokerProgram,
        arguments: tuple[str, ...],
        *,
        ready: str,
    ) -> BrokerCommand:
        chain = x509.load_pem_x509_certificates(self._identity.certificate.read_bytes())
        return BrokerCommand(
            name=name,
            arguments=(str(program.path), *arguments),
            log=self.log,
            ready=ready,
            host=self._host,
            port=self._port,
            certificate=chain[0].public_bytes(Encoding.DER),
            trust_anchors=self._identity.trust_anchors,
        )


async def _while_it_lives(process: BrokerProcess, warden: MosquittoWarden) -> None:
    task = asyncio.ensure_future(warden.run())
    died = asyncio.ensure_future(process.wait_died())
    try:
        await asyncio.wait({task, died}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        died.cancel()
        await asyncio.gather(task, died, return_exceptions=True)
