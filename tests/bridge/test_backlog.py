"""Fault row 27: a giant backlog, a slow store, a flood of forgeries (L4, I-31)."""

import asyncio
from typing import Any

import pytest

from bridge.intake import BATCH_LIMIT
from protocol.codes import FrameClass
from tests.bridge.car import sample
from tests.bridge.test_commands import UNLOCK
from tests.bridge.world import World

BACKLOG = 6 * BATCH_LIMIT


class SlowStore:
    """Takes its time for each batch, and notes how much was under way."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stored = 0
        self.most_under_way = 0
        self.total = 0
        self._world = world
        self._commit = world.store.commit_batch
        monkeypatch.setattr(world.store, "commit_batch", self._slowly)

    async def _slowly(self, records: Any, **named: Any) -> Any:
        await asyncio.sleep(0.05)
        taken = self.total - self._world.intake.queued - self.stored
        self.most_under_way = max(self.most_under_way, taken)
        committed = await self._commit(records, **named)
        self.stored += len(records)
        return committed


async def test_no_more_is_taken_than_a_slow_store_can_hold(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 27 (backlog), L4."""
    await world.greet()
    frame = world.car.telemetry(sample())
    store = SlowStore(world, monkeypatch)
    store.total = BACKLOG

    await world.say(FrameClass.TELEM, *[frame] * BACKLOG)

    assert store.stored == BACKLOG
    # One batch in each stage, and one that waits to be verified.
    assert store.most_under_way <= 4 * BATCH_LIMIT


async def test_a_command_keeps_its_lane_beside_a_backlog(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 27 (commands keep their lane)."""
    await world.greet()
    frame = world.car.telemetry(sample())
    store = SlowStore(world, monkeypatch)
    backlog = [world.deliver(FrameClass.TELEM, frame) for _ in range(BACKLOG)]

    await world.order(UNLOCK)
    await world.broker.next_sent(FrameClass.CMD)

    assert store.stored < BACKLOG // 2
    for message in backlog:
        await message.is_done.wait()


async def test_a_flood_of_forgeries_delays_nobody_for_ever(world: World) -> None:
    other = world.cars[1]
    await world.greet()
    forged = bytearray(world.car.telemetry(sample()))
    forged[-1] ^= 1
    flood = [world.deliver(FrameClass.TELEM, bytes(forged)) for _ in range(BATCH_LIMIT)]

    await world.greet(other)

    for message in flood:
        await message.is_done.wait()
    assert (await world.vehicle(other)).is_online(now=world.now())
