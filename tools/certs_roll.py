"""``freefloat certs roll-root | roll-issuing | new-key``: other CA keys, in tokens."""

from pathlib import Path
from typing import Final

import click

from certs.fleet import FleetDirectory
from certs.issuing_rollover import (
    finish_issuing,
    issuing_rollover,
    prepare_issuing,
    switch_issuing,
)
from certs.rollover import NEW_KEY, finish, prepare, rollover, switch
from keystore.private_key import open_private_key
from keystore.signer import signing_key
from keystore.token import generate_token_key
from keystore.uri import SCHEME, TokenUri
from protocol.codes import Suite
from protocol.fleet import FleetPart
from tools.certs_renew import root_key_option
from tools.certs_vehicles import fleet_argument
from tools.clock import read_clock
from tools.console import examples, facts, step

SUITES: Final = {"p256": Suite.P256, "ed25519": Suite.ED25519}


@click.group(
    "roll-root",
    epilog=examples(
        "freefloat certs roll-root prepare fleet --root-key /media/safe/root.key",
        "# copy fleet/ca/trust-anchors.pem to broker and bridges, reload them; a week",
        "freefloat certs roll-root switch fleet",
        "# copy broker/tls.crt and bridge/*/tls.crt; wait until status says 0",
        "freefloat certs roll-root status fleet",
        "freefloat certs roll-root finish fleet",
    ),
)
def roll_root() -> None:
    """Replace the root of the fleet while cars are on the road, in three steps."""


@roll_root.command(
    "prepare", epilog=examples("freefloat certs roll-root prepare fleet")
)
@fleet_argument
@root_key_option
@click.option(
    "--new-key",
    metavar="FILE|URI",
    default=None,
    help="The new root's key, such as one in a token.  [default: make ca/root-new.key]",
)
def prepare_command(directory: Path, root_key: str | None, new_key: str | None) -> None:
    """Make the new root and its link, and trust both (step 1)."""
    fleet = FleetDirectory.open(directory)
    key = open_private_key(root_key or directory / FleetPart.ROOT_KEY)
    new = None if new_key is None else open_private_key(new_key)
    prepare(fleet, key, new_key=new, now=read_clock())
    step("the new root is made and certified by the old one")
    click.echo(
        f"  Copy {directory / FleetPart.TRUST_ANCHORS} to broker and bridges and "
        "reload them.\n  Cars get it with their next renewal. Then: switch."
    )


@roll_root.command("switch", epilog=examples("freefloat certs roll-root switch fleet"))
@fleet_argument
@root_key_option
def switch_command(directory: Path, root_key: str | None) -> None:
    """Let the new root certify the issuing CA (step 2). --root-key: the new root's."""
    fleet = FleetDirectory.open(directory)
    switch(fleet, open_private_key(root_key or directory / NEW_KEY), now=read_clock())
    step("the new root signs; take both root keys offline")
    click.echo(
        "  Copy broker/tls.crt and bridge/*/tls.crt to their machines, and reload."
    )


@roll_root.command("finish", epilog=examples("freefloat certs roll-root finish fleet"))
@fleet_argument
def finish_command(directory: Path) -> None:
    """Trust the new root alone (step 3), when no car comes with the old chain."""
    finish(FleetDirectory.open(directory), now=read_clock())
    step("the old root is no anchor any more")
    click.echo(f"  Copy {directory / FleetPart.TRUST_ANCHORS} to broker and bridges.")


@roll_root.command("status", epilog=examples("freefloat certs roll-root status fleet"))
@fleet_argument
def status_command(directory: Path) -> None:
    """Say where the change of roots stands."""
    state = rollover(FleetDirectory.open(directory), now=read_clock())
    facts({"state": state.phase.value, "cars to renew": str(state.waiting)})


