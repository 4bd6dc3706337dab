"""One order from the command line: the options that it has, and its outcome shown.

"Sent" is never shown as "done": what is printed is the car's own signed word, or that
there is none yet (I-11).
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import click

from tools.bridge_api import BridgeApi
from tools.console import facts, heading, json_option, print_json
from tools.errors import EXIT_FAILED

Deed = Callable[..., None]

WAIT_S: Final = 15.0
"""Longer than an unlock lives (10 s), so that its end is always seen."""

EXIT_UNKNOWN: Final = 3
"""No signed outcome came in time: neither done nor failed."""


def api_of(ctx: click.Context) -> BridgeApi:
    """Return the API that the group's options name."""
    return BridgeApi.at(*ctx.obj)


def for_vehicle(command: Deed) -> Deed:
    """Add VEHICLE, --wait and --json."""
    wait = click.option(
        "--wait",
        "wait_s",
        type=click.FloatRange(0, 30),
        default=WAIT_S,
        show_default=True,
        help="Seconds to wait for the signed outcome.",
    )
    return wait(json_option(click.argument("vehicle")(click.pass_context(command))))


def rental_option(command: Deed) -> Deed:
    """Add --rental."""
    return click.option(
        "--rental",
        metavar="HEX",
        help="Rental id, 32 hex digits. Without it: the one that the car is in.",
    )(command)


_NEEDS_RENTAL: Final = frozenset(
    {
        *("unlock", "lock", "engine_release", "engine_hold", "cancel", "set_mode"),
        *("unlock_and_enable", "lock_and_disable"),
        *("set_default_mode", "payment_decision", "handover_offer", "handover_request"),
    }
)
"""Kinds of order that belong to the rental that a car is in."""

_MOVES: Final = frozenset(
    {
        *("unlock", "lock", "engine_release", "engine_hold"),
        *("unlock_and_enable", "lock_and_disable"),
    }
)
"""Kinds of order that bolts or engine must follow."""

_STAND: Final = (
    ("locked", "bolts closed", "bolts open"),
    ("door_open", "a door open", "doors closed"),
    ("boot_open", "boot open", "boot closed"),
    ("moving", "moves or speed unknown", "stands"),
    ("engine_running", "engine on", "engine off"),
    ("ignition_on", "ignition on", ""),
    ("engine_released", "engine released", "engine held"),
    ("key_present", "", "key not in its holder"),
    ("fuel_card_present", "", "fuel card not in its holder"),
)
"""Field of a snapshot, words if it is so, words if it is not."""


def order(
    ctx: click.Context,
    vehicle: str,
    body: Mapping[str, object],
    wait_s: float,
    as_json: bool,
    *,
    rental: str | None = None,
) -> None:
    """Order it, show the outcome, and end with the exit code that says it.

    Args:
        ctx: of the group that has the API's address.
        vehicle: an id, or as much of its beginning as is unique.
        body: the order; its rental is put in where its kind needs one.
        wait_s: how long to wait for the signed outcome.
        as_json: show the API's own document.
        rental: its rental's id; without it the one that the car is in.
    """
    api = api_of(ctx)
    found = api.find(vehicle)
    wanted = dict(body)
    if wanted["kind"] in _NEEDS_RENTAL:
        wanted["rental_id"] = rental or found["state"].get("rental_id", {}).get("value")
    outcome = api.post_command(found["id"], wanted, wait_s=wait_s)
    if as_json:
        print_json(outcome)
    else:
        _tell(found["id"], outcome)
    if not outcome["is_final"]:
        ctx.exit(EXIT_UNKNOWN)
    if outcome["state"] != "succeeded":
        ctx.exit(EXIT_FAILED)


def _tell(vehicle: str, outcome: Mapping[str, Any]) -> None:
    heading(f"{outcome['kind']} {vehicle}: {outcome['state']}")
    shown = {
        "meaning": outcome["meaning"],
        "code": text_of(outcome["code"]),
        "executed": text_of(outcome["executed"]),
        "retry": text_of(outcome["retry"]),
        "command": outcome["id"],
    }
    if outcome["rental_id"]:
        shown["rental"] = outcome["rental_id"]
    snapshot = outcome["snapshot"] or {}
    for name in ("mode", "light", "energy_pct"):
        if name in snapshot:
            shown[name] = text_of(snapshot[name])
    if outcome["state"] != "succeeded" and outcome["kind"] in _MOVES and snapshot:
        shown["car"] = stand_of(snapshot)
    for number, part in enumerate(outcome["parts"], 1):
        # One that has no command says by itself that it was not sent, or not needed.
        state = f"{part['state']}: " if part["state"] else ""
        shown[f"  part {number}, {part['kind']}"] = f"{state}{part['meaning']}"
    for hop in outcome["trail"]:
        shown[f"  {hop['state']}"] = hop["at"]
    facts(shown)


def stand_of(snapshot: Mapping[str, Any]) -> str:
    """Return what may stand in the way of bolts and engine, from a signed snapshot.

    The code of a refusal names the first of several hindrances; this names them all,
    but for the place: a car says OUT_OF_ZONE when nothing else is missing.
    """
    words = [
        yes if snapshot[name] else no
        for name, yes, no in _STAND
        if name in snapshot and (yes if snapshot[name] else no)
    ]
    return ", ".join(words)


def text_of(value: object) -> str:
    """Return a value of a document for a person."""
    if value is None:
        return "-"
    if isinstance(value, list | dict):
        return json.dumps(value)
    return str(value)
