"""``freefloat emulate``: cars without cars.

The composition root of the emulator: it joins `firmware_emulator` with the machine's
clocks, a broker and, where one is named, a bridge's API.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from firmware_emulator.customer import Customer
from firmware_emulator.demand import Bridge
from firmware_emulator.errors import EmulatorError
from firmware_emulator.fleet import CARS_LIMIT, EmulatedFleet, FleetPlan
from firmware_emulator.reader import Card
from firmware_emulator.rental_script import LOW_SOON_L, RentalPlan, rental_steps
from firmware_emulator.saying import Stage
from firmware_emulator.script import play
from firmware_emulator.spoken import Line, describe, parse_script, say
from firmware_emulator.vehicle import EmulatedVehicle
from protocol.event import RentalEnded
from tools.address import DEFAULT_PORT, BrokerAddress
from tools.api_key import TOKEN_VARIABLE, headers_of
from tools.bridge_api import KEY_VARIABLE
from tools.car_prompt import converse
from tools.clock import wall_s
from tools.console import examples, facts, heading, json_option, print_json, step
from tools.emulated_car import build_vehicle, issued_vehicles, put_away, told, traced
from tools.errors import OperatorError
from tools.scenario import scenario

DATA: Final = "emulated"
"""Directory beside a fleet's for ledgers and cars, if nobody names another."""

CARD: Final = "04a1b2c3d4e5f6"
"""UID of the emulated customer's card, if nobody names another."""

PIN: Final = "2468"
"""The emulated customer's PIN, if nobody names another."""

SCRIPT_BYTES: Final = 1_000_000
"""Largest script file."""

LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"

C = TypeVar("C", bound=Callable[..., Any])


def _common(command: C) -> C:
    """Add the options that every subcommand has."""
    for option in reversed(
        (
            click.option(
                "--fleet",
                type=click.Path(path_type=Path, file_okay=False),
                default=Path("fleet"),
                show_default=True,
                help="The fleet directory, with issued vehicles.",
            ),
            click.option(
                "--broker",
                type=BrokerAddress(),
                default=f"127.0.0.1:{DEFAULT_PORT}",
                show_default=True,
                help="Where the broker listens.",
            ),
            click.option(
                "--data",
                type=click.Path(path_type=Path, file_okay=False),
                help="Where cars and their ledgers are kept.  "
                f"[default: {DATA} beside the fleet directory]",
            ),
            click.option("--seed", type=int, default=1, show_default=True),
            click.option(
                "--api", metavar="URL", help="The bridge's API, to reserve there."
            ),
            click.option(
                "--api-key-file",
                envvar=KEY_VARIABLE,
                show_envvar=True,
                type=click.Path(path_type=Path, dir_okay=False),
                help="File with an API key or a bearer token; without it the token in "
                f"{TOKEN_VARIABLE}, if any.",
            ),
            click.option(
                "--traces",
                metavar="URL",
                help="Send the cars' spans to a collector of OpenTelemetry, such as "
                "http://127.0.0.1:4318/v1/traces; needs the extra 'tracing'.",
            ),
            click.option("--verbose", "-v", is_flag=True, help="Log to stderr."),
        )
    ):
        command = option(command)
    return command


def _person(command: C) -> C:
    """Add the options that name one car and its customer."""
    for option in reversed(
        (
            click.option("--vehicle", default="", help="A car's id, or how it begins."),
            click.option(
                "--card",
                default=CARD,
                show_default=True,
                metavar="HEX",
                help="UID of the customer's emulated card.",
            ),
            click.option(
                "--pin", default=PIN, show_default=True, help="The customer's PIN."
            ),
        )
    ):
        command = option(command)
    return command


@click.group(
    epilog=examples(
        "freefloat emulate car                        # one car and a prompt",
        "freefloat emulate fleet --cars 5 --seed 7    # a handful of cars",
        "freefloat emulate rental --api http://127.0.0.1:8080 --api-key-file api.keys",
    )
)
def emulate() -> None:
    """Run emulated cars against a broker.

    Each is the production gateway on emulated hardware, with a certificate and keys of
    'freefloat certs issue' and a ledger of its own.
    """


