"""A backlog of rows that a consumer left: commands and cars go by it (row 27).

A real mosquitto, a real bridge on its own store, and a file as the consumer.
"""

import asyncio
import contextlib
import itertools
import json
import sqlite3
import sys
import time
import uuid
from pathlib import Path

import aiohttp
import msgspec
import pytest

from bridge.backup import mark
from bridge.bootstrap import open_bridge
from bridge.settings import JsonLinesSettings, Settings, SinkSettings
from bridge.sqlite_database import SqliteDatabase
from certs.fleet import FleetDirectory
from protocol.identity import VehicleId
from tests.bridge.site import Driver, clock
from tests.bridge.test_flood import Street, street, until_receipted
from tests.depth import times

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto, pytest.mark.timeout(1_800)]

__all__ = ["street"]

ROWS = times(60_000, deep=1_000_000)
CARS = 500
ASKED = times(10, deep=200)
MEMORY_MB = 40
"""What a bridge may take on, however long the backlog: it reads 4,096 events ahead."""


def fill(store: Path, rows: int) -> None:
    """Put events into an outbox as cars would have left them."""
    cars = [str(VehicleId(number.to_bytes(16, "big"))) for number in range(CARS)]
    now = round(clock().timestamp() * 1_000)
    made = (
        (str(uuid.UUID(int=n)), cars[n % CARS], "freefloat.rental.parked", body(n), now)
        for n in range(rows)
    )
    with contextlib.closing(sqlite3.connect(store)) as connection:
        for part in iter(lambda: list(itertools.islice(made, 10_000)), []):
            connection.executemany(
                "INSERT INTO outbox (event_id, vehicle_id, type, body, created_ms) "
                "VALUES (?, ?, ?, ?, ?)",
                part,
            )
            connection.commit()


def body(number: int) -> bytes:
    event = {"id": str(uuid.UUID(int=number)), "car": number % CARS, "data": "x" * 300}
    return json.dumps(event).encode()


def keys_of(settings: Settings) -> list[str]:
    return Path(settings.api.keys_file or "").read_text(encoding="ascii").split()


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4_096 / 2**20


async def receipt_s(driver: Driver) -> float:
    begun_s = time.monotonic()
    await driver.tell(1)
    await until_receipted(driver, len(driver.entries))
    return time.monotonic() - begun_s


async def command_s(driver: Driver, client: aiohttp.ClientSession) -> float:
    """Order a ping; return how long it takes to the car."""
    have, begun_s = len(driver.commands), time.monotonic()
    path = f"/v1/vehicles/{driver.car.id}/commands"
    async with client.post(path, json={"kind": "ping"}) as answer:
        assert answer.status == 202
    while len(driver.commands) == have:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.002)
    return time.monotonic() - begun_s


async def test_a_giant_backlog_delays_no_command_and_takes_no_memory(
    street: Street, tmp_path: Path
) -> None:
    """Row 27, I-25, I-26, I-31: a million rows when deep, each told once in order."""
    events, store = tmp_path / "events.jsonl", Path(street.settings.store.path)
    fleet = FleetDirectory.open(Path(street.settings.fleet.directory))
    mark(SqliteDatabase(store), fleet_id=fleet.fleet.fleet_id, now=0)
    await asyncio.to_thread(fill, store, ROWS)
    sink = JsonLinesSettings(name="file", path=str(events))
    settings = msgspec.structs.replace(
        street.settings, sinks=SinkSettings(json_lines=(sink,))
    )
    driver = street.drivers[0]
    driver.answers = True
    keys = await asyncio.to_thread(keys_of, settings)
    before_mb = memory_mb()
    async with (
        open_bridge(settings) as bridge,
        aiohttp.ClientSession(bridge.api_url, headers={"X-Api-Key": keys[0]}) as client,
    ):
        await bridge.wait_connected()
        await driver.greet()
        begun_s = time.monotonic()
        commands, receipts = [], []
        for _ in range(ASKED):
            commands.append(await command_s(driver, client))
            receipts.append(await receipt_s(driver))
        meanwhile = await taken(store)
        most_mb = memory_mb()
        while (found := await taken(store)) < ROWS:
            most_mb = max(most_mb, memory_mb())
            await asyncio.sleep(0.2)
        took_s = time.monotonic() - begun_s
    sys.stdout.write(
        f"{ROWS} rows told in {took_s:.1f} s; when {meanwhile} were: commands at the "
        f"car within {max(commands) * 1_000:.0f} ms, receipts within "
        f"{max(receipts) * 1_000:.0f} ms; {most_mb - before_mb:.0f} MB more\n"
    )
    assert meanwhile < ROWS, "the backlog was gone before anything was measured"
    # For a busy machine; the figures above say more.
    assert max(commands) < 3
    assert max(receipts) < 3
    assert most_mb - before_mb < MEMORY_MB
    assert found >= ROWS
    await asyncio.to_thread(require_once_in_order, events)


async def taken(store: Path) -> int:
    """Return up to where the consumer took everything."""

    def cursor() -> int:
        with contextlib.closing(sqlite3.connect(store)) as connection:
            query = "SELECT position FROM cursors WHERE sink = 'file'"
            found: tuple[int] = connection.execute(query).fetchone() or (0,)
            return found[0]

    return await asyncio.to_thread(cursor)


def require_once_in_order(events: Path) -> None:
    last = dict.fromkeys(range(CARS), -1)
    told = 0
    for line in events.read_bytes().splitlines():
        event = json.loads(line)
        if "car" not in event:
            continue
        number = uuid.UUID(event["id"]).int
        assert number > last[event["car"]], "a car's events in their order, each once"
        last[event["car"]] = number
        told += 1
    assert told == ROWS
