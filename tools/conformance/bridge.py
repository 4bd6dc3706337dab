"""``freefloat conformance bridge``: play a car to somebody's bridge."""

import sys
from pathlib import Path

import click

from protocol.errors import ProtocolError
from tools.address import BrokerAddress
from tools.conformance import bridge_ledger, bridge_refusals, bridge_sessions
from tools.conformance.bridge_player import Player
from tools.conformance.bridge_subject import (
    BRIDGE_SUITE,
    Patience,
    PlayedCar,
    Subject,
)
from tools.conformance.command import list_checks, report, select, suite_options
from tools.conformance.report import tell_progress
from tools.conformance.run import Run, run_checks
from tools.console import examples
from tools.errors import OperatorError

CHECKS = (bridge_ledger, bridge_refusals, bridge_sessions)
"""The modules whose import fills the suite, in the order in which checks run."""

MOST_CARS = 2


@click.command(
    epilog=examples(
        "freefloat conformance bridge --list  # what is tested",
        "freefloat conformance bridge --broker 127.0.0.1:8883 --car fleet/vehicles/ID",
        "freefloat conformance bridge --broker b.example:8883 --car A --car B --json",
        "freefloat conformance bridge --broker b.example:8883 --car A --only FF-RCP",
    )
)
@click.option("--broker", type=BrokerAddress(), help="Where the broker listens.")
@click.option(
    "--car",
    "cars",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Directory of a vehicle that the bridge knows and that no gateway uses: keys, "
    "TLS certificate, trust. Twice for the checks that need two.",
)
@click.option(
    "--order-url",
    default="",
    help="Beginning of the URL of an API like ours: commands are ordered and answered.",
)
@click.option(
    "--api-key-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File with the key of that API.",
)
@click.option(
    "--rotate-key",
    is_flag=True,
    help="Change the first car's key too. The new one is not kept: afterwards the "
    "bridge takes nothing of this car any more.",
)
@click.option(
    "--answer-s",
    type=click.FloatRange(min=0.1),
    default=20.0,
    show_default=True,
    help="How long to wait for what has to come.",
)
@click.option(
    "--quiet-s",
    type=click.FloatRange(min=0.1),
    default=3.0,
    show_default=True,
    help="How long to wait for what must not come.",
)
@suite_options
def bridge(
    broker: tuple[str, int] | None,
    cars: tuple[Path, ...],
    order_url: str,
    api_key_file: Path | None,
    rotate_key: bool,
    answer_s: float,
    quiet_s: float,
    only: tuple[str, ...],
    listing: bool,
    details: bool,
    as_json: bool,
) -> None:
    """Play a car to a bridge, and say which clauses the bridge keeps.

    Judged by what comes over MQTT alone. The car's ledger at that bridge is replaced
    many times and wrong frames are sent: use cars made for the test, in a fleet made
    for it.
    """
    if listing:
        list_checks(BRIDGE_SUITE, only, as_json=as_json)
        return
    if broker is None or not 1 <= len(cars) <= MOST_CARS:
        raise OperatorError(
            "the broker or the cars to play are missing",
            "give --broker HOST:PORT and --car DIRECTORY, once or twice",
        )
    try:
        played = [
            PlayedCar(Player(one), broker, Patience(answer_s, quiet_s)) for one in cars
        ]
    except (ProtocolError, OSError) as error:
        raise OperatorError(
            f"no car can be played: {error}",
            "give the directory of a vehicle with its keys, certificate and bundle",
        ) from error
    subject = Subject(
        played[0],
        played[1] if len(played) == MOST_CARS else None,
        order_url=order_url,
        api_key=""
        if api_key_file is None
        else api_key_file.read_text(encoding="ascii").strip(),
        may_rotate=rotate_key,
    )
    checks = select(BRIDGE_SUITE, only)

    async def running() -> Run:
        async with subject:
            return await run_checks(checks, subject, only=only, observe=tell_progress)

    code = report(running(), subject="bridge", details=details, as_json=as_json)
    sys.exit(code)