@emulate.command(
    epilog=examples(
        "freefloat emulate car --fleet fleet --broker 127.0.0.1:8883",
        "freefloat emulate car --script day.txt  # a file of what the prompt takes",
        "echo 'power cut' | freefloat emulate car --script -",
    )
)
@_common
@_person
@click.option(
    "--script",
    type=click.File("r"),
    help="Play these lines instead of asking; '-' for stdin. The exit code is 0 only "
    "if all of it came about.",
)
def car(
    fleet: Path,
    broker: tuple[str, int],
    data: Path | None,
    seed: int,
    api: str | None,
    api_key_file: Path | None,
    traces: str | None,
    verbose: bool,
    vehicle: str,
    card: str,
    pin: str,
    script: Any,  # noqa: ANN401 - click's file
) -> None:
    """Run one car, by hand or by a script.

    Say 'help' at the prompt for what can be done.
    """
    _log(verbose=verbose)
    lines = None if script is None else parse_script(script.read(SCRIPT_BYTES))
    directory = issued_vehicles(fleet, vehicle, 1)[0]
    customer_card, bridge = _card(card), _bridge(api, api_key_file)
    built = build_vehicle(directory, broker, _data(fleet, data), seed)
    customer = Customer(built.devices, customer_card, _pin(pin))
    _run(_live_with(built, customer, lines, bridge, traces), is_endless=lines is None)


@emulate.command(
    epilog=examples(
        "freefloat emulate fleet --cars 5 --seed 7 --minutes 2",
        "freefloat emulate fleet --api http://127.0.0.1:8080 --api-key-file api.keys",
    )
)
@_common
@click.option(
    "--cars",
    type=click.IntRange(1, CARS_LIMIT),
    default=5,
    show_default=True,
    help="How many of the issued vehicles.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="End after so long, when the rentals that run have ended; without it with "
    "Ctrl-C.",
)
@click.option(
    "--record",
    is_flag=True,
    help="Let each car's flight recorder write, to be replayed and explained.",
)
@json_option
def fleet(
    fleet: Path,
    broker: tuple[str, int],
    data: Path | None,
    seed: int,
    api: str | None,
    api_key_file: Path | None,
    traces: str | None,
    verbose: bool,
    cars: int,
    minutes: float | None,
    record: bool,
    as_json: bool,
) -> int:
    """Let a handful of cars live random days from one seed.

    With --api customers reserve there and rent; without, the cars stand about. The
    exit code is 0 if no step of any customer failed.
    """
    _log(verbose=verbose)
    directories = issued_vehicles(fleet, "", cars)
    bridge = _bridge(api, api_key_file)

    def tell(name: str, what: str) -> None:
        if as_json:
            print_json({"vehicle": name, "happened": what})
        else:
            _fact(name, what)

    built = EmulatedFleet(
        directories,
        data=_data(fleet, data),
        host=broker[0],
        port=broker[1],
        plan=FleetPlan(seed),
        monotonic=time.monotonic,
        wall=wall_s,
        bridge=bridge,
        recorder=record,
        tell=tell,
    )
    if not as_json:
        heading(f"{_cars(len(directories))}, seed {seed}; Ctrl-C ends them")
    duration_s = None if minutes is None else minutes * 60
    _run(_live(built, duration_s, traces), is_endless=True)
    counts = built.counts
    if as_json:
        print_json(
            {
                "cars": len(directories),
                "rentals_started": counts.rentals_started,
                "rentals_ended": counts.rentals_ended,
                "cards_refused": counts.cards_refused,
                "entries": counts.entries,
                "troubles": counts.troubles,
            }
        )
    else:
        step(
            f"{counts.rentals_ended} of {counts.rentals_started} rentals ended, "
            f"{counts.cards_refused} cards refused, {counts.entries} ledger entries, "
            f"{len(counts.troubles)} troubles"
        )
    return 1 if counts.troubles else 0


@emulate.command(
    epilog=examples(
        "freefloat emulate rental --api http://127.0.0.1:8080 --api-key-file api.keys",
    )
)
@_common
@_person
def rental(
    fleet: Path,
    broker: tuple[str, int],
    data: Path | None,
    seed: int,
    api: str | None,
    api_key_file: Path | None,
    traces: str | None,
    verbose: bool,
    vehicle: str,
    card: str,
    pin: str,
) -> None:
    """Play one whole rental against a running bridge, and show its report.

    Nothing is scaled: the drives are short and the seconds are real.
    """
    _log(verbose=verbose)
    bridge = _bridge(api, api_key_file)
    if bridge is None:
        raise OperatorError(
            "a rental begins with a reservation, and no API is named to make it",
            "start one with 'freefloat bridge run' and name it: --api URL",
        )
    directory = issued_vehicles(fleet, vehicle, 1)[0]
    customer_card, checked_pin = _card(card), _pin(pin)
    built = build_vehicle(directory, broker, _data(fleet, data), seed)
    customer = Customer(built.devices, customer_card, checked_pin)
    _run(_rent(built, customer, bridge, traces))


