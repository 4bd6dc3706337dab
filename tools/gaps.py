"""`freefloat bridge gaps`: missing ledger entries, and going on without them."""

from pathlib import Path
from typing import Any

import click

from tools.bridge_api import BridgeApi
from tools.console import examples, facts, print_json, table
from tools.errors import OperatorError
from tools.upkeep import of_bridge


@click.group(
    epilog=examples(
        "freefloat bridge gaps list",
        "freefloat bridge gaps accept --all --reason 'store of 03:00 put back'",
    )
)
def gaps() -> None:
    """See missing ledger entries, and go on without those that are lost."""


@gaps.command(name="list", epilog=examples("freefloat bridge gaps list --json"))
@of_bridge
def list_(api: str, api_key_file: Path | None, *, as_json: bool) -> None:
    """List the oldest gap of each ledger that waits."""
    found = BridgeApi.at(api, api_key_file).get("/v1/gaps")
    if as_json:
        print_json(found)
        return
    table(
        ("vehicle", "ledger", "missing", "since", "can be accepted"),
        (
            (
                gap["vehicle_id"],
                gap["ledger_id"],
                f"{gap['first']} to {gap['last']}",
                gap["since"],
                gap["problem"] or "yes",
            )
            for gap in found["gaps"]
        ),
    )


@gaps.command(
    epilog=examples(
        "freefloat bridge gaps accept 2IKZ3ICPO6WDLGQ2QWQYYJ2C4E --reason 'see case 7'",
        "freefloat bridge gaps accept --all --reason 'store of 03:00 put back'",
    )
)
@click.argument("vehicles", nargs=-1)
@click.option("--all", "is_all", is_flag=True, help="Every gap that can be accepted.")
@click.option("--reason", required=True, help="Why; up to 200 characters.")
@of_bridge
def accept(
    api: str,
    api_key_file: Path | None,
    *,
    vehicles: tuple[str, ...],
    is_all: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Ask a second person to let ledgers go on behind entries that are lost.

    Nothing takes it back. Who approves it runs 'freefloat bridge approvals approve'.
    """
    if is_all is bool(vehicles):
        raise click.UsageError("name vehicles, or give --all")
    bridge = BridgeApi.at(api, api_key_file)
    chosen = _chosen(bridge.get("/v1/gaps")["gaps"], vehicles)
    kept = bridge.post("/v1/gaps/accept", {"gaps": chosen, "reason": reason})
    if as_json:
        print_json(kept)
        return
    facts(
        {
            "approval": kept["id"],
            "gaps": str(len(chosen)),
            "until": kept["expires"],
            "next": f"a second person: freefloat bridge approvals approve {kept['id']}",
        }
    )


def _chosen(
    listed: list[dict[str, Any]], vehicles: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Return one gap for each vehicle, in the form that is asked for.

    Raises:
        OperatorError: there is none.
    """
    by_vehicle: dict[str, dict[str, Any]] = {}
    for gap in listed:
        # Named ones are sent as they are: the bridge says why one may not be accepted.
        is_wanted = (
            gap["vehicle_id"] in vehicles if vehicles else gap["can_be_accepted"]
        )
        if is_wanted:
            by_vehicle.setdefault(gap["vehicle_id"], gap)
    missing = set(vehicles) - set(by_vehicle)
    if missing or not by_vehicle:
        raise OperatorError(
            f"no gap of {min(missing)} is open"
            if missing
            else "no gap can be accepted",
            "look with 'freefloat bridge gaps list'",
        )
    wanted = ("vehicle_id", "ledger_id", "first", "last")
    return [{name: gap[name] for name in wanted} for gap in by_vehicle.values()]
