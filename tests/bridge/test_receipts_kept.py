"""What the fleet has confirmed it can show for longer than anybody asks."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.event import EngineStarted
from protocol.frame import parse_frame
from tests.bridge.car import RENTAL, receipt_of
from tests.bridge.test_evidence import drive, proof_of, verified
from tests.bridge.world import World

DAYS = 120
DAY_S = 86_400
OTHER = bytes(16)


def _kept(path: Path) -> dict[int, bytes]:
    """Return what lies in the file: the frame of each position."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        return dict(connection.execute("select upto, data from receipts"))


async def test_every_receipt_is_there_after_120_days_of_work_and_restarts(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FF-RCP-15, K13: 90 days at least; nothing removes one, and no later one does."""
    # A day is an instant here, and each day's receipt is to go by itself.
    monkeypatch.setattr("bridge.receipt_pace.APART_S", 0.0)
    path = tmp_path / "bridge.sqlite"
    sent: dict[int, bytes] = {}
    async with World(fleet, path) as world:
        await world.say(FrameClass.HELLO, world.car.hello())
        await drive(world)
        await _remember(world, sent)
        first = verified(fleet, await proof_of(world))
        car = world.car
    begin_ms = world.now_ms

    for month in range(4):
        async with World(fleet, path) as world:
            world.cars[0] = world.car = car
            car.boot_ms = world.boot_ms
            world.now_ms = begin_ms + month * DAYS // 4 * DAY_S * 1000
            await world.say(FrameClass.HELLO, car.hello())
            for _ in range(DAYS // 4):
                world.advance(DAY_S)
                await world.say(FrameClass.EVENT, car.event(EngineStarted(OTHER, None)))
                await world.dispatcher.sweep()
            await _remember(world, sent)
    last = world.now_ms

    assert last - begin_ms >= 90 * DAY_S * 1000
    assert len(sent) > DAYS
    kept = _kept(path)
    assert set(kept) == set(sent)
    assert parse_frame(kept[first.receipt.upto]).header.wall_ms == first.confirmed_ms
    async with World(fleet, path) as world:
        again = await world.store.rental_proof(RENTAL)
        assert verified(fleet, again) == first


async def _remember(world: World, sent: dict[int, bytes]) -> None:
    """Wait for the receipt of the car's newest entry, and keep all that were sent."""
    while world.car.seq not in sent:
        await asyncio.sleep(0.01)
        for data in world.broker.sent_of(FrameClass.RECEIPT):
            receipt = receipt_of(data)
            if receipt.upto:
                sent[receipt.upto] = data
    await world.intake.flush()
