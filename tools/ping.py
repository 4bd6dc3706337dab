"""``freefloat ping``: is a car there, and where on the way does the time go?

A signed command to the car and back. The bridge says when it was asked, signed,
published and when the signed result was stored; the car says, signed too, how long its
disk, its board and its reader took (FF-DIA). The two clocks are never subtracted from
each other: the car's times count from when its agent had the command.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from tools.api_options import api_options
from tools.bridge_api import BridgeApi
from tools.console import examples, heading, json_option, print_json, table, warning
from tools.diagnosis import await_diagnosis
from tools.errors import EXIT_FAILED, OperatorError
from tools.ordering import EXIT_UNKNOWN

_CAR_HOPS: Final = {
    "committed": "car: durable on its disk",
    "board": "car: board answered",
    "reader": "car: reader answered",
    "signed": "car: its own times signed",
}
_BRIDGE_HOPS: Final = {
    "requested": "bridge: API accepted",
    "signed": "bridge: signed",
    "published": "bridge: published to the broker",
    "received": "bridge: car has it",
    "accepted": "bridge: car accepted it",
    "succeeded": "bridge: signed result stored",
}

_IF_SLOW: Final = frozenset({"bridge.received", "bridge.accepted"})
"""Hops that a car passes by when it has its result at once: none is missing then."""


@dataclass(frozen=True, slots=True)
class Pong:
    """What came of one ping."""

    state: str
    """Of the command, as the API names it."""
    bridge_ms: Mapping[str, int]
    """Since the API accepted it: by hop."""
    car_ms: Mapping[str, int | None]
    """Since the agent had it: by hop; None for one that did not answer."""
    stored_ms: int | None
    """Since the API accepted it: when the car's times were stored; None if never."""

    @property
    def missing(self) -> list[str]:
        """The hops that did not answer."""
        if self.state != "succeeded":
            return ["car"]
        if self.stored_ms is None:
            return ["the car's own times"]
        return [name for name, ms in self.car_ms.items() if ms is None]

    def document(self) -> dict[str, object]:
        """Return it for a program."""
        return {
            "state": self.state,
            "missing": self.missing,
            "bridge_ms": dict(self.bridge_ms),
            "car_ms": dict(self.car_ms),
            "stored_ms": self.stored_ms,
        }


@click.command(
    epilog=examples(
        "freefloat ping AB3X",
        "freefloat ping AB3X --count 20            # with p50 and p99",
        "freefloat ping AB3X --json | jq '.pongs[0].car_ms.board'",
    )
)
@api_options
@click.option(
    "--count",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="How often, one after the other.",
)
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0.1, 30),
    default=15.0,
    show_default=True,
    help="Seconds to wait for each signed outcome.",
)
@json_option
@click.argument("vehicle")
def ping(
    api: str,
    api_key_file: Path | None,
    count: int,
    wait_s: float,
    as_json: bool,
    vehicle: str,
) -> int:
    """Ask a car for a signed sign of life, with the time of each hop.

    VEHICLE is a vehicle id, or as much of its beginning as is unique. Ends with 0 when
    every hop answered, 1 when one is missing, 3 when the car did not answer.
    """
    bridge = BridgeApi.at(api, api_key_file)
    found = bridge.find(vehicle)
    if not found["online"]:
        raise OperatorError(
            f"vehicle {found['id']} is offline, last heard of: "
            f"{found['last_seen'] or 'never'}",
            "it answers when it has a link; see 'freefloat send show'",
        )
    pongs = [_ping(bridge, found["id"], wait_s) for _ in range(count)]
    if as_json:
        print_json(
            {
                "vehicle": found["id"],
                "pongs": [pong.document() for pong in pongs],
                "summary": _summary(pongs),
            }
        )
    else:
        _show(found["id"], pongs)
    if any(pong.state != "succeeded" for pong in pongs):
        return EXIT_UNKNOWN
    return EXIT_FAILED if any(pong.missing for pong in pongs) else 0


def _ping(bridge: BridgeApi, vehicle: str, wait_s: float) -> Pong:
    outcome = bridge.post_command(vehicle, {"kind": "ping"}, wait_s=wait_s)
    asked = _instant(outcome["requested"])
    bridge_ms = {
        hop["state"]: _ms_between(asked, hop["at"]) for hop in outcome["trail"]
    }
    if outcome["state"] != "succeeded":
        return Pong(outcome["state"], bridge_ms, {}, None)
    told = await_diagnosis(bridge, outcome["id"])
    stored_ms = _ms_between(asked, told["stored"]) if told["is_complete"] else None
    return Pong(outcome["state"], bridge_ms, _car_times(told["lines"]), stored_ms)


def _car_times(lines: Sequence[str]) -> dict[str, int | None]:
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return {
        hop: int(values[f"{hop}_ms"]) if values[f"{hop}_ms"].isdigit() else None
        for hop in _CAR_HOPS
        if f"{hop}_ms" in values
    }


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _ms_between(first: datetime, later: str) -> int:
    return round((_instant(later) - first).total_seconds() * 1_000)


# -- shown ----------------------------------------------------------------------------


def _summary(pongs: Sequence[Pong]) -> dict[str, dict[str, int]]:
    """Return p50, p99 and the greatest of each hop that answered."""
    found: dict[str, list[int]] = {}
    for pong in pongs:
        for hop, ms in pong.bridge_ms.items():
            found.setdefault(f"bridge.{hop}", []).append(ms)
        for hop, at_ms in pong.car_ms.items():
            if at_ms is not None:
                found.setdefault(f"car.{hop}", []).append(at_ms)
    return {
        hop: {
            "count": len(times),
            "p50_ms": percentile(times, 50),
            "p99_ms": percentile(times, 99),
            "most_ms": max(times),
        }
        for hop, times in found.items()
    }


def percentile(times: Sequence[int], percent: int) -> int:
    """Return the smallest time that so many percent of all do not exceed."""
    ordered = sorted(times)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def _show(vehicle: str, pongs: Sequence[Pong]) -> None:
    summary = _summary(pongs)
    heading(f"ping {vehicle}: {pongs[-1].state}")
    names = {f"bridge.{hop}": words for hop, words in _BRIDGE_HOPS.items()} | {
        f"car.{hop}": words for hop, words in _CAR_HOPS.items()
    }
    rows = [
        (words, *_cells(summary.get(hop)))
        for hop, words in names.items()
        if hop in summary or hop not in _IF_SLOW
    ]
    table(("hop", "answers", "p50", "p99", "most"), rows)
    for number, pong in enumerate(pongs, start=1):
        if pong.missing:
            warning(f"ping {number}: no answer from {', '.join(pong.missing)}")


def _cells(found: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    if found is None:
        return "0", "-", "-", "-"
    p50, p99, most = (f"{found[name]} ms" for name in ("p50_ms", "p99_ms", "most_ms"))
    return str(found["count"]), p50, p99, most
