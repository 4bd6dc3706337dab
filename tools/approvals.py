"""`freefloat bridge approvals`: orders and configurations for a second person."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import fields
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, assert_never

import click

from bridge.approvals import ACCEPT_GAP, CONFIGURE
from bridge.consent import (
    ConfigurationStatement,
    ConsentError,
    Stated,
    Statement,
    consent_to,
    parse_statement,
)
from bridge.orders import KINDS
from keystore.errors import KeystoreError
from keystore.signer import open_signing_key
from protocol.codes import Opcode
from protocol.command import ANY_VERSION
from protocol.identity import VehicleId
from protocol.snapshot import NO_RENTAL
from tools.approved_order import (
    WAIT_S,
    await_endings,
    counts_of,
    exit_code_of,
    show_endings,
)
from tools.bridge_api import BridgeApi
from tools.clock import wall_s
from tools.console import examples, facts, print_json, table
from tools.errors import EXIT_FAILED, OperatorError
from tools.ordering import EXIT_UNKNOWN
from tools.upkeep import of_bridge

SIGN_VARIABLE: Final = "FREEFLOAT_APPROVER_KEY"

Deed = Callable[..., None]

STATES = ("pending", "approved", "rejected", "expired")


@click.group(
    epilog=examples(
        "freefloat bridge approvals list",
        "freefloat bridge approvals approve 3f0c... --note 'spoke with Anna'",
        "freefloat bridge approvals approve 3f0c... --sign-with ~/approver.key",
        "freefloat bridge approvals show 3f0c...      # how it ended in each car",
        "freefloat bridge approvals reject 3f0c...",
    )
)
def approvals() -> None:
    """See and decide about orders that need a second person."""


@approvals.command(
    name="list",
    epilog=examples("freefloat bridge approvals list --state pending --json"),
)
@click.option("--state", type=click.Choice(STATES), help="Only these.")
@click.option(
    "--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="Lines."
)
@of_bridge
def list_(
    api: str, api_key_file: Path | None, *, state: str | None, limit: int, as_json: bool
) -> None:
    """List them, the newest first."""
    only = f"&state={state}" if state else ""
    bridge = BridgeApi.at(api, api_key_file)
    found = bridge.get(f"/v1/approvals?limit={limit}{only}")["approvals"]
    if as_json:
        print_json(found)
        return
    table(
        ("id", "state", "order", "vehicles", "asked by", "until", "decided by"),
        (
            (
                one["id"],
                one["state"],
                one["order"]["kind"],
                _vehicles(one),
                one["asked_by"],
                one["expires"],
                one["decided_by"] or "-",
            )
            for one in found
        ),
    )


def _waiting(command: Deed) -> Deed:
    """Add --wait and --no-wait."""
    wait = click.option(
        "--wait",
        "wait_s",
        type=click.FloatRange(0, 600),
        default=WAIT_S,
        show_default=True,
        help="Seconds to wait for how it ends in the cars; less if it ended in all.",
    )
    no_wait = click.option(
        "--no-wait",
        is_flag=True,
        help="Do not wait: say what is given, and end with 0.",
    )
    return wait(no_wait(command))


@approvals.command(
    epilog=examples(
        "freefloat bridge approvals approve 3f0c...",
        "freefloat bridge approvals approve 3f0c... --no-wait",
        "freefloat bridge approvals approve 3f0c... --sign-with ~/approver.key",
        "freefloat bridge approvals approve 3f0c... --sign-with ~/approver.key "
        "--document area.json",
    )
)
@click.argument("approval")
@click.option("--note", default="", help="Why; up to 200 characters.")
@click.option(
    "--document",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The configuration as you know it: nothing else is signed.",
)
@click.option(
    "--sign-with",
    envvar=SIGN_VARIABLE,
    show_envvar=True,
    metavar="KEY",
    help="Your own signing key, a file or a pkcs11: URI; shows what you sign first.",
)
@click.option("--yes", is_flag=True, help="Sign without asking.")
@_waiting
@of_bridge
@click.pass_context
def approve(
    ctx: click.Context,
    api: str,
    api_key_file: Path | None,
    *,
    approval: str,
    note: str,
    document: Path | None,
    sign_with: str | None,
    yes: bool,
    wait_s: float,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Let an order or a configuration go that somebody else gave.

    Says how an order ended in the cars, and ends with 0 when every car signed that it
    did it, 1 when one refused, failed or was not given it, 3 when there is no signed
    outcome of one yet.
    """
    bridge = BridgeApi.at(api, api_key_file)
    body: dict[str, object] = {"note": note}
    if document is not None and sign_with is None:
        raise OperatorError(
            "there is nothing to compare where nothing is signed",
            "give --document together with --sign-with",
        )
    if sign_with is not None:
        found = bridge.get(f"/v1/approvals/{approval}")
        # No signer is asked for these, so there is nothing to sign.
        if found["order"]["kind"] != ACCEPT_GAP:
            body["signature"] = _signature(
                found, sign_with, known=document, is_asked=not yes
            )
    decided = bridge.post(f"/v1/approvals/{approval}/approve", body)
    _follow(ctx, bridge, decided, None if no_wait else wait_s, as_json=as_json)


