"""What a car says beside its result: waited for, and shown (FF-DIA)."""

import time
from collections.abc import Mapping
from typing import Any, Final

import click

from tools.bridge_api import BridgeApi
from tools.console import heading, print_json
from tools.errors import EXIT_FAILED
from tools.ordering import EXIT_UNKNOWN, api_of

DIAGNOSIS_S: Final = 8.0
"""Patience for the car's own words after its result: a mute device takes it 3 s, and an
entry on a mobile link some seconds more (FF-DIA-03)."""

LOOK_S: Final = 0.1


def await_diagnosis(bridge: BridgeApi, command_id: str) -> dict[str, Any]:
    """Return what the car said to a question, as far as it came in time."""
    until = time.monotonic() + DIAGNOSIS_S
    path = f"/v1/commands/{command_id}/diagnosis"
    told: dict[str, Any] = bridge.get(path)
    while not told["is_complete"] and time.monotonic() < until:
        time.sleep(LOOK_S)
        told = bridge.get(path)
    return told


def ask(
    ctx: click.Context,
    vehicle: str,
    body: Mapping[str, object],
    wait_s: float,
    as_json: bool,
) -> None:
    """Ask a car, show what it says, and end with the exit code that says it."""
    api = api_of(ctx)
    found = api.find(vehicle)
    outcome = api.post_command(found["id"], body, wait_s=wait_s)
    succeeded = outcome["state"] == "succeeded"
    told = await_diagnosis(api, outcome["id"]) if succeeded else None
    if as_json:
        print_json(outcome | {"diagnosis": told})
    else:
        heading(f"{outcome['kind']} {found['id']}: {outcome['state']}")
        for line in (told or {"lines": [outcome["meaning"]]})["lines"]:
            click.echo(f"  {line}")
    if not outcome["is_final"]:
        ctx.exit(EXIT_UNKNOWN)
    if told is None or not told["is_complete"]:
        ctx.exit(EXIT_FAILED)
