"""`freefloat demo`: one rental, end to end, as it happens.

Everything that is printed was seen: at the emulated car, on the wire, in the bridge's
API, or by the fleet service. The command ends with 0 only if all of it came about.
"""

import asyncio
import base64
import logging
import random
import secrets
import signal
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp
import click

from firmware_emulator.car import Car
from firmware_emulator.devices import mixed_car, random_car
from firmware_emulator.errors import StepError
from firmware_emulator.rental_script import LOW_SOON_L
from firmware_emulator.street import City
from tools.bridge_api import API_VARIABLE, KEY_VARIABLE
from tools.console import examples
from tools.errors import OperatorError
from tools.rig import Rig, open_rig
from tools.scenes import PIN, Postbox, Scenes
from tools.story import Story

CARS: Final = 25

ENDING_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)
"""An order to end, and a terminal that was closed. Both end the demonstration in order,
as Ctrl-C does, or the fleet's keys would stay on the disk."""

LITTLE_WASHER_L: Final = 1.2
"""40 % of the tank: filling it up earns a bonus (H18)."""


@click.command(
    epilog=examples(
        "freefloat demo",
        "freefloat demo --broker nats       # with the broker that pip installs",
        "freefloat demo --keep              # leave it up, and play with it",
    )
)
@click.option(
    "--cars",
    type=click.IntRange(2, 200),
    default=CARS,
    show_default=True,
    help="How many cars connect.",
)
@click.option(
    "--broker",
    type=click.Choice(["auto", "mosquitto", "nats"]),
    default="auto",
    show_default=True,
    help="Which embedded broker; auto takes mosquitto if it is installed.",
)
@click.option("--seed", default=1, show_default=True, help="Of the cars' condition.")
@click.option(
    "--pause",
    "pause_s",
    type=click.FloatRange(0, 10),
    default=0.7,
    show_default=True,
    help="Seconds between two steps of a customer, for reading.",
)
@click.option("--keep", is_flag=True, help="Leave everything up until Ctrl-C.")
def demo(cars: int, broker: str, seed: int, pause_s: float, keep: bool) -> None:
    """Show one rental, step by step, over a real broker.

    A fleet's keys are made, a broker and a bridge start, emulated cars connect, and one
    customer rents a car; then a second one ends a rental without a network. It takes
    about 80 seconds. Nothing is sped up: seconds stand where a rental has minutes.
    """
    with tempfile.TemporaryDirectory(prefix="freefloat-demo-") as directory:
        stage = Stage(Path(directory), cars, broker, seed, pause_s)
        try:
            asyncio.run(_run(stage, keep=keep))
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None


@dataclass(frozen=True, slots=True)
class Stage:
    """What the command line asks for."""

    directory: Path
    """Where everything lies while it runs."""
    cars: int
    """How many."""
    broker: str
    """auto, mosquitto or nats."""
    seed: int
    """Of the cars' condition."""
    pause_s: float
    """Between two steps of a customer."""