emulate.add_command(scenario)


# --- living -----------------------------------------------------------------------


async def _live_with(
    vehicle: EmulatedVehicle,
    customer: Customer,
    lines: list[Line] | None,
    bridge: Bridge | None,
    traces: str | None,
) -> None:
    stage = Stage(vehicle, customer)
    async with put_away(vehicle, traces=traces):
        await vehicle.wait_ready()
        heading(f"Vehicle {vehicle.vehicle_id}")
        _fact("seen", describe(stage))
        if lines is not None:
            for line in lines:
                await say(line, stage)
                step(line.text)
            _fact("seen", describe(stage))
        else:
            await converse(stage, bridge)


async def _live(
    fleet: EmulatedFleet, duration_s: float | None, traces: str | None
) -> None:
    async with traced(traces, "emulated-fleet") as tracer:
        for vehicle in fleet.vehicles:
            vehicle.tracer = tracer
        async with fleet:
            try:
                await fleet.live(duration_s)
            except* EmulatorError as group:
                raise group.exceptions[0] from None


async def _rent(
    vehicle: EmulatedVehicle, customer: Customer, bridge: Bridge, traces: str | None
) -> None:
    session_before = await bridge.session_of(vehicle.vehicle_id)
    async with put_away(vehicle, traces=traces):
        await vehicle.wait_ready()
        heading(f"Vehicle {vehicle.vehicle_id}")
        with vehicle.devices.world.hands() as car:
            # So that the level falls below 25 % on the way; the rest is physics.
            car.fuel_l = LOW_SOON_L
            car.washer_l = min(car.washer_l, 1.0)
        await bridge.wait_online(vehicle.vehicle_id, after=session_before)
        rental_id = await bridge.reserve(
            vehicle.vehicle_id, customer.card, customer.pin, fuel_card_pin="4711"
        )
        step(f"reserved: rental {rental_id.hex()}")
        wrong = "0000" if customer.pin != "0000" else "1111"
        async for report in play(rental_steps(RentalPlan(wrong_pin=wrong)), customer):
            step(str(report))
            if report.words:
                _fact("display", report.words)
            if report.menu:
                _fact("menu", " | ".join(report.menu))
        ended = [
            entry.body
            for entry in vehicle.devices.witness.entries
            if isinstance(entry.body, RentalEnded)
        ]
        _fact("report", told(ended[-1]))
        await bridge.wait_report(rental_id)
        step("the bridge holds the signed report")


# --- composing ----------------------------------------------------------------------


def _cars(count: int) -> str:
    return "1 car" if count == 1 else f"{count} cars"


def _fact(label: str, text: str) -> None:
    facts({label: text})


def _data(fleet: Path, data: Path | None) -> Path:
    return fleet.parent / DATA if data is None else data


def _card(text: str) -> Card:
    try:
        return Card(bytes.fromhex(text))
    except ValueError:
        raise OperatorError(
            "--card is no UID: it has 8, 14 or 20 hexadecimal digits",
            f"for example --card {CARD}",
        ) from None


def _pin(text: str) -> str:
    if not (4 <= len(text) <= 8 and text.isascii() and text.isdigit()):  # noqa: PLR2004 - protocol.sealing.PIN_LENGTHS
        raise OperatorError("--pin is no PIN: it has 4 to 8 digits", "give another")
    return text


def _bridge(url: str | None, key_file: Path | None) -> Bridge | None:
    if url is None:
        return None
    return Bridge(url, headers_of(key_file, os.environ))


def _log(*, verbose: bool) -> None:
    logging.basicConfig(
        level=logging.INFO if verbose else logging.CRITICAL, format=LOG_FORMAT
    )


def _run(main: Coroutine[Any, Any, None], *, is_endless: bool = False) -> None:
    """Run until it ends, SIGTERM or Ctrl-C; either way cars are put away in order.

    Args:
        main: what to run.
        is_endless: whether a signal is its usual end.

    Raises:
        KeyboardInterrupt: a signal ended what should have come to an end of its own.
    """

    async def guarded() -> bool:
        task = asyncio.current_task()
        if task is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            await main
        except asyncio.CancelledError:
            return True
        return False

    if asyncio.run(guarded()) and not is_endless:
        raise KeyboardInterrupt
