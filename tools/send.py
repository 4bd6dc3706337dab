"""`freefloat send`: order something of a car through the bridge, and see its outcome.

"Sent" is never shown as "done": what is printed is the car's own signed word, or that
there is none yet (I-11).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from tools.api_options import api_options
from tools.console import examples, facts, heading, json_option, print_json, table
from tools.ordering import api_of, for_vehicle, order, rental_option, text_of
from tools.send_compound import COMPOUND_VERBS
from tools.send_rental import RENTAL_VERBS
from tools.send_upkeep import UPKEEP_VERBS


@click.group(
    epilog=examples(
        "freefloat send list",
        "freefloat send ping AB3X",
        "freefloat send reserve AB3X --card 04a1b2c3d4e5f6 --pin 2468 --hold 900",
        "freefloat send unlock AB3X        # for the rental that the car is in",
        "freefloat send lock AB3X --mode end --json",
    )
)
@api_options
@click.pass_context
def send(ctx: click.Context, api: str, api_key_file: Path | None) -> None:
    """Order something of a car and show its signed outcome.

    VEHICLE is a vehicle id, or as much of its beginning as is unique. Ends with 0 when
    the car signed that it is done, 1 when it was refused or failed, 3 when there is no
    signed outcome yet.
    """
    ctx.obj = (api, api_key_file)


@send.command(
    "list", epilog=examples("freefloat send list", "freefloat send list --json")
)
@json_option
@click.pass_context
def list_vehicles(ctx: click.Context, as_json: bool) -> None:
    """List the fleet's cars."""
    vehicles = list(api_of(ctx).vehicles())
    if as_json:
        print_json(vehicles)
        return
    table(
        ("vehicle", "link", "mode", "light", "level", "washer", "last seen"),
        (
            (
                vehicle["id"],
                "online" if vehicle["online"] else "offline",
                _value(vehicle, "mode"),
                _value(vehicle, "light"),
                _value(vehicle, "energy_pct", " %"),
                _value(vehicle, "washer_pct", " %"),
                vehicle["last_seen"] or "never",
            )
            for vehicle in vehicles
        ),
    )


@send.command(
    epilog=examples("freefloat send show AB3X", "freefloat send show AB3X --json")
)
@click.argument("vehicle")
@json_option
@click.pass_context
def show(ctx: click.Context, vehicle: str, as_json: bool) -> None:
    """Show a car's last known state, each field with the time it was observed."""
    found = api_of(ctx).find(vehicle)
    if as_json:
        print_json(found)
        return
    heading(f"{found['id']}, {'online' if found['online'] else 'offline'}")
    facts(
        {
            name: f"{text_of(field['value']):<24} observed {field['observed']}"
            + (", stale" if field["stale"] else "")
            for name, field in found["state"].items()
        }
    )


@send.command(epilog=examples("freefloat send ping AB3X"))
@for_vehicle
def ping(ctx: click.Context, vehicle: str, wait_s: float, as_json: bool) -> None:
    """Ask for a signed sign of life."""
    order(ctx, vehicle, {"kind": "ping"}, wait_s, as_json)


@send.command("rotate-key", epilog=examples("freefloat send rotate-key AB3X"))
@for_vehicle
def rotate_key(ctx: click.Context, vehicle: str, wait_s: float, as_json: bool) -> None:
    """Have a car make itself a new signing key.

    The old key signs a last entry that names the new one, so what the car said before
    stays proved. Nothing of the old key, on a disk image or a scrapped unit, counts
    afterwards.
    """
    order(ctx, vehicle, {"kind": "rotate_key"}, wait_s, as_json)


@send.command(epilog=examples("freefloat send unlock AB3X"))
@rental_option
@for_vehicle
def unlock(
    ctx: click.Context, vehicle: str, rental: str | None, wait_s: float, as_json: bool
) -> None:
    """Open the doors; starts or resumes the rental."""
    order(ctx, vehicle, {"kind": "unlock"}, wait_s, as_json, rental=rental)


@send.command(epilog=examples("freefloat send lock AB3X --mode park"))
@click.option(
    "--mode",
    type=click.Choice(["default", "park", "end", "plain"]),
    default="default",
    show_default=True,
    help="What locking means for the rental.",
)
@rental_option
@for_vehicle
def lock(
    ctx: click.Context,
    vehicle: str,
    rental: str | None,
    mode: str,
    wait_s: float,
    as_json: bool,
) -> None:
    """Close the doors; parks or ends the rental."""
    body = {"kind": "lock", "mode": mode}
    order(ctx, vehicle, body, wait_s, as_json, rental=rental)


@send.command("engine-release", epilog=examples("freefloat send engine-release AB3X"))
@click.option(
    "--reason",
    type=click.Choice(["rental", "operator", "pin_block_lifted"]),
    default="operator",
    show_default=True,
)
@rental_option
@for_vehicle
def engine_release(
    ctx: click.Context,
    vehicle: str,
    rental: str | None,
    reason: str,
    wait_s: float,
    as_json: bool,
) -> None:
    """Let the engine start without a PIN; lifts a PIN block."""
    body = {"kind": "engine_release", "reason": reason}
    order(ctx, vehicle, body, wait_s, as_json, rental=rental)


