"""`freefloat bridge sinks` and `replay`: how far consumers are, and beginning again."""

from pathlib import Path
from typing import Any

import click

from tools.bridge_api import BridgeApi
from tools.console import examples, facts, print_json, table
from tools.upkeep import of_bridge


@click.command(
    epilog=examples("freefloat bridge sinks", "freefloat bridge sinks --json")
)
@of_bridge
def sinks(api: str, api_key_file: Path | None, *, as_json: bool) -> None:
    """Show how far every consumer is, and why one takes nothing."""
    found = BridgeApi.at(api, api_key_file).get("/v1/sinks")["sinks"]
    if as_json:
        print_json(found)
        return
    table(
        ("sink", "waiting", "oldest waits", "given up", "breaker", "last error"),
        (
            (
                sink["name"],
                str(sink["waiting"]),
                f"{sink['waiting_s']:.0f} s" if sink["waiting"] else "-",
                str(sink["given_up"]),
                sink["breaker"],
                sink["last_error"] or "-",
            )
            for sink in found
        ),
    )


@click.command(
    epilog=examples(
        "freefloat bridge replay billing --since 2026-11-25T06:00:00Z",
        "freefloat bridge replay billing --position 0   # everything that is kept",
    )
)
@click.argument("sink")
@click.option("--position", type=click.IntRange(0), help="Events behind it.")
@click.option("--since", metavar="TIME", help="Events stored from then on (RFC 3339).")
@of_bridge
def replay(
    api: str,
    api_key_file: Path | None,
    *,
    sink: str,
    position: int | None,
    since: str | None,
    as_json: bool,
) -> None:
    """Let a consumer have events again; it drops by id what it has."""
    if (position is None) is (since is None):
        raise click.UsageError("give --position or --since, and not both")
    body: dict[str, object] = (
        {"since": since} if position is None else {"position": position}
    )
    bridge = BridgeApi.at(api, api_key_file)
    found: dict[str, Any] = bridge.post(f"/v1/sinks/{sink}/replay", body)
    if as_json:
        print_json(found)
        return
    facts(
        {
            f"sink {found['name']}": f"begins again behind {found['position']}",
            "events to come": str(found["waiting"]),
            "oldest kept": str(found["oldest"]),
        }
    )
