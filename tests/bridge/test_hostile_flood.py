"""A car that sends entries as fast as its broker takes them, forged or signed (row 27).

A process of its own on a real mosquitto, whose TLS certificate is good.
"""

import asyncio
import statistics
import sys
import time
from pathlib import Path
from typing import Final

import aiohttp
import msgspec
import pytest

from bridge.admission import OWN_LIMIT, SPARE
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

ROGUES: Final = 10
"""Two fill the room for what waits (`WAITING_LIMIT`); these are many more."""

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
            *(broker.host, str(broker.port), str(SENT), kind),
            str(fleet.vehicle_directory(rogue.car.id)),
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


@pytest.mark.parametrize("street", [1 + ROGUES], indirect=True)
async def test_ten_cars_that_flood_with_what_they_signed_delay_nobody(
    street: Street,
) -> None:
    """K23, I-31 (F), I-22: each is held to its own rate, however many they are.

    What is thrown away of them has no receipt, so they would send it again: that is
    the loss of a flood and no loss of an entry.
    """
    honest, *rogues = street.drivers
    fleet = FleetDirectory.open(Path(street.settings.fleet.directory))
    for rogue in rogues:
        await rogue.link.__aexit__(None, None, None)
    settings, broker = street.settings, street.settings.broker
    async with asyncio.timeout(240), open_bridge(settings) as bridge:
        await bridge.wait_connected()
        await honest.greet()
        alone = [await receipt_s(honest) for _ in range(40)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bridge.rogue"),
            *(broker.host, str(broker.port), str(SENT // 4), "signed"),
            *(str(fleet.vehicle_directory(rogue.car.id)) for rogue in rogues),
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        begun_s, beside, seen, checked = 0.0, [], 0.0, 0.0
        while process.returncode is None or seen < ROGUES * (SENT // 4):
            took_s = await receipt_s(honest)
            _, samples = await scraped(bridge)
            checked = samples[CHECKED["signed"]] - len(honest.numbers)
            seen = checked + samples[at(DROPPED)]
            if seen:
                begun_s = begun_s or time.monotonic()
                beside.append(took_s)
        flood_s = time.monotonic() - begun_s
        said, _ = await process.communicate()

    sys.stdout.write(
        f"{said.decode().strip()}; {checked:.0f} checked in {flood_s:.1f} s; receipts "
        f"within {max(alone) * 1_000:.0f} ms alone, beside them within "
        f"{max(beside) * 1_000:.0f} ms, half of {len(beside)} within "
        f"{statistics.median(beside) * 1_000:.0f} ms\n"
    )
    rates = IntakeSettings()
    per_s = rates.entries_per_s + SPARE.per_s
    each = rates.entries_burst + SPARE.burst + OWN_LIMIT + per_s * flood_s
    assert checked <= ROGUES * each
    assert honest.receipted == len(honest.entries)
    assert max(beside) < PATIENCE_S / 2
