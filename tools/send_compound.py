"""Verbs of `freefloat send` that are two commands, one after the other."""

from typing import Final

import click

from tools.console import examples
from tools.ordering import for_vehicle, order, rental_option


@click.command(
    "unlock-and-enable", epilog=examples("freefloat send unlock-and-enable AB3X")
)
@rental_option
@for_vehicle
def unlock_and_enable(
    ctx: click.Context, vehicle: str, rental: str | None, wait_s: float, as_json: bool
) -> None:
    """Open the doors, then let the engine start without a PIN.

    The engine is enabled only when the car has signed that the doors are open.
    """
    body = {"kind": "unlock_and_enable"}
    order(ctx, vehicle, body, wait_s, as_json, rental=rental)


@click.command(
    "lock-and-disable",
    epilog=examples("freefloat send lock-and-disable AB3X --mode park"),
)
@click.option(
    "--mode",
    type=click.Choice(["default", "park", "end", "plain"]),
    default="default",
    show_default=True,
    help="What locking means for the rental.",
)
@rental_option
@for_vehicle
def lock_and_disable(
    ctx: click.Context,
    vehicle: str,
    mode: str,
    rental: str | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Close the doors, then keep the engine from starting.

    A car that was not locked is never disabled. Ends with 1 also when only the first
    part was done; what is shown says which.
    """
    body = {"kind": "lock_and_disable", "mode": mode}
    order(ctx, vehicle, body, wait_s, as_json, rental=rental)


COMPOUND_VERBS: Final = (unlock_and_enable, lock_and_disable)
"""In the order of the help."""