async def _run(stage: Stage, *, keep: bool) -> None:
    task = asyncio.current_task()
    if task is not None:
        for number in ENDING_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        from examples.fleet_service.book import Book  # noqa: PLC0415 - of a clone only
        from examples.fleet_service.service import (  # noqa: PLC0415 - of a clone only
            FleetService,
        )
    except ModuleNotFoundError:
        raise OperatorError(
            "the demonstration needs examples/fleet_service",
            "run it in a clone of the repository: make demo",
        ) from None
    # The story tells what happens; the parts' own logs would tell it twice.
    logging.getLogger().addHandler(logging.NullHandler())
    story = Story()
    click.echo(click.style("freefloat demo", bold=True))
    click.echo("Everything below happens now, on this machine; no time is scaled.")
    story.chapter("A fleet")
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
    api_key = secrets.token_urlsafe(32)
    postbox = Postbox()
    async with AsyncExitStack() as stack:
        book = Book(stage.directory / "fleet-service.sqlite")
        stack.callback(book.close)
        service = FleetService(
            bridge_url="",
            api_key=api_key,
            webhook_secret=secret,
            book=book,
            listener=postbox.take,
        )
        hook = await service.start()
        stack.push_async_callback(service.stop)
        story.line("started a fleet service, which knows the bridge's API only", hook)
        rig = await stack.enter_async_context(
            open_rig(
                stage.directory / "system",
                cars=[_first_car, _second_car, *[mixed_car] * (stage.cars - 2)],
                seed=stage.seed,
                broker=stage.broker,
                observer=story.observe,
                webhook=(hook, secret),
                api_key=api_key,
                tell=story.line,
            )
        )
        service.connect(rig.bridge.api_url)
        api = await stack.enter_async_context(
            aiohttp.ClientSession(rig.bridge.api_url, headers={"X-Api-Key": api_key})
        )
        scenes = Scenes(story, rig, api, service, postbox, pause_s=stage.pause_s)
        await _play(scenes, rig)
        if story.frames_refused:
            raise StepError(
                f"the bridge did not take {len(story.frames_refused)} frames: "
                f"{story.frames_refused[0]}"
            )
        story.chapter("All of it came about")
        story.line(
            f"{story.frames_up} signed frames from cars, each verified, and "
            f"{story.frames_down} to cars crossed the wire"
        )
        if keep:
            await _keep(rig, story)
    click.echo("Nothing is left running.")


async def _play(scenes: Scenes, rig: Rig) -> None:
    """Play all scenes, for as long as the broker lives.

    Raises:
        BrokerDiedError: it does not; with the last words of its log.
    """
    acts = asyncio.create_task(scenes.play())
    died = asyncio.create_task(rig.broker.wait_died())
    try:
        await asyncio.wait({acts, died}, return_when=asyncio.FIRST_COMPLETED)
        if died.done():
            raise died.result()
        await acts
    finally:
        for task in (acts, died):
            task.cancel()
        await asyncio.gather(acts, died, return_exceptions=True)


async def _keep(rig: Rig, story: Story) -> None:
    """Say how to play with what runs, and leave it up until Ctrl-C.

    Raises:
        BrokerDiedError: the broker did not stay up; with the last words of its log.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, *ENDING_SIGNALS):
        loop.add_signal_handler(number, stop.set)
    story.chapter("Still running; Ctrl-C ends it")
    fleet, broker = rig.fleet.path, f"{rig.broker.host}:{rig.broker.port}"
    car = str(rig.cars[-1].vehicle_id)[:6]
    for line in (
        f"export {API_VARIABLE}={rig.bridge.api_url}",
        f"export {KEY_VARIABLE}={rig.api_key_file}",
        "freefloat send list",
        f"freefloat send reserve {car} --card 04a1b2c3d4e5f6 --pin {PIN}",
        f"freefloat send unlock {car}",
        f"freefloat watch --fleet {fleet} --broker {broker}",
    ):
        click.echo(f"  {line}")
    click.echo("(in another terminal, with .venv/bin on its PATH)")
    stopped = asyncio.create_task(rig.bridge.wait(stop))
    died = asyncio.create_task(rig.broker.wait_died())
    try:
        await asyncio.wait({stopped, died}, return_when=asyncio.FIRST_COMPLETED)
        if died.done():
            raise died.result()
        await stopped
    finally:
        for task in (stopped, died):
            task.cancel()
        await asyncio.gather(stopped, died, return_exceptions=True)


def _first_car(rng: random.Random, city: City) -> Car:
    """A car that falls below 25 % on its first drive, with little washer fluid."""
    car = random_car(rng, city)
    car.fuel_l, car.washer_l = LOW_SOON_L, LITTLE_WASHER_L
    return car


def _second_car(rng: random.Random, city: City) -> Car:
    """A car with enough of everything."""
    car = random_car(rng, city)
    car.fuel_l, car.washer_l = 33.0, 2.0
    return car
