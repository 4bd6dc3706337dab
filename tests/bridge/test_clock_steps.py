"""A bridge whose wall clock is set signs what cars take, all the same (row 36, I-29).

What decides is the instant of the car's boot clock until which a frame lives: not over
yet, and not further than the cap, or the car refuses it as TTL_TOO_LONG (FF-FRE-20,
FF-SYN-02).
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from bridge.clock import MARGIN_MS
from bridge.commands import ANSWER_GRACE_MS, CommandState
from bridge.configurator import AGAIN_MS
from bridge.steward import CHALLENGE_MS
from certs.fleet import FleetDirectory
from protocol.codes import ConfigKind, FrameClass, SyncType
from protocol.command import ANY_VERSION, Unlock
from protocol.event import AgentStarted
from protocol.sync import SYNC_TTL_LIMIT_MS
from tests.bridge.car import RENTAL, frame_of
from tests.bridge.running import until
from tests.bridge.world import World

UNLOCK: Final = Unlock(RENTAL, ANY_VERSION)

UNLOCK_MS: Final = 10_000
"""How long an unlock may live."""

STEPS_S: Final = (-76.0, -10.0, 10.0, 76.0)


@pytest.fixture
async def world(fleet: FleetDirectory, tmp_path: Path) -> AsyncIterator[World]:
    async with World(fleet, tmp_path / "bridge.sqlite") as made:
        yield made


async def speak(world: World) -> None:
    """Let the car say something every 20 s, for two minutes."""
    for _ in range(6):
        world.advance(20)
        event = world.car.event(AgentStarted(1, bytes(4)))
        await world.say(FrameClass.EVENT, event)


def require_taken(data: bytes, limit_ms: int, *, car_now_ms: int) -> None:
    """The car takes it, and the bridge gave it the life that it gives to all."""
    left_ms = frame_of(data).header.mono_ms - car_now_ms
    assert limit_ms - 2 * MARGIN_MS < left_ms <= limit_ms - MARGIN_MS


@pytest.mark.parametrize("step_s", STEPS_S)
async def test_a_command_lives_as_long_after_a_step_of_the_wall_clock(
    world: World, step_s: float
) -> None:
    """I-29, FF-FRE-28."""
    await world.greet()
    await speak(world)

    world.step(step_s)
    await world.order(UNLOCK)

    sent = await world.broker.next_sent(FrameClass.CMD)
    require_taken(sent, UNLOCK_MS, car_now_ms=world.boot_ms())


@pytest.mark.parametrize("step_s", STEPS_S)
async def test_both_challenges_come_after_a_step(world: World, step_s: float) -> None:
    """I-29: the doubtful session too has a clock that no step moves."""
    old = world.car.hello()
    await world.say(FrameClass.HELLO, old)
    world.car.reboot()
    await world.greet()
    await speak(world)
    await world.say(FrameClass.HELLO, old)
    world.advance(3)

    world.step(step_s)
    await world.steward.sweep()

    header = frame_of(old).header
    clocks = {
        world.car.session: world.boot_ms(),
        # Whoever speaks there would have said so 3 s ago.
        header.session_id: header.mono_ms + 3_000,
    }
    challenges = world.broker.sent_of(FrameClass.SYNC)
    assert len(challenges) == 2
    for data in challenges:
        sent = frame_of(data).header
        assert sent.type == SyncType.CHALLENGE
        car_now_ms = clocks.pop(sent.session_id)
        require_taken(data, SYNC_TTL_LIMIT_MS, car_now_ms=car_now_ms)


@pytest.mark.parametrize("step_s", STEPS_S)
async def test_a_configuration_comes_after_a_step(world: World, step_s: float) -> None:
    """I-29."""
    await world.greet()
    await speak(world)
    now = world.now()
    body = b'{"format":1,"damage":[]}'
    kind = ConfigKind.KNOWN_DAMAGE
    await world.store.put_configuration(world.car.id, kind, body, now=now)

    world.step(step_s)
    world.steward.wanted([world.car.id])
    await world.steward.sweep()
    offer = await world.broker.next_sent(FrameClass.SYNC)
    while frame_of(offer).header.type != SyncType.CONFIG:
        offer = await world.broker.next_sent(FrameClass.SYNC)

    require_taken(offer, SYNC_TTL_LIMIT_MS, car_now_ms=world.boot_ms())


@pytest.mark.parametrize("holder", ["test", "another machine"])
@pytest.mark.parametrize("step_s", STEPS_S)
async def test_a_step_while_the_bridge_is_down_ends_with_the_next_frame_at_the_latest(
    fleet: FleetDirectory, tmp_path: Path, holder: str, step_s: float
) -> None:
    """I-29, row 36: on the same machine at once."""
    path = tmp_path / "bridge.sqlite"
    async with World(fleet, path) as before:
        await before.greet()
        await speak(before)

    async with World(fleet, path, holder=holder) as world:
        world.car.session = before.car.session
        world.now_ms, world.stepped_ms = before.now_ms, before.stepped_ms
        world.advance(5)
        world.step(step_s)
        if holder != "test":
            event = world.car.event(AgentStarted(1, bytes(4)))
            await world.say(FrameClass.EVENT, event)
        await world.order(UNLOCK)

        sent = await world.broker.next_sent(FrameClass.CMD)
        require_taken(sent, UNLOCK_MS, car_now_ms=world.boot_ms())


async def test_what_a_car_tells_after_a_step_is_dated_by_the_right_clock(
    world: World,
) -> None:
    """I-29: what was told before keeps the wrong minute, what comes has none."""
    world.step(-76)
    await world.greet()
    await speak(world)

    world.step(76)
    world.advance(1)
    event = world.car.event(AgentStarted(2, bytes(4)), wall_ms=1)
    world.advance(3)
    await world.say(FrameClass.EVENT, event)

    seen = (await world.vehicle()).utc_of(frame_of(event).header, at=world.instant())
    assert seen is not None
    assert abs(seen - (world.now() - 3_000)) <= MARGIN_MS


async def test_what_got_lost_is_sent_again_though_the_clock_was_set_back(
    world: World,
) -> None:
    """I-29: pauses run on the boot clock; an hour back is no hour of silence."""
    old = world.car.hello()
    await world.say(FrameClass.HELLO, old)
    world.car.reboot()
    await world.greet()
    await world.say(FrameClass.HELLO, old)
    await world.steward.sweep()
    sent = len(world.broker.sent_of(FrameClass.SYNC))

    world.step(-3_600)
    world.advance(CHALLENGE_MS / 1000)
    await world.steward.sweep()

    assert len(world.broker.sent_of(FrameClass.SYNC)) == 2 * sent == 4


async def test_a_command_is_called_unknown_in_time_though_the_clock_was_set_back(
    world: World,
) -> None:
    """I-10, I-29: how late it is nobody knows any more; the car's word counts."""
    await world.greet()
    command = await world.order(UNLOCK)

    world.step(-ANSWER_GRACE_MS / 1000)
    await world.dispatcher.sweep()
    known = await world.store.command(command.command_id)
    assert known is not None
    assert known.state in {CommandState.SIGNED, CommandState.PUBLISHED}

    world.step(-3_600)
    await world.dispatcher.sweep()
    known = await world.store.command(command.command_id)
    assert known is not None
    assert known.state is CommandState.TIMED_OUT

    await world.say(FrameClass.RESULT, world.car.result(command.frame))
    known = await world.store.command(command.command_id)
    assert known is not None
    assert known.state is CommandState.SUCCEEDED


async def test_a_configuration_is_sent_again_though_the_clock_was_set_back(
    world: World,
) -> None:
    """I-29."""
    await world.greet()
    body, kind = b'{"format":1,"damage":[]}', ConfigKind.KNOWN_DAMAGE
    await world.store.put_configuration(world.car.id, kind, body, now=world.now())

    for step_s in (0.0, -3_600.0):
        world.step(step_s)
        world.advance(AGAIN_MS / 1000)
        await world.say(FrameClass.TELEM, world.car.telemetry())
        world.steward.wanted([world.car.id])
        await world.steward.sweep()
        await until(lambda: not world.configurator.is_sending)

    kinds = [frame_of(d).header.type for d in world.broker.sent_of(FrameClass.SYNC)]
    assert kinds.count(SyncType.CONFIG) == 2
