"""The prompt of `freefloat emulate car`: one line, one deed, and what is seen then."""

import asyncio
import sys
from typing import Final

import click

from firmware_emulator.demand import Bridge
from firmware_emulator.errors import DeedError, EmulatorError, StepError
from firmware_emulator.saying import Stage
from firmware_emulator.spoken import VERBS, describe, parse_line, say
from tools.console import facts
from tools.emulated_car import told

SETTLE_S: Final = 0.5
"""From a deed at the prompt to what is shown of it; bolts need 0.15 s."""

OWN_WORDS: Final = {
    "reserve": "reserve this car for the customer (needs --api)",
    "state": "say what is seen",
    "quit": "end; the car keeps its ledger and stands where it is",
}
"""What the prompt takes beside the verbs of scripts."""


async def converse(stage: Stage, bridge: Bridge | None) -> None:
    """Do what is typed until the terminal's end or 'quit'.

    Raises:
        EmulatorError: the car itself broke; what a line asks wrongly is only said.
    """
    loop = asyncio.get_running_loop()
    while True:
        click.echo("> ", nl=False)
        sys.stdout.flush()
        text = await _next_line(loop)
        word = text.strip().lower()
        if not text or word in {"quit", "exit"}:
            return
        try:
            await _answer(word, text, stage, bridge)
        except (EmulatorError, DeedError) as error:
            click.echo(f"  {error}")
        stage.vehicle.require_alive()


async def _answer(word: str, text: str, stage: Stage, bridge: Bridge | None) -> None:
    if word == "help":
        facts({verb.usage: verb.summary for verb in VERBS.values()} | OWN_WORDS)
        return
    if word == "reserve":
        if bridge is None:
            raise StepError("name the bridge's API with --api to reserve there")
        customer = stage.customer
        rental_id = await bridge.reserve(
            stage.vehicle.vehicle_id, customer.card, customer.pin, fuel_card_pin="4711"
        )
        facts({"rental": rental_id.hex()})
    elif word not in {"state", ""}:
        line = parse_line(text)
        if line is not None:
            await say(line, stage)
            await asyncio.sleep(SETTLE_S)
            for entry in stage.vehicle.devices.witness.since(stage.seq):
                facts({"ledger": f"#{entry.seq} {told(entry.body)}"})
    facts({"seen": describe(stage)})


async def _next_line(loop: asyncio.AbstractEventLoop) -> str:
    """Wait for a line of stdin without holding up the car; empty at its end."""
    ready: asyncio.Future[None] = loop.create_future()
    descriptor = sys.stdin.fileno()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    try:
        loop.add_reader(descriptor, wake)
    except PermissionError:  # a plain file is always ready (epoll_ctl(2), EPERM)
        return sys.stdin.readline()
    try:
        await ready
        return sys.stdin.readline()
    finally:
        loop.remove_reader(descriptor)
