"""What the fleet asks and tells beside commands, over the link (FF-SYN, FF-TIM)."""

import pytest

from gateway.core.known_time import RELEASED_MS
from protocol.codes import ClockQuality, Code, FrameClass
from protocol.command import ANY_VERSION, Ping
from protocol.hello import NO_NONCE
from protocol.snapshot import NO_RENTAL
from protocol.sync import Challenge, FleetTime, Resend
from tests.gateway.fleet_end import RECEIPT_KEY
from tests.gateway.manual_clock import WALL_MS
from tests.gateway.world import World

PING = Ping(NO_RENTAL, ANY_VERSION, bytes(16))
NONCE = b"a nonce of today"
TIME = FleetTime(ClockQuality.NTP)


async def test_a_challenge_is_answered_by_a_hello_of_the_same_session() -> None:
    # FF-SYN-09, FF-HEL-02, FF-HEL-08.
    async with World() as world:
        before = world.fleet.greetings[-1]
        world.fleet.ask(Challenge(NONCE))
        await world.settle()

        asked = world.fleet.greetings[-1]
        assert world.fleet.hellos[-1].nonce == NONCE
        assert asked.session_id == before.session_id
        assert asked.seq > before.seq
        assert world.fleet.hellos[0].nonce == NO_NONCE


async def test_replay_of_a_challenge_is_answered_once() -> None:
    # FF-SYN-03, FF-SYN-05.
    async with World() as world:
        data = world.fleet.ask(Challenge(NONCE))
        await world.settle()
        hellos = len(world.fleet.hellos)

        for _ in range(5):
            world.air.deliver(FrameClass.SYNC, data)
        await world.settle()

        assert len(world.fleet.hellos) == hellos
        assert world.gateway.dropped == {Code.SUPERSEDED: 5}
        assert world.fleet.answers == []


async def test_a_challenge_of_an_older_session_is_answered_by_nothing() -> None:
    # FF-SYN-01.
    async with World() as world:
        data = world.fleet.sync(Challenge(NONCE), ttl_ms=29_000)
        world.air.cut()
        world.air.restore()
        await world.advance(5.0)
        hellos = len(world.fleet.hellos)

        world.air.deliver(FrameClass.SYNC, data)
        await world.settle()

        assert len(world.fleet.hellos) == hellos
        assert world.gateway.dropped == {Code.SESSION_STALE: 1}


async def test_resend_sends_the_same_bytes_again() -> None:
    # FF-SYN-07: the fleet test fails on another content (I-27).
    async with World() as world:
        world.fleet.gives_receipts = False
        for _ in range(3):
            world.fleet.send(PING)
        await world.settle()
        head = world.fleet.contiguous
        copies = dict(world.fleet.copies)

        world.fleet.ask(Resend(world.fleet.ledger_id, head - 1, head + 50))
        await world.settle()

        again = {
            seq
            for seq, count in world.fleet.copies.items()
            if count > copies.get(seq, 0)
        }
        assert again == {head - 1, head}


async def test_resend_sends_only_what_is_still_held() -> None:
    # FF-SYN-07: a receipt has freed it.
    async with World() as world:
        world.fleet.send(PING)
        await world.settle()
        assert await world.kept() == []
        copies = dict(world.fleet.copies)

        world.fleet.ask(Resend(world.fleet.ledger_id, 1, 100))
        await world.settle()

        assert world.fleet.copies == copies


async def test_resend_for_another_ledger_is_dropped() -> None:
    # FF-SYN-08.
    async with World() as world:
        world.fleet.ask(Resend(bytes(8), 1, 1))
        await world.settle()

        assert world.gateway.dropped == {Code.BAD_PARAM: 1}


async def test_the_fleets_time_becomes_trusted_and_is_told() -> None:
    # FF-TIM-01, FF-TIM-02, FF-TIM-04.
    async with World() as world:
        world.fleet.ask(TIME)
        await world.settle()
        world.clock.wall_offset_ms -= 10 * 365 * 86_400_000
        await world.advance(60.0)
        world.fleet.ask(Challenge(NONCE))
        await world.settle()

        hello = world.fleet.hellos[-1]
        assert hello.clock_quality is ClockQuality.SYNC
        assert hello.trusted_floor_ms == WALL_MS + 61_000


