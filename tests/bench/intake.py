"""Bridge work for a frame, as a multiple of one bare verification by libsodium.

The short form of `make bench-fleet`: more frames than the bridge takes at once, so that
its batches are as large as under load, and CPU time, which a busy machine distorts less
than waiting. Telemetry alone gives the ratio that issue 5 bounds; the other run mixes
in ledger entries, which cost more and get receipts.
"""

import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from bridge.broker.errors import BrokerSetupError
from bridge.broker.program import BrokerKind, find_broker
from tests.bench.figure import Figure
from tests.bench.fleet.campaign import Plan, figures_of, run_campaign
from tests.bench.fleet.program import missing_program

TELEMETRY: Final = Plan(cars=500, rate=8_000, seconds=5, entry_each=0)
MIXED: Final = Plan(cars=500, rate=1_000, seconds=10, entry_each=20)
"""Slow enough for latencies on a machine that does other things besides, and with many
times the entries of a fleet in a city (`campaign.ENTRY_EACH`), for what they cost."""


async def measure() -> AsyncIterator[Figure]:
    """Yield the figures of this file."""
    try:
        find_broker(BrokerKind.MOSQUITTO, binary=None)
    except BrokerSetupError:
        print("  mosquitto is not installed: left out")
        return
    if missing := missing_program():
        print(f"  {missing}: left out")
        return
    with tempfile.TemporaryDirectory() as directory:
        fleet = Path(directory) / "fleet"
        for name, plan in (("telemetry", TELEMETRY), ("mixed", MIXED)):
            outcome = await run_campaign(
                plan, Path(directory) / name, fleet_path=fleet, tell=lambda _step: None
            )
            for figure in figures_of(outcome):
                yield replace(figure, name=f"{name}, {figure.name}")