@approvals.command(
    epilog=examples(
        "freefloat bridge approvals show 3f0c...",
        "freefloat bridge approvals show 3f0c... --no-wait --json",
    )
)
@click.argument("approval")
@_waiting
@of_bridge
@click.pass_context
def show(
    ctx: click.Context,
    api: str,
    api_key_file: Path | None,
    *,
    approval: str,
    wait_s: float,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Show how far an order is, and how it ended in the cars.

    Ends as 'approve' does; with 3 while nobody has decided, and with 1 if it was
    rejected or is over.
    """
    bridge = BridgeApi.at(api, api_key_file)
    found = bridge.get(f"/v1/approvals/{approval}")
    _follow(ctx, bridge, found, None if no_wait else wait_s, as_json=as_json)


@approvals.command(epilog=examples("freefloat bridge approvals reject 3f0c..."))
@click.argument("approval")
@click.option("--note", default="", help="Why; up to 200 characters.")
@of_bridge
def reject(
    api: str, api_key_file: Path | None, *, approval: str, note: str, as_json: bool
) -> None:
    """Stop an order that somebody else gave."""
    bridge = BridgeApi.at(api, api_key_file)
    found = bridge.post(f"/v1/approvals/{approval}/reject", {"note": note})
    _show(found, as_json=as_json)


def _signature(
    document: dict[str, Any], reference: str, *, known: Path | None, is_asked: bool
) -> dict[str, object]:
    """Sign what the bridge shows, after the person saw what the bytes say.

    Raises:
        OperatorError: the key cannot be used, what the bridge gave is no statement,
            another one's or of another document than the person knows.
    """
    try:
        statement = base64.b64decode(document["statement"], validate=True)
        stated = parse_statement(statement)
        told = _told(stated)
    except (ConsentError, ValueError, KeyError) as error:
        raise OperatorError(
            f"the bridge gave nothing that can be signed: {error}",
            "sign nothing, and look at the bridge",
        ) from None
    if stated.approval_id.hex() != document["id"]:
        raise OperatorError(
            "the bridge gave another approval to sign than it names",
            "sign nothing, and look at the bridge",
        )
    if known is not None:
        _require_document(stated, known)
    for name, value in told.items():
        click.echo(f"{name}: {value}", err=True)
    if is_asked:
        click.confirm("Do you sign this?", err=True, abort=True)
    try:
        key = open_signing_key(reference)
        consent = consent_to(statement, key, now=round(wall_s() * 1000))
    except KeystoreError as error:
        raise OperatorError(str(error), error.advice) from error
    return {
        "decided_ms": consent.decided_ms,
        "key_id": consent.key_id.hex(),
        "signature": consent.signature.hex(),
    }


def _require_document(stated: Stated, path: Path) -> None:
    try:
        body = path.read_bytes()
    except OSError as error:
        raise OperatorError(
            f"{path} cannot be read: {error.strerror}", "check the path"
        ) from error
    digest = hashlib.sha256(body).digest()
    if not isinstance(stated, ConfigurationStatement) or stated.sha256 != digest:
        raise OperatorError(
            f"what you are asked to sign is not {path}, whose SHA-256 is "
            f"{digest.hex()}",
            "sign nothing, and ask who wants it what it is",
        )


def _told(stated: Stated) -> dict[str, str]:
    """Say in words what the bytes say, whatever the bridge said of them."""
    match stated:
        case ConfigurationStatement():
            what = {
                "you sign": f"configuration {stated.config_kind().name.lower()}",
                "sha256": stated.sha256.hex(),
                "length": f"{stated.length} bytes",
            }
        case Statement():
            command = stated.command()
            values = {one.name: getattr(command, one.name) for one in fields(command)}
            if values.get("expected_version") == ANY_VERSION:
                values["expected_version"] = "any"
            what = {
                "you sign": KINDS[Opcode(stated.opcode)],
                **{name: _word(value) for name, value in values.items()},
            }
        case _:
            assert_never(stated)
    told = {
        **what,
        "asked by": stated.asked_by,
        "may wait": f"{stated.defer_s} s for a vehicle that is offline",
        "vehicles": str(len(stated.vehicle_ids)),
    }
    for number, raw in enumerate(stated.vehicle_ids, 1):
        told[f"vehicle {number}"] = str(VehicleId(raw))
    return told


def _word(value: object) -> str:
    if isinstance(value, IntEnum):
        return value.name.lower()
    if value == NO_RENTAL:
        return "none"
    return value.hex() if isinstance(value, bytes) else str(value)


def _follow(
    ctx: click.Context,
    bridge: BridgeApi,
    found: dict[str, Any],
    wait_s: float | None,
    *,
    as_json: bool,
) -> None:
    """Show an approval and, once it is approved, how its order ended; end accordingly.

    Args:
        ctx: of the command.
        bridge: which carries it out.
        found: the approval's document.
        wait_s: how long to wait for signed ends; None for not at all.
        as_json: show the document, with ``results`` and ``summary``.
    """
    is_order = found["order"]["kind"] not in {ACCEPT_GAP, CONFIGURE}
    if wait_s is None or not is_order or found["state"] != "approved":
        _show(found, as_json=as_json)
        if wait_s is not None:
            ctx.exit(_code_of(found))
        return
    if not as_json:
        # Before the wait, so that Ctrl-C leaves no doubt whether it was approved.
        facts({f"approval {found['id']}": found["state"]})
    endings = await_endings(bridge, found, wait_s=wait_s)
    if as_json:
        results = [ending.document() for ending in endings]
        print_json(found | {"results": results, "summary": counts_of(endings)})
    else:
        show_endings(endings)
    ctx.exit(exit_code_of(endings))


def _code_of(found: dict[str, Any]) -> int:
    """Return the exit code of what is decided and no order, or not decided."""
    if found["state"] == "pending" or not found["is_carried_out"]:
        return EXIT_UNKNOWN
    problems = [one["problem"] for one in found["outcomes"] if one["problem"]]
    return EXIT_FAILED if problems or found["state"] != "approved" else 0


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    facts({f"approval {found['id']}": found["state"]})
    if not found["is_carried_out"] and found["state"] == "approved":
        look = f"freefloat bridge approvals show {found['id']}"
        facts({"commands": f"are being given; see '{look}'"})
    if found["outcomes"]:
        table(
            ("vehicle", "command", "problem"),
            (
                (
                    outcome["vehicle_id"],
                    outcome["command_id"] or "-",
                    outcome["problem"] or "-",
                )
                for outcome in found["outcomes"]
            ),
        )


def _vehicles(one: dict[str, Any]) -> str:
    names = one["vehicle_ids"]
    return names[0] if len(names) == 1 else f"{len(names)} vehicles"