async def test_a_fleet_that_does_not_know_the_time_tells_none() -> None:
    async with World() as world:
        world.fleet.gives_receipts = False
        world.fleet.ask(FleetTime(ClockQuality.RTC))
        await world.settle()

        assert world.gateway.dropped == {Code.BAD_PARAM: 1}


async def test_a_receipt_of_this_session_tells_the_time() -> None:
    # FF-TIM-01.
    async with World() as world:
        world.fleet.ask(Challenge(NONCE))
        await world.settle()

        assert world.fleet.hellos[-1].clock_quality is ClockQuality.SYNC


async def test_a_receipt_of_an_older_session_tells_no_time() -> None:
    # FF-TIM-01: it may have been held back for years.
    world = World(is_online=False)
    world.fleet.gives_receipts = False
    async with world:
        world.air.restore()
        await world.advance(60.0)
        world.fleet.session_id = bytes(16)
        world.air.deliver(FrameClass.RECEIPT, world.fleet.receipt(key=RECEIPT_KEY))
        await world.settle()
        world.fleet.session_id = world.fleet.greetings[-1].session_id
        world.fleet.ask(Challenge(NONCE))
        await world.settle()

        assert world.fleet.hellos[-1].clock_quality is ClockQuality.RTC


async def test_after_a_power_loss_the_floor_is_left_and_the_hello_says_so() -> None:
    # FF-TIM-03, FF-TIM-04.
    async with World() as world:
        world.fleet.ask(TIME)
        await world.advance(3_700.0)
        world.fleet.gives_receipts = False
        before = world.clock.now().wall_ms
        world.clock.quality = ClockQuality.UNSET

        await world.power_cut(off_s=86_400.0)

        hello = world.fleet.hellos[-1]
        assert hello.clock_quality is ClockQuality.UNSET
        assert before - 3_700_000 <= hello.trusted_floor_ms <= before
        assert hello.trusted_floor_ms > RELEASED_MS


async def test_a_restart_of_the_agent_goes_on_knowing_the_time() -> None:
    # FF-TIM-02: the boot clock ran on.
    async with World() as world:
        world.fleet.ask(TIME)
        await world.advance(3_700.0)
        world.fleet.gives_receipts = False

        await world.restart()

        hello = world.fleet.hellos[-1]
        assert hello.clock_quality is ClockQuality.SYNC
        assert hello.trusted_floor_ms >= WALL_MS + 3_700_000


@pytest.mark.parametrize("years", [-10, 10])
async def test_wall_clock_plus_minus_10y_moves_no_floor(years: int) -> None:
    # FF-TIM-06, I-29.
    async with World() as world:
        world.fleet.ask(TIME)
        world.fleet.ask(Challenge(NONCE))
        await world.settle()
        before = world.fleet.hellos[-1].trusted_floor_ms
        world.fleet.gives_receipts = False

        world.clock.wall_offset_ms += years * 365 * 86_400_000
        await world.restart()

        moved = world.fleet.hellos[-1].trusted_floor_ms - before
        assert 0 <= moved < 10_000_000


async def test_gnss_tells_the_time_until_the_fleet_does_and_moves_no_floor() -> None:
    # FF-TIM-03, FF-TIM-08, FF-TIM-09: a transmitter says that it is ten years on.
    async with World() as world:
        world.fleet.gives_receipts = False
        world.air.cut()
        await world.power_cut()
        world.positioning.sky_ms = WALL_MS + 10 * 365 * 86_400_000
        await world.advance(120.0)
        world.air.restore()
        await world.advance(120.0)

        dark = world.fleet.hellos[-1]
        assert dark.clock_quality is ClockQuality.GNSS
        assert dark.trusted_floor_ms < WALL_MS + 86_400_000
        world.fleet.ask(TIME)
        world.fleet.ask(Challenge(NONCE))
        await world.advance(120.0)
        ping = world.fleet.send(PING)
        await world.settle()

        told = world.fleet.hellos[-1]
        assert told.clock_quality is ClockQuality.SYNC
        assert told.trusted_floor_ms < WALL_MS + 86_400_000
        # No key has ended by it.
        assert world.fleet.codes_of(ping) == [Code.OK]
