"""``freefloat certs claim | revoke | grace | crl``: vehicles in, out, and late ones."""

from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Final

import click

from certs.audit_log import Severity
from certs.errors import RequestError
from certs.fleet import FleetDirectory
from certs.recertification import recertify as certify_rotations
from certs.renewal_rules import GRACE_LIMIT
from certs.revocation import publish_list, revoke_vehicle
from certs.vehicle import random_vehicle_id
from certs.voucher import CLAIM_LIFETIME, CLAIM_LIFETIME_LIMIT, SERIAL, make_claim
from protocol.errors import DecodeError, ProtocolError
from protocol.evidence import parse_evidence
from protocol.fleet import FleetPart
from protocol.identity import VEHICLE_TEXT, VehicleId
from tools.clock import read_clock
from tools.console import examples, facts, heading, json_option, print_json, step
from tools.errors import OperatorError

fleet_argument: Final = click.argument(
    "directory", metavar="FLEET", type=click.Path(path_type=Path)
)
"""The fleet directory, where leaving it out would be a mistake."""


def vehicle_id(text: str) -> VehicleId:
    """Read a vehicle id from a command line.

    Raises:
        OperatorError: it is none.
    """
    try:
        return VehicleId.from_text(text)
    except DecodeError as error:
        raise OperatorError(
            error.detail, "ids are 26 characters; see 'freefloat certs show'"
        ) from None


@click.command(
    epilog=examples(
        "freefloat certs claim fleet 2IKZ3ICPO6WDLGQ2QWQYYJ2C4E",
        "freefloat certs claim fleet SN-004711            # draws a vehicle id",
        "freefloat certs claim fleet SN-004711 --days 30 --json",
    )
)
@fleet_argument
@click.argument("who", metavar="VEHICLE-ID|SERIAL")
@click.option(
    "--days",
    type=click.IntRange(1, CLAIM_LIFETIME_LIMIT.days),
    default=CLAIM_LIFETIME.days,
    show_default=True,
    help="How long the claim is good for.",
)
@json_option
def claim(directory: Path, who: str, days: int, as_json: bool) -> None:
    """Make a one-time claim with which one device enrols, and show it once.

    Give the vehicle id, or the device's serial number: then a random id is drawn, and
    the device must name that serial number when it enrols. The fleet keeps the claim's
    hash only. `freefloat certs serve` takes it.
    """
    fleet = FleetDirectory.open(directory)
    is_id = VEHICLE_TEXT.fullmatch(who) is not None
    if not is_id and not SERIAL.fullmatch(who):
        raise OperatorError(
            f"{who[:80]!r} is neither a vehicle id nor a serial number",
            "a serial number has 1 to 64 letters, digits or ._:/-",
        )
    now = read_clock()
    with closing(fleet.books()) as books:
        made = make_claim(
            fleet,
            books,
            vehicle_id=vehicle_id(who) if is_id else random_vehicle_id(),
            serial="" if is_id else who,
            lifetime=timedelta(days=days),
            now=now,
        )
    voucher = made.voucher
    fleet.audit_log.write(
        Severity.NOTE,
        "claim_made",
        now=now,
        vehicle_id=str(voucher.vehicle_id),
        detail=f"serial number {voucher.serial}" if voucher.serial else "",
    )
    if as_json:
        print_json(
            {
                "claim": made.text,
                "vehicle_id": str(voucher.vehicle_id),
                "serial": voucher.serial,
                "expires": voucher.expires.isoformat(),
            }
        )
        return
    heading("One-time claim; it is shown now and never again")
    facts(
        {
            "claim": made.text,
            "vehicle id": str(voucher.vehicle_id),
            "serial": voucher.serial or "not asked for",
            "good until": f"{voucher.expires:%Y-%m-%d %H:%M} UTC",
        }
    )


@click.command(
    epilog=examples(
        "freefloat certs revoke fleet 2IKZ3ICPO6WDLGQ2QWQYYJ2C4E --reason stolen",
    )
)
@fleet_argument
@click.argument("who", metavar="VEHICLE-ID")
@click.option("--reason", default="", help="A word for the audit file.")
@json_option
def revoke(directory: Path, who: str, reason: str, as_json: bool) -> None:
    """Withdraw a vehicle: at once at every bridge that reads this registry.

    Its record moves from registry/ to revoked/, no path of the enrolment service gives
    it anything, and its running certificates are put on the revocation list. Its id and
    keys are never taken again.
    """
    fleet = FleetDirectory.open(directory)
    done = revoke_vehicle(fleet, vehicle_id(who), reason=reason, now=read_clock())
    if as_json:
        print_json(
            {
                "vehicle_id": str(done.vehicle_id),
                "certificates": done.certificates,
                "list_until": done.list_until.isoformat(),
            }
        )
        return
    step(f"{done.vehicle_id} is out of the registry and can renew nothing")
    step(
        f"{_certificates(done.certificates)} on the revocation list "
        f"{FleetPart.REVOCATION_LIST}, good until {done.list_until:%Y-%m-%d %H:%M}"
    )
    click.echo(
        "  A bridge or guard with a registry of its own: move the record to revoked/ "
        "there as well.\n  One that only vanishes may go on counting."
    )


