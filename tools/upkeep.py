"""What an operator asks of a running bridge beside orders to cars.

`freefloat bridge letters` and the like: each is one request to the bridge's API.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tools.api_options import api_options
from tools.bridge_api import BridgeApi
from tools.console import examples, facts, json_option, print_json, table
from tools.errors import EXIT_FAILED

Deed = Callable[..., None]


def of_bridge(command: Deed) -> Deed:
    """Give a command the options that say which bridge is asked, and ``--json``."""
    return api_options(json_option(command))


@click.command(
    epilog=examples("freefloat bridge letters", "freefloat bridge letters --json")
)
@click.option(
    "--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="Lines."
)
@of_bridge
def letters(api: str, api_key_file: Path | None, *, limit: int, as_json: bool) -> None:
    """List what was received and not believed, the newest first."""
    page = BridgeApi.at(api, api_key_file).get(f"/v1/dead-letters?limit={limit}")
    if as_json:
        print_json(page["letters"])
        return
    table(
        ("id", "kind", "received", "topic", "reason"),
        (
            (
                str(letter["id"]),
                letter["kind"],
                letter["received"],
                letter["topic"],
                letter["reason"],
            )
            for letter in page["letters"]
        ),
    )


@click.command(
    epilog=examples("freefloat bridge trust", "freefloat bridge trust --json")
)
@of_bridge
def trust(api: str, api_key_file: Path | None, *, as_json: bool) -> None:
    """Show the newest trust bundle and the cars that have not got it."""
    found = BridgeApi.at(api, api_key_file).get("/v1/trust")
    if as_json:
        print_json(found)
        return
    facts(
        {
            "bundle": str(found["version"]),
            "expires": found["expires"],
            "revoked keys": ", ".join(found["revoked"]) or "none",
            **{
                _cars_with(version): str(count)
                for version, count in found["vehicles_by_version"].items()
            },
        }
    )
    table(
        ("behind", "bundle"),
        (
            (laggard["vehicle_id"], _bundle(laggard["version"]))
            for laggard in found["laggards"]
        ),
    )


@click.command(
    epilog=examples("freefloat bridge erase 000102030405060708090a0b0c0d0e0f")
)
@click.argument("rental")
@of_bridge
def erase(api: str, api_key_file: Path | None, *, rental: str, as_json: bool) -> None:
    """Erase where a rental began, parked and ended; nothing takes it back.

    The rental, its minutes and its evidence stay, and still verify.
    """
    found = BridgeApi.at(api, api_key_file).post(f"/v1/rentals/{rental}/erase")
    if as_json:
        print_json(found)
        return
    facts({f"rental {found['id']}": f"{found['erased']} places erased"})


@click.command(epilog=examples("freefloat bridge judge 17"))
@click.argument("letter", type=click.IntRange(1))
@of_bridge
@click.pass_context
def judge(
    ctx: click.Context,
    api: str,
    api_key_file: Path | None,
    *,
    letter: int,
    as_json: bool,
) -> None:
    """Judge a dead letter anew: the same rules, today's registry and program.

    Ends with 1 if it is kept as a letter.
    """
    bridge = BridgeApi.at(api, api_key_file)
    found: dict[str, Any] = bridge.post(f"/v1/dead-letters/{letter}/judge")
    if as_json:
        print_json(found)
    else:
        facts({f"letter {letter}": found["outcome"]})
    if found["is_kept"]:
        ctx.exit(EXIT_FAILED)


def _cars_with(version: str) -> str:
    return "no hello yet" if version == "0" else f"cars with {version}"


def _bundle(version: int) -> str:
    """Return a car's bundle; it names it in its hello."""
    return str(version) if version else "- (no hello yet)"
