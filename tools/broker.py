"""``freefloat broker``: one for a trial, and what a real one needs beside it."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import click
from cryptography import x509

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from bridge.broker.mosquitto_warden import MosquittoWarden
from bridge.broker.program import BrokerKind
from bridge.broker.service_certificate import make_service_certificate
from bridge.errors import RegistryError
from bridge.registry import RegistryDirectory
from protocol.errors import DecodeError
from protocol.fleet import FILE_LIMIT, FleetPart, parse_fleet
from tools.address import ListenAddress
from tools.broker_watch import watch
from tools.clock import read_clock, wall_clock
from tools.console import examples, facts, step
from tools.errors import OperatorError
from transport.tls import TlsIdentity, client_context

LOG_FORMAT: Final = "%(asctime)s %(message)s"
LOOK_S: Final = 1.0
"""How often the registry is read."""

_LOG: Final = logging.getLogger(__name__)
_CERTIFICATE_LIMIT: Final = 64 * 1024

fleet_option: Final = click.option(
    "--fleet",
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="The fleet directory, or its fleet.json, ca/issuing.crt and registry/.",
)
bridges_option: Final = click.option(
    "--bridge",
    "bridges",
    multiple=True,
    default=("ff-bridge-1",),
    show_default=True,
    metavar="NAME",
    help="Name of a bridge replica. May be repeated.",
)
engineers_option: Final = click.option(
    "--engineer",
    "engineers",
    multiple=True,
    default=("ff-engineer-1",),
    show_default=True,
    metavar="NAME",
    help="Name of an engineer. May be repeated.",
)


@click.group(
    epilog=examples(
        "freefloat broker run --fleet fleet --listen 127.0.0.1:8883",
        "freefloat broker warden /etc/mosquitto/freefloat",
        "freefloat broker guard --fleet fleet",
        "freefloat broker watch --metrics 127.0.0.1:9465 < LOG",
    )
)
def broker() -> None:
    """Run a broker for a trial; keep withdrawn cars off a real one, and watch it."""


broker.add_command(watch)


@broker.command(epilog=examples("freefloat broker run --fleet fleet"))
@fleet_option
@bridges_option
@engineers_option
@click.option(
    "--listen",
    type=ListenAddress(),
    default="127.0.0.1:8883",
    show_default=True,
    help="Where to listen; clients must find the address in the broker's certificate.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("broker-state"),
    show_default=True,
    metavar="DIR",
    help="For its settings and its log.",
)
@click.option(
    "--kind",
    type=click.Choice([kind.value for kind in BrokerKind]),
    default=BrokerKind.AUTO.value,
    show_default=True,
    help="Which broker.",
)
def run(
    fleet: Path,
    bridges: tuple[str, ...],
    engineers: tuple[str, ...],
    listen: tuple[str, int],
    directory: Path,
    kind: str,
) -> None:
    """Run the embedded broker until Ctrl-C: for trials and pilots.

    Cars are let in by the registry; who leaves it is thrown out within seconds.
    """
    logging.basicConfig(format=LOG_FORMAT, level=logging.INFO)
    registry = _open_registry(fleet)
    embedded = EmbeddedBroker(
        directory=directory,
        identity=TlsIdentity.of_fleet(fleet, FleetPart.BROKER),
        access=_access(registry, bridges, engineers),
        clock=wall_clock,
        kind=kind,
        host=listen[0],
        port=listen[1],
    )
    asyncio.run(_run(embedded, registry))


@broker.command(
    short_help="Make the certificate with which 'guard' speaks to mosquitto.",
    epilog=examples("freefloat broker warden /etc/mosquitto/freefloat"),
)
@click.argument(
    "directory", type=click.Path(path_type=Path, file_okay=False, exists=True)
)
def warden(directory: Path) -> None:
    """Make warden.crt and warden.key in DIRECTORY, for 'freefloat broker guard'.

    The certificate belongs to no CA: mosquitto's listener on loopback shows it and
    trusts it alone.
    """
    certificate, key = directory / "warden.crt", directory / "warden.key"
    for path in (certificate, key):
        if path.exists():
            raise OperatorError(
                f"{path} exists already; nothing was touched",
                "remove both files to make new ones, then restart mosquitto",
            )
    make_service_certificate(
        certificate, key, host=IPv4Address("127.0.0.1"), now=read_clock()
    )
    step("made the warden's certificate")
    facts({"certificate": str(certificate), "key": str(key)})


@broker.command(
    epilog=examples(
        "freefloat broker guard --fleet /etc/freefloat/fleet",
        "freefloat broker guard --fleet fleet --bridge ff-bridge-1 --bridge "
        "ff-bridge-2",
    )
)
@fleet_option
@bridges_option
@engineers_option
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    default=Path("/etc/mosquitto/freefloat"),
    show_default=True,
    metavar="DIR",
    help="Where mosquitto.acl, warden.crt and warden.key lie.",
)
@click.option(
    "--pid-file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/run/mosquitto/mosquitto.pid"),
    show_default=True,
    metavar="FILE",
    help="Names mosquitto's process.",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65_535),
    default=8884,
    show_default=True,
    help="The warden's listener on 127.0.0.1.",
)
def guard(
    fleet: Path,
    bridges: tuple[str, ...],
    engineers: tuple[str, ...],
    directory: Path,
    pid_file: Path,
    port: int,
) -> None:
    """Keep withdrawn cars off a mosquitto on this machine, until Ctrl-C.

    Writes mosquitto's access list, makes it read that, and ends the sessions of cars
    that left the registry.
    """
    logging.basicConfig(format=LOG_FORMAT, level=logging.INFO)
    registry = _open_registry(fleet)
    certificate = directory / "warden.crt"
    own = TlsIdentity(certificate, directory / "warden.key", certificate)
    keeper = MosquittoWarden(
        _access(registry, bridges, engineers),
        access_list=directory / "mosquitto.acl",
        reload=lambda: _reload(pid_file),
        port=port,
        context=client_context(own, now=read_clock()),
    )
    let_in = {"bridges": ", ".join(bridges), "engineers": ", ".join(engineers)}
    asyncio.run(_guard(keeper, registry, let_in))


def _open_registry(fleet: Path) -> RegistryDirectory:
    path = fleet / FleetPart.ISSUING_CERTIFICATE
    try:
        with path.open("rb") as file:
            issuers = x509.load_pem_x509_certificates(file.read(_CERTIFICATE_LIMIT))
        with (fleet / FleetPart.IDENTITY).open("rb") as file:
            fleet_id = parse_fleet(file.read(FILE_LIMIT + 1)).fleet_id
    except (OSError, ValueError, DecodeError) as error:
        raise OperatorError(
            f"{fleet} is no fleet directory: {error}",
            "name one that 'freefloat certs init' made, or a copy of its public part",
        ) from error
    registry = RegistryDirectory(
        fleet / FleetPart.REGISTRY,
        fleet_id=fleet_id,
        issuers=issuers,
        wall_ns=lambda: int(read_clock().timestamp() * 1e9),
        refused=lambda error: _LOG.error("= %s", error),
    )
    registry.refresh()
    return registry


def _access(
    registry: RegistryDirectory, bridges: tuple[str, ...], engineers: tuple[str, ...]
) -> BrokerAccess:
    return BrokerAccess(
        is_vehicle=registry.admits,
        bridges=bridges,
        engineers=engineers,
        withdrawn=lambda: registry.withdrawn,
    )


def _reload(pid_file: Path) -> None:
    """Send SIGHUP; the list counts from mosquitto's next start if it does not run.

    Raises:
        OSError: it runs and cannot be reached.
    """
    try:
        os.kill(int(pid_file.read_text("ascii")), signal.SIGHUP)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        _LOG.warning("= %s names no running mosquitto", pid_file)


async def _run(embedded: EmbeddedBroker, registry: RegistryDirectory) -> None:
    async with AsyncExitStack() as stack:
        stop = _stopped(stack)
        await stack.enter_async_context(embedded)
        _in_background(stack, lambda: _keep_house(registry))
        step(f"{embedded.kind} runs; Ctrl-C ends it")
        facts(
            {
                "address": f"{embedded.host}:{embedded.port}",
                "vehicles": str(len(registry.current)),
                "log": str(embedded.log),
            }
        )
        died = asyncio.ensure_future(embedded.wait_died())
        stack.callback(died.cancel)
        waiting = asyncio.ensure_future(stop.wait())
        stack.callback(waiting.cancel)
        await asyncio.wait({died, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if died.done():
            raise died.result()
    step("broker stopped")


async def _guard(
    keeper: MosquittoWarden, registry: RegistryDirectory, let_in: dict[str, str]
) -> None:
    async with AsyncExitStack() as stack:
        stop = _stopped(stack)
        _in_background(stack, lambda: _keep_house(registry))
        _in_background(stack, keeper.run)
        step("guard runs; Ctrl-C ends it, and what is denied stays denied")
        # mosquitto says nothing to a bridge whose name is not on the list.
        facts({**let_in, "others": "may nothing; name them by --bridge, --engineer"})
        await stop.wait()


def _stopped(stack: AsyncExitStack) -> asyncio.Event:
    """Return what SIGINT and SIGTERM set until the stack ends."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
        stack.callback(loop.remove_signal_handler, number)
    return stop


def _in_background(
    stack: AsyncExitStack, work: Callable[[], Coroutine[None, None, None]]
) -> None:
    task = asyncio.ensure_future(work())
    stack.callback(task.cancel)


async def _keep_house(registry: RegistryDirectory) -> None:
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            if await asyncio.to_thread(registry.refresh):
                _LOG.info("= registry: %d vehicles", len(registry.current))
        except RegistryError as error:
            _LOG.error("= %s", error)