def _certificates(count: int) -> str:
    return "1 certificate" if count == 1 else f"{count} certificates"


@click.command(
    epilog=examples(
        "freefloat certs grace fleet 2IKZ3ICPO6WDLGQ2QWQYYJ2C4E --days 3",
    )
)
@fleet_argument
@click.argument("who", metavar="VEHICLE-ID")
@click.option(
    "--days",
    type=click.IntRange(1, GRACE_LIMIT.days),
    default=7,
    show_default=True,
    help="How long it may renew by its signing key.",
)
def grace(directory: Path, who: str, days: int) -> None:
    """Let one vehicle renew by its signing key after its grace period is over.

    For a car that stood for longer than half a year, after somebody has looked at it.
    """
    fleet = FleetDirectory.open(directory)
    name, now = vehicle_id(who), read_clock()
    if not fleet.record_path(name).exists():
        raise RequestError(
            f"vehicle {name} is not registered in {directory}",
            "a withdrawn vehicle stays out; enrol it under a new id",
        )
    until = now + timedelta(days=days)
    fleet.audit_log.write(
        Severity.NOTE, "grace_extended", now=now, vehicle_id=str(name)
    )
    with closing(fleet.books()) as books:
        books.extend_grace(name, until=until)
    step(f"{name} may renew by its signing key until {until:%Y-%m-%d %H:%M} UTC")


@click.command(
    epilog=examples(
        "freefloat evidence export 000102030405060708090a0b0c0d0e0f -o case.json",
        "freefloat certs recertify fleet case.json",
    )
)
@fleet_argument
@click.argument("evidence", metavar="EVIDENCE", type=click.Path(path_type=Path))
def recertify(directory: Path, evidence: Path) -> None:
    """Certify the signing key that a vehicle rotated to.

    A car does this by itself at the enrolment service after each rotation. This is for
    one that cannot: its disk was lost after the rotation, and with it the proof. The
    bridge has the proof: name the evidence of any rental of that car. What counts in it
    are the rotations, each signed by the key before and proved by the key after it.
    """
    fleet = FleetDirectory.open(directory)
    try:
        exhibit = parse_evidence(evidence.read_bytes())
    except (OSError, ProtocolError) as error:
        raise OperatorError(
            f"{evidence} cannot be used: {error}",
            "fetch one with 'freefloat evidence export'",
        ) from None
    now = read_clock()
    with fleet.issuing() as enrolled:
        if not fleet.record_path(exhibit.vehicle_id).exists():
            raise RequestError(
                f"vehicle {exhibit.vehicle_id} is not registered in {directory}",
                "a withdrawn vehicle stays out; enrol it under a new id",
            )
        done = certify_rotations(
            fleet,
            fleet.issuing_authority(),
            exhibit.vehicle_id,
            exhibit.rotations,
            enrolled=enrolled,
            now=now,
        )
        fleet.audit_log.write(
            Severity.NOTE, "recertified", now=now, vehicle_id=str(exhibit.vehicle_id)
        )
    if done.is_new:
        step(f"{exhibit.vehicle_id} is certified for the key it rotated to last")
        click.echo("  Its record has changed: copy it to the bridges.")
    else:
        step(f"{exhibit.vehicle_id} was certified for that key already")


@click.command(epilog=examples("freefloat certs crl fleet"))
@fleet_argument
def crl(directory: Path) -> None:
    """Publish the vehicles' revocation list anew, whole or not at all.

    `freefloat certs serve` does it by itself when the list is half over.
    """
    fleet = FleetDirectory.open(directory)
    now = read_clock()
    with fleet.issuing(), closing(fleet.books()) as books:
        until = publish_list(fleet, books, fleet.issuing_authority(), now=now)
    step(f"{FleetPart.REVOCATION_LIST} is published, good until {until:%Y-%m-%d %H:%M}")
