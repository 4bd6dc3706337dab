"""``freefloat signer``: the process that has the command keys, and its log."""

import asyncio
import contextlib
import logging
import os
import signal
from pathlib import Path

import click

from bridge.fleet_files import open_command_keys, open_trust, read_fleet
from bridge.signer import require_use
from bridge.signing.journal import Head, Journal, faults_of, read_log
from bridge.signing.service import SigningService
from bridge.signing.settings import SignerSettings, load_signer_settings
from keystore.errors import KeystoreError
from keystore.signer import open_signing_key
from tools.clock import wall_s
from tools.console import examples, facts, json_option, print_json, step
from tools.errors import EXIT_FAILED, OperatorError

LOG_FORMAT = "%(asctime)s %(message)s"


@click.group(
    epilog=examples(
        "freefloat signer run --config signer.toml",
        "freefloat signer verify signer-log --noted 4711:9f86...",
    )
)
def signer() -> None:
    """Keep the command keys in a process of their own."""


@signer.command(epilog=examples("freefloat signer run --config signer.toml"))
@click.option(
    "--config",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Settings in TOML; deploy/signer.toml is an example.",
)
@click.option(
    "--forget-epoch",
    is_flag=True,
    help="Believe a bridge whose store was put back from a backup; stop every other "
    "bridge of this signer first.",
)
@json_option
def run(config: Path, *, forget_epoch: bool, as_json: bool) -> None:
    """Sign what a bridge asks and the policy allows, until Ctrl-C."""
    logging.basicConfig(format=LOG_FORMAT, level=logging.INFO)
    settings = load_signer_settings(config)
    asyncio.run(_run(settings, forget_epoch=forget_epoch, as_json=as_json))


async def _run(settings: SignerSettings, *, forget_epoch: bool, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    service = open_signer(settings, forgets_epoch=forget_epoch)
    async with service.serve():
        if as_json:
            print_json({"socket": settings.socket.path, "pid": os.getpid()})
        else:
            step("signer runs; Ctrl-C ends it")
            facts({"socket": settings.socket.path, "log": settings.log})
        await stop.wait()
    if not as_json:
        step("signer stopped")


def open_signer(
    settings: SignerSettings, *, forgets_epoch: bool = False
) -> SigningService:
    """Read everything that a signer needs; blocks.

    Raises:
        SettingsError: a file is missing, open to others or not what it should be.
    """
    files = settings.as_bridge()
    fleet = read_fleet(files)
    keys, trust = open_command_keys(files), open_trust(files, fleet)
    require_use(keys.keys, trust.current, receipts=False)
    return SigningService(
        settings,
        fleet_id=fleet.fleet_id,
        keys=keys,
        trust=trust,
        journal=Journal(Path(settings.log)),
        now=lambda: round(wall_s() * 1000),
        forgets_epoch=forgets_epoch,
    )


@signer.command(epilog=examples("freefloat signer approver ~/approver.key"))
@click.argument("key")
@click.option("--name", default="NAME", help="Theirs at the bridge.")
@json_option
def approver(key: str, *, name: str, as_json: bool) -> None:
    """Show the block of the signer's settings that lets a person approve.

    KEY is that person's own signing key, a file or a pkcs11: URI, which nobody else
    has: 'openssl genpkey -algorithm ed25519' makes one.
    """
    try:
        found = open_signing_key(key).verify_key
    except KeystoreError as error:
        raise OperatorError(str(error), error.advice) from error
    if as_json:
        print_json({"name": name, "public_key": found.raw.hex()})
        return
    click.echo(f'[[approver]]\nname = "{name}"\npublic_key = "{found.raw.hex()}"')


@signer.command(
    epilog=examples(
        "freefloat signer verify signer-log",
        "freefloat signer verify signer-log --noted 4711:9f86...",
    )
)
@click.argument("log", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--noted",
    metavar="N:HASH",
    help="An entry that was noted elsewhere, such as in the bridge's audit trail.",
)
@json_option
@click.pass_context
def verify(ctx: click.Context, log: Path, *, noted: str | None, as_json: bool) -> None:
    """Look at every entry of a signer's log. Ends with 1 if somebody was at it."""
    head = Head() if noted is None else _head(noted)
    count, last = 0, Head()
    entries = []
    for entry in read_log(log):
        entries.append(entry)
        count, last = count + 1, Head(entry.number, entry.digest)
    faults = faults_of(entries, head if noted else None)
    if as_json:
        print_json({"entries": count, "head": _text(last), "faults": faults})
    else:
        facts({"entries": str(count), "head": _text(last)})
        for fault in faults:
            click.echo(f"broken: {fault}", err=True)
    if faults:
        ctx.exit(EXIT_FAILED)


def _text(head: Head) -> str:
    return f"{head.entry}:{head.digest.hex()}"


def _head(noted: str) -> Head:
    number, _, digest = noted.partition(":")
    with contextlib.suppress(ValueError):
        return Head(int(number), bytes.fromhex(digest))
    raise OperatorError(f"{noted!r} is no N:HASH", "copy it from the audit trail")
