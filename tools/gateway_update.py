"""``freefloat gateway update``: take a free car out of use while its program changes.

For who installs programs in a car: begin, install, restart the service, end.
"""

import time
from pathlib import Path
from typing import Final

import click

from gateway.settings import load_settings
from gateway.storage.update_order import UpdateOrder
from tools.console import examples, json_option, print_json, step, warning
from tools.errors import EXIT_FAILED, OperatorError
from tools.gateway_look import config_option

LOOK_S: Final = 0.2
"""Between two looks whether the agent has answered."""


@click.group(
    epilog=examples(
        "freefloat gateway update begin && install-it; freefloat gateway update end",
    )
)
def update() -> None:
    """Take the car out of use while its program is exchanged."""


@update.command(
    epilog=examples(
        "freefloat gateway update begin --config gateway.toml",
        "freefloat gateway update begin --wait 3600  # until the car is free",
    )
)
@config_option
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 86_400),
    default=30.0,
    show_default=True,
    help="Seconds to wait for a car that nobody has; the agent looks every 5 s.",
)
@json_option
def begin(config: Path, wait_s: float, as_json: bool) -> int:
    """Ask the agent, and wait until it has taken the car out of use.

    A car that somebody has reserved, rents or works on is not taken; then the wish is
    withdrawn and the exit code is 1. In an hour at the latest the car is used again.
    """
    order = _order(config)
    order.begin()
    until = time.monotonic() + wait_s
    while not order.is_granted and time.monotonic() < until:
        time.sleep(LOOK_S)
    granted = order.is_granted
    if not granted:
        order.end()
    if as_json:
        print_json({"granted": granted})
    elif granted:
        step("the car is out of use: exchange the program, then 'update end'")
    else:
        warning("not now: somebody has the car, or the agent does not run")
    return 0 if granted else EXIT_FAILED


@update.command(epilog=examples("freefloat gateway update end --config gateway.toml"))
@config_option
def end(config: Path) -> None:
    """Let the car be used again."""
    _order(config).end()
    step("the car is used again when the agent has looked, in 5 s")


def _order(config: Path) -> UpdateOrder:
    settings = load_settings(config)
    if not settings.data.is_dir():
        raise OperatorError(
            f"{settings.data} does not exist: the agent has not run yet",
            "start the agent once; it makes its data directory",
        )
    return UpdateOrder(settings.ledger)
