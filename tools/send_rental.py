"""Verbs of `freefloat send` about payment, default mode, handover and grants."""

from datetime import timedelta
from secrets import token_hex
from typing import Final

import click

from tools.clock import wall_clock
from tools.console import examples
from tools.ordering import for_vehicle, order, rental_option


def _secrets(pin: str | None, fuel_card_pin: str | None) -> dict[str, object]:
    if pin == "-":
        pin = click.prompt("PIN", hide_input=True)
    given = {"pin": pin, "fuel_card_pin": fuel_card_pin}
    return {name: value for name, value in given.items() if value is not None}


@click.command(
    "set-default-mode", epilog=examples("freefloat send set-default-mode AB3X park")
)
@rental_option
@for_vehicle
@click.argument("mode", type=click.Choice(["park", "end"]))
def set_default_mode(
    ctx: click.Context,
    vehicle: str,
    mode: str,
    rental: str | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Change what locking means when the driver chose nothing."""
    body = {"kind": "set_default_mode", "lock_default": mode}
    order(ctx, vehicle, body, wait_s, as_json, rental=rental)


@click.command(
    "payment",
    epilog=examples(
        "freefloat send payment AB3X paid --payment 00..ff --amount 4250",
        "freefloat send payment AB3X refused --payment 00..ff --amount 4250",
    ),
)
@click.option(
    "--payment",
    required=True,
    metavar="HEX",
    help="Id that the car asked for it with, in freefloat.payment.requested.",
)
@click.option(
    "--amount",
    type=click.IntRange(0),
    required=True,
    help="In the smallest unit of the currency, such as cents.",
)
@click.option("--currency", default="EUR", show_default=True, help="ISO 4217.")
@rental_option
@for_vehicle
@click.argument("decision", type=click.Choice(["paid", "refused"]))
def payment(
    ctx: click.Context,
    vehicle: str,
    decision: str,
    payment: str,
    amount: int,
    currency: str,
    rental: str | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Say how a payment ended that the car asked for."""
    body = {
        "kind": "payment_decision",
        "payment_id": payment,
        "decision": decision,
        "amount_minor": amount,
        "currency": currency,
    }
    order(ctx, vehicle, body, wait_s, as_json, rental=rental)


@click.command(
    epilog=examples(
        "freefloat send grant AB3X --card 04a1b2c3d4e5f6 --pin - --hours 12",
        "freefloat send grant AB3X --card 04a1b2c3d4e5f6 --right unlock "
        "--right service",
        "freefloat send grant AB3X --card 04a1b2c3d4e5f6 --withdraw --grant 00..ff",
        "freefloat send grant AB3X --card 04a1b2c3d4e5f6 --withdraw --rental 00..ff",
    )
)
@click.option("--card", required=True, metavar="UID", help="The card's, in hex.")
@click.option("--rental", metavar="HEX", help="Rental that it can start; a new id.")
@click.option("--grant", metavar="HEX", help="Id of the grant; a new one without it.")
@click.option(
    "--withdraw",
    is_flag=True,
    help="Take the grant back; of a rental that runs, the card.",
)
@click.option(
    "--right",
    "rights",
    multiple=True,
    type=click.Choice(["unlock", "drive", "service"]),
    default=("unlock", "drive"),
    show_default=True,
)
@click.option(
    "--hours",
    type=click.FloatRange(0, 720, min_open=True),
    default=24,
    show_default=True,
    help="How long it counts, from now on.",
)
@click.option("--pin", help="The customer's PIN, 4 to 8 digits; asked for with '-'.")
@click.option("--fuel-card-pin", help="PIN of the fuel card, up to 8 digits.")
@for_vehicle
def grant(
    ctx: click.Context,
    vehicle: str,
    card: str,
    rental: str | None,
    grant: str | None,
    withdraw: bool,
    rights: tuple[str, ...],
    hours: float,
    pin: str | None,
    fuel_card_pin: str | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Give a card rights for a time, with no network needed; or take them."""
    if withdraw and grant is None and rental is None:
        raise click.UsageError(
            "--withdraw needs the id of the --grant, or of the --rental that runs"
        )
    now = wall_clock().replace(microsecond=0)
    body: dict[str, object] = {
        "kind": "grant",
        "action": "withdraw" if withdraw else "add",
        "rental_id": rental or token_hex(16),
        "grant_id": grant or token_hex(16),
        "card": card.lower(),
        "rights": sorted(set(rights)),
        "not_before": now.isoformat(),
        "not_after": (now + timedelta(hours=hours)).isoformat(),
        **_secrets(pin, fuel_card_pin),
    }
    if not as_json:
        click.echo(f"grant {body['grant_id']} of rental {body['rental_id']}")
    order(ctx, vehicle, body, wait_s, as_json)


@click.command(
    "handover-offer",
    epilog=examples(
        "freefloat send handover-offer AB3X --card 04a1b2c3d4e5f6 --pin - "
        "--at 48.14 11.58"
    ),
)
@click.option("--offer", metavar="HEX", help="Rental that begins by it; a new id.")
@click.option("--card", "cards", multiple=True, metavar="UID", help="Up to four.")
@click.option("--pin", help="The second driver's PIN; asked for with '-'.")
@click.option("--fuel-card-pin", help="PIN of the fuel card, up to 8 digits.")
@click.option("--at", "place", type=(float, float), required=True, help="LAT LON.")
@click.option(
    "--for", "for_s", type=click.IntRange(1, 86_400), default=900, show_default=True
)
@rental_option
@for_vehicle
def handover_offer(
    ctx: click.Context,
    vehicle: str,
    offer: str | None,
    cards: tuple[str, ...],
    pin: str | None,
    fuel_card_pin: str | None,
    place: tuple[float, float],
    for_s: int,
    rental: str | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Tell a car who takes it over next, and where they meet."""
    body = {
        "kind": "handover_offer",
        "offer_id": offer or token_hex(16),
        "cards": [uid.lower() for uid in cards],
        "latitude_deg": place[0],
        "longitude_deg": place[1],
        "for_s": for_s,
        **_secrets(pin, fuel_card_pin),
    }
    order(ctx, vehicle, body, wait_s, as_json, rental=rental)


@click.command(
    "handover-request",
    epilog=examples(
        "freefloat send handover-request AB3X --name Ben --at 48.14 11.58 "
        "--distance 300"
    ),
)
@click.option("--request", metavar="HEX", help="Id of the request; a new one.")
@click.option("--name", required=True, help="What the other wants to be called.")
@click.option("--at", "place", type=(float, float), required=True, help="LAT LON.")
@click.option("--distance", type=click.IntRange(0, 65_535), required=True, help="m.")
@click.option(
    "--for", "for_s", type=click.IntRange(1, 86_400), default=300, show_default=True
)
@rental_option
@for_vehicle
def handover_request(
    ctx: click.Context,
    vehicle: str,
    request: str | None,
    name: str,
    place: tuple[float, float],
    distance: int,
    for_s: int,
    rental: str | None,
    wait_s: float,
    as_json: bool,
) -> None:
    """Ask the driver whether somebody near may take the car over."""
    body = {
        "kind": "handover_request",
        "request_id": request or token_hex(16),
        "name": name,
        "latitude_deg": place[0],
        "longitude_deg": place[1],
        "distance_m": distance,
        "for_s": for_s,
    }
    order(ctx, vehicle, body, wait_s, as_json, rental=rental)


RENTAL_VERBS: Final = (
    set_default_mode,
    payment,
    grant,
    handover_offer,
    handover_request,
)
"""In the order of the help."""
