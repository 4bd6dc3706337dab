"""`freefloat bridge approvals`: orders that need a second person."""

from pathlib import Path
from typing import Any

import click

from tools.bridge_api import BridgeApi
from tools.console import examples, facts, print_json, table
from tools.upkeep import of_bridge

STATES = ("pending", "approved", "rejected", "expired")


@click.group(
    epilog=examples(
        "freefloat bridge approvals list",
        "freefloat bridge approvals approve 3f0c... --note 'spoke with Anna'",
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


def _decision(name: str, text: str) -> click.Command:
    @click.command(
        name=name, help=text, epilog=examples(f"freefloat bridge approvals {name} 3f0c")
    )
    @click.argument("approval")
    @click.option("--note", default="", help="Why; up to 200 characters.")
    @of_bridge
    def decide(
        api: str, api_key_file: Path | None, *, approval: str, note: str, as_json: bool
    ) -> None:
        bridge = BridgeApi.at(api, api_key_file)
        found: dict[str, Any] = bridge.post(
            f"/v1/approvals/{approval}/{name}", {"note": note}
        )
        if as_json:
            print_json(found)
            return
        facts({f"approval {found['id']}": found["state"]})
        if not found["is_carried_out"]:
            facts({"commands": "are being given; see 'approvals list --json'"})
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

    return decide


approvals.add_command(_decision("approve", "Let an order go that somebody else gave."))
approvals.add_command(_decision("reject", "Stop an order that somebody else gave."))


def _vehicles(one: dict[str, Any]) -> str:
    names = one["vehicle_ids"]
    return names[0] if len(names) == 1 else f"{len(names)} vehicles"
