"""Verbs of `freefloat send` about a car itself: service, restarts, words to read."""

from typing import Final

import click

from tools.console import examples
from tools.diagnosis import ask
from tools.ordering import for_vehicle, order


@click.command(
    epilog=examples(
        "freefloat send service AB3X on --for 14400", "freefloat send service AB3X off"
    )
)
@click.option(
    "--for",
    "for_s",
    type=click.IntRange(1, 86_400),
    default=28_800,
    show_default=True,
    help="Seconds until it ends by itself.",
)
@for_vehicle
@click.argument("request", type=click.Choice(["on", "off"]))
def service(
    ctx: click.Context,
    vehicle: str,
    request: str,
    for_s: int,
    wait_s: float,
    as_json: bool,
) -> None:
    """Take a free car out of use for service, or give it back.

    OFF also tells a car that lost its ledger (LEDGER_LOST) that nobody has it.
    """
    body = {"kind": "service", "request": request, "for_s": for_s}
    order(ctx, vehicle, body, wait_s, as_json)


@click.command(epilog=examples("freefloat send restart AB3X reader"))
@for_vehicle
@click.argument("component", type=click.Choice(["reader", "board", "uplink", "agent"]))
def restart(
    ctx: click.Context, vehicle: str, component: str, wait_s: float, as_json: bool
) -> None:
    """Start one part of the gateway anew; a car that drives refuses."""
    body = {"kind": "restart", "component": component}
    order(ctx, vehicle, body, wait_s, as_json)


@click.command(epilog=examples("freefloat send reboot AB3X"))
@for_vehicle
def reboot(ctx: click.Context, vehicle: str, wait_s: float, as_json: bool) -> None:
    """Start the car's computer anew; a car that drives refuses."""
    order(ctx, vehicle, {"kind": "reboot"}, wait_s, as_json)


@click.command(epilog=examples("freefloat send snapshot AB3X --json"))
@for_vehicle
def snapshot(ctx: click.Context, vehicle: str, wait_s: float, as_json: bool) -> None:
    """Ask for the state of now, signed: parts, versions, ledger, certificates."""
    ask(ctx, vehicle, {"kind": "snapshot"}, wait_s, as_json)


@click.command(
    epilog=examples(
        "freefloat send explain AB3X tap          # why did the last card (not) open?",
        "freefloat send explain AB3X command --about 4f1a...  # why was it refused?",
        "freefloat send explain AB3X light        # why is it red?",
    )
)
@click.option("--about", metavar="HEX", help="For command: its id, 32 hex digits.")
@for_vehicle
@click.argument("subject", type=click.Choice(["tap", "command", "lock", "light"]))
def explain(
    ctx: click.Context,
    vehicle: str,
    subject: str,
    about: str | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Ask a car why it did what it did last; it answers signed, from its recorder."""
    body: dict[str, object] = {"kind": "explain", "subject": subject}
    if about is not None:
        body["about"] = about
    ask(ctx, vehicle, body, wait_s, as_json)


@click.command(
    "show-message", epilog=examples("freefloat send show-message AB3X 7 'Main Street'")
)
@click.option("--seconds", type=click.IntRange(1, 255), default=10, show_default=True)
@for_vehicle
@click.argument("text_key", type=click.IntRange(0, 65_535))
@click.argument("arguments", nargs=-1)
def show_message(
    ctx: click.Context,
    vehicle: str,
    text_key: int,
    arguments: tuple[str, ...],
    seconds: int,
    wait_s: float,
    as_json: bool,
) -> None:
    """Show the driver one of the texts that the car has."""
    body = {
        "kind": "show_message",
        "text_key": text_key,
        "arguments": list(arguments),
        "seconds": seconds,
    }
    order(ctx, vehicle, body, wait_s, as_json)


UPKEEP_VERBS: Final = (service, restart, reboot, snapshot, explain, show_message)
"""In the order of the help."""
