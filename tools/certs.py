"""``freefloat certs``: make a fleet's keys, issue vehicles, see what expires.

A thin shell: it reads the clock, calls `certs`, and says what was done. No key is ever
printed.
"""

import signal
import time
from datetime import datetime
from pathlib import Path
from signal import SIGINT, SIGTERM
from types import FrameType
from typing import Final

import click

from certs.fleet import FleetDirectory
from certs.inventory import Inventory, Item, take_inventory
from certs.profiles import VEHICLE_TLS_LIFETIME
from certs.vehicle import (
    BATCH_LIMIT,
    IssuedVehicle,
    issue_vehicles,
    random_vehicle_id,
)
from protocol.errors import DecodeError
from protocol.fleet import FleetPart
from protocol.identity import VehicleId
from tools.certs_audit import audit
from tools.certs_bridge import bridge
from tools.certs_renew import renew
from tools.certs_roll import new_key, roll_issuing, roll_root
from tools.certs_serve import serve
from tools.certs_trust import trust
from tools.certs_vehicles import claim, crl, grace, recertify, revoke
from tools.clock import read_clock
from tools.console import (
    examples,
    facts,
    heading,
    json_option,
    print_json,
    step,
    table,
    warning,
)
from tools.errors import OperatorError

DEFAULT_DIRECTORY: Final = "fleet"
"""Where a fleet lies if nobody says otherwise."""

SHOWN_VEHICLES: Final = 10
"""Vehicles named one by one; a fleet has thousands."""

PROGRESS_S: Final = 2.0
"""How often it is said how far a long issuing is."""

directory_argument: Final = click.argument(
    "directory",
    default=DEFAULT_DIRECTORY,
    metavar="[DIR]",
    type=click.Path(path_type=Path),
)


@click.group(
    epilog=examples(
        "freefloat certs init fleet --host broker.example.com",
        "freefloat certs issue fleet --count 5",
        "freefloat certs show fleet",
    )
)
def certs() -> None:
    """Make a fleet's keys and certificates.

    A fleet is a directory: certificate authority, broker, bridge, engineer, signers,
    and the vehicles. DIR is "fleet" unless you name another.
    """


@certs.command(
    epilog=examples(
        "freefloat certs init                          # in ./fleet, for this machine",
        'freefloat certs init pilot --name "Pilot" --host mqtt.example.com',
        "freefloat certs init pilot --host 192.0.2.7 --host mqtt.example.com --json",
    )
)
@directory_argument
@click.option(
    "--name",
    default="freefloat",
    show_default=True,
    help="The fleet's name, for people; it stands in the CA certificates.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A name or address by which cars reach the broker. May be repeated. "
    "localhost, 127.0.0.1 and ::1 are always included.",
)
@json_option
def init(directory: Path, name: str, hosts: tuple[str, ...], as_json: bool) -> None:
    """Make a new fleet with all its keys in DIR.

    Nothing is ever overwritten: DIR must be absent or empty.
    """
    fleet = FleetDirectory.create(directory, name=name, hosts=hosts, now=read_clock())
    inventory = take_inventory(fleet)
    if as_json:
        print_json(_inventory_document(fleet, inventory, now=read_clock()))
        return
    heading(f"Fleet '{name}' is made in {directory}")
    facts({"fleet id": fleet.fleet.fleet_id.hex()})
    step("root and issuing certificate authority        ca/")
    step("TLS identities of broker, bridge, engineer    broker/ bridge/1/ engineer/1/")
    step("TLS identity of the enrolment service         enrolment/")
    step("three trust roots, trust bundle 1 (2 of 3)    trust/")
    step("command signer and receipt signer             signer/")
    click.echo()
    heading("Keep offline")
    click.echo("  Nothing of every day needs these keys. Move them to two safe places:")
    for part in inventory.offline:
        click.echo(f"    {directory / part}")
    click.echo()
    heading("Next")
    click.echo(f"  freefloat certs issue {directory} --count 5    # five vehicles")
    click.echo(f"  freefloat certs show {directory}               # what expires when")


