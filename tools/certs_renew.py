"""``freefloat certs renew``: new certificates for what the office runs."""

from pathlib import Path

import click

from certs.fleet import FleetDirectory
from certs.renewing import renew_issuing, renew_service
from keystore.private_key import open_private_key
from protocol.fleet import FleetPart
from tools.certs_vehicles import fleet_argument
from tools.clock import read_clock
from tools.console import examples, step

root_key_option = click.option(
    "--root-key",
    metavar="FILE|URI",
    default=None,
    help="The root's key, from where it is kept offline: a file or a pkcs11: URI.  "
    "[default: ca/root.key]",
)


@click.command(
    epilog=examples(
        "freefloat certs renew fleet broker",
        "freefloat certs renew fleet bridge-2",
        "freefloat certs renew fleet enrolment --host enrol.example.com",
        "freefloat certs renew fleet issuing --root-key /media/safe/root.key",
    )
)
@fleet_argument
@click.argument("what", metavar="SERVICE|issuing")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name of the broker or enrolment service. May be repeated; without it the "
    "present names stay.",
)
@root_key_option
def renew(
    directory: Path, what: str, hosts: tuple[str, ...], root_key: str | None
) -> None:
    """Give a service a new key and certificate, or the issuing CA another term.

    Services are broker, bridge (the first), bridge-2 and so on, engineer, enrolment.
    Restart or reload the service afterwards. The issuing CA keeps name and key, so
    that everything below it goes on being valid; it needs the offline root key.
    """
    fleet, now = FleetDirectory.open(directory), read_clock()
    if what == "issuing":
        key = open_private_key(root_key or directory / FleetPart.ROOT_KEY)
        done = renew_issuing(fleet, key, now=now)
    else:
        done = renew_service(fleet, what, hosts=hosts, now=now)
    step(f"{done.name} is certified until {done.expires:%Y-%m-%d}  {done.part}")
