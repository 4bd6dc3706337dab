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
from bridge.credit import CREDIT_MOST
from bridge.settings import IntakeSettings
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.scraping import at, scraped
from tests.bridge.site import Driver
from tests.bridge.stream import BODIES
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

LONG: Final = 600
"""Entries of a car that was away for days."""

RESEND_S: Final = 3.0
"""After which a car that got no receipt sends again."""

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


@pytest.mark.parametrize("street", [ROGUES], indirect=True)
async def test_ten_honest_cars_with_long_ledgers_are_held_to_no_less_than_they_need(
    street: Street,
) -> None:
    """K23, I-31, I-22: after a long outage each has its credit under way, and no more.

    What is kept out of the batches for the others' sake comes in its order, and nobody
    is told of a gap.
    """
    begun_s = time.monotonic()
    async with asyncio.timeout(200), open_bridge(street.settings) as bridge:
        await bridge.wait_connected()
        await asyncio.gather(*(driver.greet() for driver in street.drivers))
        again = await asyncio.gather(*map(catch_up, street.drivers))
        took_s = time.monotonic() - begun_s
        _, samples = await scraped(bridge)
        kinds = {row.type for row in await bridge.store.outbox_after(0, 100_000)}

    sys.stdout.write(
        f"{ROGUES} times {LONG} entries in {took_s:.1f} s, {sum(again)} times again; "
        f"{samples[at(DROPPED)]:.0f} dropped\n"
    )
    assert all(driver.receipted == LONG for driver in street.drivers)
    assert took_s < 40, "at a modest rate alone it takes more than a minute"
    assert not {kind for kind in kinds if "gap" in kind}


async def catch_up(driver: Driver) -> int:
    """Tell a long ledger as a car does; return how often it had to begin again."""
    entries = [driver.car.event(BODIES[n % len(BODIES)]) for n in range(LONG)]
    topic = driver.car.topic(FrameClass.EVENT)
    sent = again = had = 0
    moved_s = time.monotonic()
    while driver.receipted < LONG:
        while sent < min(driver.receipted + CREDIT_MOST, LONG):
            await driver.link.publish(topic, entries[sent])
            sent += 1
        await asyncio.sleep(0.01)
        if driver.receipted > had:
            had, moved_s = driver.receipted, time.monotonic()
        elif time.monotonic() - moved_s > RESEND_S:
            sent, again, moved_s = driver.receipted, again + 1, time.monotonic()
    return again