@certs.command(
    epilog=examples(
        "freefloat certs issue                  # one vehicle with a random id",
        "freefloat certs issue fleet --count 25",
        "freefloat certs issue fleet --total 14000      # again, to go on",
        "freefloat certs issue fleet --vehicle-id 2IKZ3ICPO6WDLGQ2QWQYYJ2C4E",
        "freefloat certs issue fleet --json | jq -r '.vehicles[].directory'",
    )
)
@directory_argument
@click.option(
    "--count",
    type=click.IntRange(1, BATCH_LIMIT),
    default=None,
    help="How many vehicles with random ids.  [default: 1]",
)
@click.option(
    "--total",
    type=click.IntRange(1, BATCH_LIMIT),
    default=None,
    help="As many vehicles with random ids as are missing until so many are "
    "registered; if it is cut off, the same command goes on.",
)
@click.option(
    "--vehicle-id",
    "texts",
    multiple=True,
    metavar="ID",
    help="Issue this id (26 characters, A-Z and 2-7) instead of a random one. "
    "May be repeated.",
)
@json_option
def issue(
    directory: Path,
    count: int | None,
    total: int | None,
    texts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make keys and certificates for vehicles and register them.

    Each vehicle gets a directory in DIR/vehicles that is copied into the car, and a
    public record in DIR/registry by which a bridge knows it.
    """
    if sum((bool(texts), count is not None, total is not None)) > 1:
        raise OperatorError(
            "--count, --total and --vehicle-id exclude one another",
            "--count and --total make random ids; name each wanted id with "
            "--vehicle-id",
        )
    wanted = [_vehicle_id(text) for text in texts]
    fleet = FleetDirectory.open(directory)
    if total is not None:
        there = len(fleet.vehicle_ids())
        count = total - there
        if count <= 0 and not as_json:
            step(f"{there} vehicles are registered in {directory}: nothing to issue")
    vehicle_ids = wanted or [
        random_vehicle_id() for _ in range(1 if count is None else max(0, count))
    ]
    issued = _issue_all(fleet, vehicle_ids) if vehicle_ids else []
    if as_json:
        print_json({"vehicles": [_issued_document(one) for one in issued]})
    if as_json or not issued:
        return
    many = f"{len(issued)} vehicles" if len(issued) > 1 else "1 vehicle"
    heading(f"{many} issued and registered in {directory}")
    for one in issued[:SHOWN_VEHICLES]:
        step(f"{one.vehicle_id}  connects until {one.tls_expires:%Y-%m-%d}")
    if len(issued) > SHOWN_VEHICLES:
        click.echo(f"      and {len(issued) - SHOWN_VEHICLES} more")
    click.echo()
    facts(
        {
            "into the car": f"{directory / FleetPart.VEHICLES}/<ID>/  (private keys)",
            "public": f"{directory / FleetPart.REGISTRY}/<ID>.json  (for the bridge)",
            "lifetime": f"TLS {VEHICLE_TLS_LIFETIME.days} days; signing 20 years",
        }
    )


class _StoppedError(Exception):
    """Somebody ended a long issuing; raised between two vehicles, never within one."""


def _issue_all(
    fleet: FleetDirectory, vehicle_ids: list[VehicleId]
) -> list[IssuedVehicle]:
    """Issue them, say on stderr how far it is, and end between two when asked to."""
    wanted, done, is_asked = len(vehicle_ids), 0, False
    begun_s = said_s = time.monotonic()

    def told(count: int) -> None:
        nonlocal done, said_s
        done, now_s = count, time.monotonic()
        if is_asked and count < wanted:
            raise _StoppedError
        if now_s - said_s >= PROGRESS_S and count < wanted:
            said_s = now_s
            left_s = (now_s - begun_s) / count * (wanted - count)
            click.echo(f"      {count} of {wanted}, {left_s:.0f} s left", err=True)

    def ask(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_asked
        is_asked = True

    former = {each: signal.signal(each, ask) for each in (SIGINT, SIGTERM)}
    try:
        return issue_vehicles(fleet, vehicle_ids, now=read_clock(), told=told)
    except _StoppedError:
        raise OperatorError(
            f"stopped: {done} of {wanted} vehicles were issued, and these are whole",
            "the same command with --total goes on; or issue the others",
        ) from None
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


@certs.command(
    epilog=examples(
        "freefloat certs show fleet",
        "freefloat certs show fleet --json | jq '.certificates[] | .expires'",
    )
)
@directory_argument
@json_option
def show(directory: Path, as_json: bool) -> None:
    """Show what a fleet holds, what expires when, and what is wrong.

    Ends with exit code 1 if something is expired or wrong.
    """
    now = read_clock()
    fleet = FleetDirectory.open(directory)
    inventory = take_inventory(fleet)
    if as_json:
        print_json(_inventory_document(fleet, inventory, now=now))
    else:
        _show(directory, fleet, inventory, now=now)
    expired = [
        item
        for item in (*inventory.items, *inventory.vehicles)
        if item.state(now=now) == "expired"
    ]
    if inventory.problems or expired:
        raise OperatorError(
            f"{len(inventory.problems)} problems and {len(expired)} expired "
            f"certificates in {directory}",
            "each is named above",
        )


def _show(
    directory: Path, fleet: FleetDirectory, inventory: Inventory, *, now: datetime
) -> None:
    heading(f"Fleet '{fleet.fleet.name}' in {directory}")
    facts(
        {
            "fleet id": fleet.fleet.fleet_id.hex(),
            "made": f"{fleet.fleet.created:%Y-%m-%d %H:%M} UTC",
            "vehicles": f"{inventory.vehicle_count} registered, "
            f"{len(inventory.vehicles)} with their keys still here",
        }
    )
    click.echo()
    shown = (*inventory.items, *inventory.vehicles[:SHOWN_VEHICLES])
    table(
        ("what", "until", "state", "file"),
        [
            (item.name, f"{item.expires:%Y-%m-%d}", item.state(now=now), item.part)
            for item in shown
        ],
    )
    if len(inventory.vehicles) > SHOWN_VEHICLES:
        rest = len(inventory.vehicles) - SHOWN_VEHICLES
        click.echo(f"  and {rest} more vehicles, none of which expires earlier")
    if inventory.offline:
        warning(f"belongs offline: {', '.join(inventory.offline)}")
    for problem in inventory.problems:
        warning(problem)


def _vehicle_id(text: str) -> VehicleId:
    try:
        return VehicleId.from_text(text)
    except DecodeError as error:
        raise OperatorError(
            error.detail,
            "leave --vehicle-id out for a random id, or give one that was made here",
        ) from None


def _issued_document(vehicle: IssuedVehicle) -> dict[str, str]:
    return {
        "vehicle_id": str(vehicle.vehicle_id),
        "directory": str(vehicle.directory),
        "tls_expires": vehicle.tls_expires.isoformat(),
    }


def _inventory_document(
    fleet: FleetDirectory, inventory: Inventory, *, now: datetime
) -> dict[str, object]:
    def document(item: Item) -> dict[str, str]:
        return {
            "name": item.name,
            "file": item.part,
            "expires": item.expires.isoformat(),
            "state": item.state(now=now),
        }

    return {
        "fleet_id": fleet.fleet.fleet_id.hex(),
        "name": fleet.fleet.name,
        "directory": str(fleet.path),
        "created": fleet.fleet.created.isoformat(),
        "certificates": [document(item) for item in inventory.items],
        "vehicle_count": inventory.vehicle_count,
        "vehicles": [document(item) for item in inventory.vehicles],
        "keep_offline": list(inventory.offline),
        "problems": list(inventory.problems),
    }


for command in (
    claim,
    serve,
    revoke,
    grace,
    recertify,
    crl,
    audit,
    bridge,
    renew,
    roll_root,
    roll_issuing,
    new_key,
    trust,
):
    certs.add_command(command)
