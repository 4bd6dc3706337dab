"""``freefloat certs serve``: the enrolment service."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Final

import click

from certs.fleet import FleetDirectory
from tools.certs_vehicles import fleet_argument
from tools.clock import wall_clock
from tools.console import examples, facts, heading
from tools.errors import OperatorError

DEFAULT_LISTEN: Final = "127.0.0.1:8443"


@click.command(
    epilog=examples(
        "freefloat certs serve fleet                          # on this machine only",
        "freefloat certs serve fleet --listen 0.0.0.0:8443    # for cars",
    )
)
@fleet_argument
@click.option(
    "--listen",
    default=DEFAULT_LISTEN,
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; port 0 lets the system choose.",
)
def serve(directory: Path, listen: str) -> None:
    """Enrol devices and renew vehicles over HTTPS, until Ctrl-C.

    Needs ca/issuing.key, so it runs at the office and not on a bridge. Cars reach it by
    a name in enrolment/tls.crt; 'freefloat certs renew FLEET enrolment --host NAME'
    adds one.
    """
    try:
        import certs.enrolment_server  # noqa: F401, PLC0415 - an optional part
    except ModuleNotFoundError as error:
        raise OperatorError(
            f"the enrolment service needs {error.name}, which is not installed",
            "install the optional part: pip install 'freefloat[authority]'",
        ) from None
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_535:  # noqa: PLR2004 - the highest port
        raise OperatorError(
            f"{listen!r} is no HOST:PORT", f"write it like {DEFAULT_LISTEN}"
        )
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    fleet = FleetDirectory.open(directory)
    asyncio.run(_serve(fleet, host.strip("[]"), int(port)))


async def _serve(fleet: FleetDirectory, host: str, port: int) -> None:
    from certs.enrolment_server import (  # noqa: PLC0415 - an optional part
        enrolment_service,
    )

    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with enrolment_service(
        fleet, host=host, port=port, clock=wall_clock
    ) as address:
        heading(f"Enrolment service of fleet '{fleet.fleet.name}'")
        facts(
            {
                "cars use": f"https://{address[0]}:{address[1]}",
                "audit file": str(fleet.audit_log.path),
            }
        )
        click.echo("  Ctrl-C ends it.")
        await stop.wait()
