"""``freefloat certs bridge``: an identity for another bridge beside the first."""

from pathlib import Path

import click

from certs.bridges import issue_bridge
from certs.fleet import FleetDirectory, bundle_path
from certs.services import BRIDGES_LIMIT
from tools.certs_trust import root_keys_option, roots_at_hand
from tools.certs_vehicles import fleet_argument
from tools.clock import read_clock
from tools.console import examples, facts, heading, json_option, print_json


@click.command(
    epilog=examples(
        "freefloat certs bridge fleet                   # bridge 2, then 3 ...",
        "freefloat certs bridge fleet --number 7 --json",
        "freefloat certs bridge fleet --root-key /media/a/root-1.key "
        "--root-key /media/b/root-2.key",
    )
)
@fleet_argument
@click.option(
    "--number",
    type=click.IntRange(2, BRIDGES_LIMIT),
    default=None,
    help="The bridge's number.  [default: the first that is free]",
)
@root_keys_option
@json_option
def bridge(
    directory: Path, number: int | None, root_keys: tuple[str, ...], as_json: bool
) -> None:
    """Make certificate and signing keys for another bridge of the fleet.

    Each bridge has its own: certificate (ff-bridge-2 ...), command key and receipt key.
    A new trust bundle names the keys to the cars; without enough roots it waits for
    'freefloat certs trust merge', and the bridge must not begin before.
    """
    fleet = FleetDirectory.open(directory)
    roots = roots_at_hand(fleet, root_keys)
    issued = issue_bridge(fleet, roots, number=number, now=read_clock())
    version = issued.progress.bundle.version
    if as_json:
        print_json(
            {
                "number": issued.number,
                "name": issued.name,
                "tls": issued.tls_part,
                "command_key": issued.command_part,
                "receipt_key": issued.receipt_part,
                "expires": issued.expires.isoformat(),
                "bundle": version,
                "missing": issued.progress.missing,
            }
        )
        return
    heading(f"Bridge {issued.number} is made in {directory}")
    facts(
        {
            "name": f"{issued.name}, until {issued.expires:%Y-%m-%d}",
            "certificate": f"{directory / issued.tls_part}/",
            "command key": str(directory / issued.command_part),
            "receipt key": str(directory / issued.receipt_part),
        }
    )
    click.echo()
    heading("Next")
    if issued.progress.missing:
        click.echo(f"  Bundle {version} waits: {issued.progress.missing}")
        click.echo(f"  freefloat certs trust export {directory} change.bin")
    else:
        click.echo(
            f"  Copy {bundle_path(directory, version)} into trust/ of every bridge."
        )
    click.echo(
        f"  A block for {issued.name} in the broker's access list; settings as in\n"
        "  deploy/bridge-replica.toml."
    )
