"""What a car remembers of its commands, and for how long (FF-CMD-12, I-5)."""

from dataclasses import replace

import pytest

from gateway.core.moment import Moment
from gateway.storage.ledger_rows import JOURNAL_RECORDS
from protocol.codes import ClockQuality, Code, FrameClass
from protocol.command import ANY_VERSION, Ping
from protocol.snapshot import NO_RENTAL
from protocol.sync import FleetTime
from tests.gateway.manual_clock import ManualClock
from tests.gateway.world import World

TEN_YEARS_MS = 10 * 365 * 86_400_000
DAY_MS = 86_400_000
PING = Ping(NO_RENTAL, ANY_VERSION, bytes(16))

pytestmark = pytest.mark.timeout(120)


async def send(world: World, count: int) -> list[bytes]:
    """Send commands no faster than a car takes them."""
    sent = []
    for number in range(count):
        sent.append(world.fleet.send(PING))
        if number % 10 == 9:
            await world.advance(1.0)
    await world.advance(1.0)
    return sent


async def pass_a_day(world: World) -> None:
    """Let a day pass in which nothing happens, all at once."""
    world.clock.boot_ms += DAY_MS
    await world.advance(60.0)


class FleetsClock:
    """The car's boot clock as the fleet knows it, and a true clock of its own."""

    def __init__(self, cars: ManualClock) -> None:
        self._cars = cars
        self._offset_ms = cars.wall_offset_ms
        self.asleep_ms = cars.asleep_ms
        self.sleep_until = cars.sleep_until

    def now(self) -> Moment:
        now = self._cars.now()
        return replace(now, wall_ms=now.boot_ms + self._offset_ms)


async def answers_again(world: World, data: bytes) -> list[Code]:
    """Deliver a command again and return what comes."""
    before = len(world.fleet.codes_of(data))
    world.air.deliver(FrameClass.CMD, data)
    await world.advance(1.0)
    return world.fleet.codes_of(data)[before:]


@pytest.mark.parametrize("years_ms", [TEN_YEARS_MS, -TEN_YEARS_MS])
async def test_wall_clock_plus_minus_10y_makes_a_car_forget_no_command(
    years_ms: int,
) -> None:
    # FF-CMD-12, FF-TIM-06.
    # I-5, I-29: a set clock does not make an hour a day.
    async with World() as world:
        world.fleet.clock = FleetsClock(world.clock)
        world.fleet.ask(FleetTime(ClockQuality.NTP))
        (first,) = await send(world, 1)
        world.clock.wall_offset_ms += years_ms
        await send(world, JOURNAL_RECORDS + 10)
        await world.restart()

        # Of another session, and known all the same.
        assert await answers_again(world, first) == [Code.OK]


async def test_after_a_day_the_256th_last_is_remembered_and_no_older_one() -> None:
    # FF-CMD-12.
    # protocol-design.md 1.2: the last 256, and all of a day; older ids are answered by
    # their session, and nothing runs.
    async with World() as world:
        world.fleet.ask(FleetTime(ClockQuality.NTP))
        sent = await send(world, 2)
        await pass_a_day(world)
        later = await send(world, JOURNAL_RECORDS - 1)
        await world.restart()

        assert await answers_again(world, sent[0]) == [Code.SESSION_STALE]
        assert await answers_again(world, sent[1]) == [Code.OK]
        assert await answers_again(world, later[-1]) == [Code.OK]


async def test_a_forgotten_command_of_this_session_never_runs() -> None:
    # FF-FRE-22, FF-CMD-12.
    # I-5: whom the journal has forgotten, the lane still knows.
    async with World() as world:
        world.fleet.ask(FleetTime(ClockQuality.NTP))
        (first,) = await send(world, 1)
        await pass_a_day(world)
        await send(world, JOURNAL_RECORDS + 1)
        steps = len(world.steps)

        answers = await answers_again(world, first)

        assert Code.OK not in answers
        assert set(answers) <= {Code.EXPIRED, Code.SUPERSEDED}
        assert not any(step.decision.accepted for step in world.steps[steps:])
