"""``freefloat smoke``: a canary car over the real path, within 90 s.

For after a release and for a timer: it says within a minute and a half whether a
customer could open a car now, and whether a stranger could.
"""

import asyncio
import sys
from pathlib import Path

import click

from tools.address import BrokerAddress
from tools.bridge_api import BridgeApi
from tools.canary import Canary, Outcome, Step
from tools.console import examples, print_json
from tools.errors import EXIT_FAILED
from tools.upkeep import of_bridge

_COLOURS = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.NOT_REACHED: "yellow"}


@click.command(
    epilog=examples(
        "freefloat smoke --broker broker.example.com:8883 --car canary \\",
        "    --api-key-file /etc/freefloat/api.keys",
        "freefloat smoke --broker 127.0.0.1:8883 --car canary --json",
    )
)
@click.option(
    "--broker", type=BrokerAddress(), required=True, help="Where the broker listens."
)
@click.option(
    "--car",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    metavar="DIR",
    help="Directory of a vehicle that is nobody's car; its ledger is kept there.",
)
@click.option(
    "--days",
    type=click.IntRange(0, 3_650),
    default=7,
    show_default=True,
    help="Fail if a certificate or the trust bundle ends within so many days.",
)
@of_bridge
def smoke(
    api: str,
    api_key_file: Path | None,
    *,
    broker: tuple[str, int],
    car: Path,
    days: int,
    as_json: bool,
) -> None:
    """Drive a canary car over broker, bridge and consumers, and try what must fail.

    Ends with 1 if a step failed or was not reached. The canary's rental has no length
    and reaches every consumer: they pass over its vehicle.
    """
    canary = Canary(car, broker, BridgeApi.at(api, api_key_file), days=days)
    steps = asyncio.run(canary.run(_ignore if as_json else _tell))
    is_well = all(step.outcome is Outcome.PASS for step in steps)
    took_s = sum(step.took_s for step in steps)
    if as_json:
        print_json(
            {
                "passed": is_well,
                "took_s": round(took_s, 3),
                "steps": [
                    {
                        "name": step.name,
                        "outcome": step.outcome.value,
                        "came": step.came,
                        "took_s": round(step.took_s, 3),
                    }
                    for step in steps
                ],
            }
        )
    else:
        verdict = "passed" if is_well else "FAILED"
        click.echo(f"smoke {verdict} in {took_s:.1f} s")
    sys.exit(0 if is_well else EXIT_FAILED)


def _tell(step: Step) -> None:
    mark = click.style(step.outcome.value.ljust(11), fg=_COLOURS[step.outcome])
    click.echo(f"{mark}  {step.name}: {step.came} ({step.took_s:.1f} s)")


def _ignore(_step: Step) -> None:
    pass
