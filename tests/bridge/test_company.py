"""Frames and events wait a moment for company when there are many (ADR 18, issue 5)."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from bridge import intake, relay
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.event import AgentStarted
from tests.bridge.car import sample
from tests.bridge.test_sinks import MemorySink
from tests.bridge.world import World

EACH_S = 0.005
COUNT = 40


class Calls:
    """Counts the calls of one method of a store."""

    def __init__(self, world: World, name: str, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self._method = getattr(world.store, name)
        patch.setattr(world.store, name, self._counted)

    async def _counted(self, *given: Any, **named: Any) -> Any:
        self.count += 1
        return await self._method(*given, **named)


async def test_frames_that_follow_one_another_share_a_transaction(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "COMPANY_S", 0.25)
    await world.greet()
    commits = Calls(world, "commit_batch", monkeypatch)
    frame = world.car.telemetry(sample())

    messages = [world.deliver(FrameClass.TELEM, frame) for _ in range(8)]
    for _ in range(COUNT):
        await asyncio.sleep(EACH_S)
        messages.append(world.deliver(FrameClass.TELEM, frame))
    for message in messages:
        await message.is_done.wait()

    # As many as it took quarters of a second, and the first.
    assert commits.count <= COUNT / 4


async def test_a_full_batch_waits_for_nobody(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "COMPANY_S", 60.0)
    await world.greet()
    frame = world.car.telemetry(sample())

    messages = [
        world.deliver(FrameClass.TELEM, frame) for _ in range(3 * intake.BATCH_LIMIT)
    ]

    async with asyncio.timeout(20):
        await messages[-1].is_done.wait()


async def test_a_lone_frame_does_not_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "COMPANY_S", 60.0)
    await world.greet()

    async with asyncio.timeout(20):
        for _ in range(3):
            await world.say(FrameClass.TELEM, world.car.telemetry(sample()))


async def test_a_sinks_cursor_is_not_written_for_every_event(
    fleet: FleetDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # I-26: what was taken and is not written yet comes again after a crash.
    monkeypatch.setattr(relay, "ROUND_S", 0.5)
    sink = MemorySink()
    async with World(fleet, tmp_path / "bridge.sqlite", (sink,)) as world:
        await world.greet()
        cursors = Calls(world, "set_cursor", monkeypatch)

        for number in range(COUNT):
            event = world.car.event(AgentStarted(number + 1, bytes(4)))
            await world.say(FrameClass.EVENT, event)
        await sink.wait_taken(COUNT)

        assert cursors.count <= COUNT / 4