@send.command("engine-hold", epilog=examples("freefloat send engine-hold AB3X"))
@rental_option
@for_vehicle
def engine_hold(
    ctx: click.Context, vehicle: str, rental: str | None, wait_s: float, as_json: bool
) -> None:
    """Keep the engine from starting; a car that moves refuses."""
    body = {"kind": "engine_hold", "reason": "operator"}
    order(ctx, vehicle, body, wait_s, as_json, rental=rental)


@send.command(
    epilog=examples("freefloat send reserve AB3X --card 04a1b2c3d4e5f6 --pin 2468")
)
@click.option("--rental", metavar="HEX", help="Rental id; a new one without it.")
@click.option(
    "--card",
    "cards",
    multiple=True,
    metavar="UID",
    help="UID of a card that opens, in hex. Up to four.",
)
@click.option("--pin", help="The customer's PIN, 4 to 8 digits; asked for with '-'.")
@click.option("--fuel-card-pin", help="PIN of the fuel card, up to 8 digits.")
@click.option(
    "--hold",
    "hold_s",
    type=click.IntRange(1, 86_400),
    default=900,
    show_default=True,
    help="Seconds until the car releases itself.",
)
@click.option(
    "--default",
    "lock_default",
    type=click.Choice(["end", "park"]),
    default="end",
    show_default=True,
    help="What locking means when nothing was chosen.",
)
@for_vehicle
def reserve(
    ctx: click.Context,
    vehicle: str,
    rental: str | None,
    cards: tuple[str, ...],
    pin: str | None,
    fuel_card_pin: str | None,
    hold_s: int,
    lock_default: str,
    wait_s: float,
    as_json: bool,
) -> None:
    """Keep a car for one customer; its light turns yellow."""
    from secrets import token_hex  # noqa: PLC0415 - only where an id is made

    if pin == "-":
        pin = click.prompt("PIN", hide_input=True)
    body: dict[str, object] = {
        "kind": "reserve",
        "rental_id": rental or token_hex(16),
        "hold_s": hold_s,
        "cards": [uid.lower() for uid in cards],
        "lock_default": lock_default,
    }
    if pin is not None:
        body["pin"] = pin
    if fuel_card_pin is not None:
        body["fuel_card_pin"] = fuel_card_pin
    order(ctx, vehicle, body, wait_s, as_json)


@send.command(epilog=examples("freefloat send cancel AB3X --reason operator"))
@click.option(
    "--reason",
    type=click.Choice(["customer", "operator"]),
    default="operator",
    show_default=True,
)
@rental_option
@for_vehicle
def cancel(
    ctx: click.Context,
    vehicle: str,
    rental: str | None,
    reason: str,
    wait_s: float,
    as_json: bool,
) -> None:
    """Take a reservation back; the light turns green."""
    body = {"kind": "cancel", "reason": reason}
    order(ctx, vehicle, body, wait_s, as_json, rental=rental)


@send.command("set-mode", epilog=examples("freefloat send set-mode AB3X park"))
@rental_option
@for_vehicle
@click.argument(
    "mode", type=click.Choice(["park", "resume", "refuel", "refuel_done", "end"])
)
def set_mode(
    ctx: click.Context,
    vehicle: str,
    mode: str,
    rental: str | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Choose what the driver could choose at the display."""
    body = {"kind": "set_mode", "mode": mode}
    order(ctx, vehicle, body, wait_s, as_json, rental=rental)


@send.command("flash-hazards", epilog=examples("freefloat send flash-hazards AB3X"))
@click.option("--seconds", type=click.IntRange(1, 30), default=5, show_default=True)
@for_vehicle
def flash_hazards(
    ctx: click.Context, vehicle: str, seconds: int, wait_s: float, as_json: bool
) -> None:
    """Let the hazard lights blink, so that the car is found."""
    body = {"kind": "flash_hazards", "seconds": seconds}
    order(ctx, vehicle, body, wait_s, as_json)


@send.command(epilog=examples("freefloat send resend AB3X 17 19"))
@click.argument("vehicle")
@click.argument("first", type=click.IntRange(1))
@click.argument("last", type=click.IntRange(1))
@click.option(
    "--ledger", metavar="HEX", help="Ledger id. Without it: the car's present one."
)
@json_option
@click.pass_context
def resend(
    ctx: click.Context,
    vehicle: str,
    first: int,
    last: int,
    ledger: str | None,
    *,
    as_json: bool,
) -> None:
    """Ask a car for its ledger entries FIRST to LAST again.

    The bridge closes gaps by itself; this is for who looks at one. The car sends what
    it still holds.
    """
    api = api_of(ctx)
    name = api.find(vehicle)["id"]
    body: dict[str, object] = {"first": first, "last": last}
    if ledger is not None:
        body["ledger_id"] = ledger
    asked = api.post(f"/v1/vehicles/{name}/resend", body)
    if as_json:
        print_json(asked)
    else:
        heading(f"asked {name} for entries {first} to {last}")
        facts({"ledger": asked["ledger_id"], "sent": asked["sent"]})


def _value(vehicle: Mapping[str, Any], name: str, unit: str = "") -> str:
    field = vehicle["state"].get(name)
    if field is None or field["value"] is None:
        return "-"
    return f"{text_of(field['value'])}{unit}"


for verb in (*COMPOUND_VERBS, *RENTAL_VERBS, *UPKEEP_VERBS):
    send.add_command(verb)
