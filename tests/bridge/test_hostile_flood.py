"""A car that sends entries as fast as its broker takes them, forged or signed (row 27).

A process of its own on a real mosquitto, whose TLS certificate is good.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import pytest

from bridge.admission import OWN_LIMIT
from bridge.bootstrap import open_bridge
from bridge.settings import IntakeSettings
from certs.fleet import FleetDirectory
from tests.bridge.scraping import at, scraped
from tests.bridge.test_flood import DROPPED, Street, street
from tests.bridge.test_giant_backlog import (
    MEMORY_MB,
    command_s,
    keys_of,
    memory_mb,
    receipt_s,
)
from tests.depth import times

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto, pytest.mark.timeout(300)]

__all__ = ["street"]

SENT: Final = times(20_000, deep=200_000)

PATIENCE_S: Final = 15.0
"""The longest of all waits, on a machine that rogue, broker, bridge and other tests
share; what is printed says more."""

RATES: Final = IntakeSettings(entries_per_s=100)
"""More than in practice, so that what waits has its turn before the test is long."""

CHECKED: Final = {
    "forged": at("freefloat_frames_rejected_total", code="bad_signature"),
    "signed": at("freefloat_frames_verified_total", frame_class="event"),
}


@pytest.mark.parametrize("kind", CHECKED)
async def test_who_sends_as_fast_as_it_can_costs_few_checks_and_delays_nobody(
    street: Street, kind: str
) -> None:
    """Row 27 (signature flood), K23 (bounded CPU), I-31 (F).

    Beyond its rate and what may wait of it nothing is looked at: what is checked and
    kept is bounded by time, not by what is sent.
    """
    honest, rogue = street.drivers
    honest.answers = True
    fleet = FleetDirectory.open(Path(street.settings.fleet.directory))
    settings = msgspec.structs.replace(street.settings, intake=RATES)
    keys = await asyncio.to_thread(keys_of, settings)
    broker = settings.broker
    # Its place at the broker: one connection for each certificate.
    await rogue.link.__aexit__(None, None, None)
    async with (
        asyncio.timeout(240),
        open_bridge(settings) as bridge,
        aiohttp.ClientSession(bridge.api_url, headers={"X-Api-Key": keys[0]}) as client,
    ):
        await bridge.wait_connected()
        await honest.greet()
        before_mb, begun_s = memory_mb(), time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bridge.rogue"),
            str(fleet.vehicle_directory(rogue.car.id)),
            *(broker.host, str(broker.port), str(SENT), kind),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        commands, receipts, most_mb = [], [], before_mb
        while True:
            commands.append(await command_s(honest, client))
            receipts.append(await receipt_s(honest))
            most_mb = max(most_mb, memory_mb())
            _, samples = await scraped(bridge)
            checked, dropped = samples[CHECKED[kind]], samples[at(DROPPED)]
            if kind == "signed":
                checked -= len(honest.numbers)
            if process.returncode is not None and checked + dropped >= SENT:
                break
        took_s = time.monotonic() - begun_s
        said, _ = await process.communicate()
        letters = len(await bridge.store.dead_letters(limit=SENT))

    sys.stdout.write(
        f"{said.decode().strip()}; {checked:.0f} checked and {dropped:.0f} "
        f"dropped in {took_s:.1f} s; beside it {len(commands)} commands at the car "
        f"within {max(commands) * 1_000:.0f} ms, receipts within "
        f"{max(receipts) * 1_000:.0f} ms; {most_mb - before_mb:.0f} MB more\n"
    )
    assert checked + dropped == SENT, "each is accounted for"
    burst, per_s = RATES.entries_burst, RATES.entries_per_s
    assert checked <= burst + OWN_LIMIT + per_s * took_s
    assert letters <= checked
    assert honest.receipted == len(honest.entries)
    assert max(commands) < PATIENCE_S
    assert max(receipts) < PATIENCE_S
    assert most_mb - before_mb < MEMORY_MB