@click.command(
    "new-key",
    epilog=examples(
        "freefloat certs new-key 'pkcs11:token=ff;object=issuing?module-path="
        "/usr/lib/softhsm/libsofthsm2.so&pin-source=/etc/freefloat/pin'",
        "freefloat certs new-key --suite ed25519 'pkcs11:token=ff;object=command-1"
        "?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/etc/freefloat/pin'",
    ),
)
@click.argument("uri", metavar="URI")
@click.option(
    "--suite",
    type=click.Choice(list(SUITES)),
    default="p256",
    show_default=True,
    help="p256 for a CA or a TPM's signer; ed25519 for signers and trust roots.",
)
def new_key(uri: str, suite: str) -> None:
    """Make a key in a PKCS#11 token that cannot be taken out of it.

    Put the URI wherever a key file is named, or into a file of mode 0600 in its place:
    ca/issuing.key, signer/command-1.key and the like.
    """
    made = generate_token_key(TokenUri.parse(uri), SUITES[suite])
    key = signing_key(made)
    step(f"key {key.key_id.hex()} is in the token")
    facts({"suite": key.suite.name, "public": key.verify_key.raw.hex()})


@click.group(
    "roll-issuing",
    epilog=examples(
        "freefloat certs roll-issuing prepare fleet --root-key /media/safe/root.key",
        "# copy fleet/ca/issuing.crt to bridges and guards, and restart them",
        "freefloat certs roll-issuing switch fleet",
        "# restart 'certs serve'",
        "freefloat certs roll-issuing finish fleet",
    ),
)
def roll_issuing() -> None:
    """Replace the key of the issuing CA, such as by one in a token."""


@roll_issuing.command(
    "prepare",
    epilog=examples(
        "freefloat certs roll-issuing prepare fleet --root-key /media/safe/root.key",
        "freefloat certs roll-issuing prepare fleet --new-key 'pkcs11:token=ff;"
        "object=issuing?module-path=/usr/lib/softhsm/libsofthsm2.so"
        "&pin-source=/etc/freefloat/pin'",
    ),
)
@fleet_argument
@root_key_option
@click.option(
    "--new-key",
    metavar="FILE|URI",
    default=None,
    help="The new key, such as one in a token.  [default: make one in a file]",
)
def prepare_issuing_command(
    directory: Path, root_key: str | None, new_key: str | None
) -> None:
    """Let the root certify the new key (step 1)."""
    fleet = FleetDirectory.open(directory)
    key = open_private_key(root_key or directory / FleetPart.ROOT_KEY)
    key_file = None
    if new_key is not None:
        open_private_key(new_key)
        is_uri = new_key.startswith(SCHEME)
        key_file = new_key.encode() if is_uri else Path(new_key).read_bytes()
    done = prepare_issuing(fleet, key, key_file=key_file, now=read_clock())
    step(f"the new key of {done.name} is certified until {done.expires:%Y-%m-%d}")
    click.echo(
        f"  Copy {directory / FleetPart.ISSUING_CERTIFICATE} to bridges and guards and "
        "restart them. Then: switch."
    )


@roll_issuing.command(
    "switch", epilog=examples("freefloat certs roll-issuing switch fleet")
)
@fleet_argument
def switch_issuing_command(directory: Path) -> None:
    """Let the new key sign (step 2)."""
    done = switch_issuing(FleetDirectory.open(directory), now=read_clock())
    step(f"the new key of {done.name} signs")
    click.echo("  Restart 'certs serve'. What the old key signed goes on counting.")


@roll_issuing.command(
    "finish", epilog=examples("freefloat certs roll-issuing finish fleet")
)
@fleet_argument
def finish_issuing_command(directory: Path) -> None:
    """Remove the file of the old key."""
    finish_issuing(FleetDirectory.open(directory), now=read_clock())
    step("the old key's file is removed")
    click.echo("  Wipe its backups, or delete it in its token.")


@roll_issuing.command(
    "status", epilog=examples("freefloat certs roll-issuing status fleet")
)
@fleet_argument
def issuing_status_command(directory: Path) -> None:
    """Say where the change of the issuing key stands."""
    state = issuing_rollover(FleetDirectory.open(directory))
    facts({"state": state.phase.value, "CA certificates": str(state.certificates)})
