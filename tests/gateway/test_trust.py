"""A fleet that changes whom its cars trust, over the link (FF-TRU)."""

import logging
from dataclasses import replace

import pytest

from gateway.core.trust_renewal import TrustInUse
from protocol.codes import ClockQuality, Code, FaultKind, FrameClass, HelloFlags
from protocol.command import ANY_VERSION, Ping, Unlock
from protocol.event import FaultCleared, FaultRaised
from protocol.snapshot import NO_RENTAL
from protocol.sync import FleetTime
from protocol.trust import sign_bundle
from protocol.vehicle_event import TrustChanged
from tests.gateway.fleet_end import (
    BUNDLE,
    COMMAND_KEY,
    RECEIPT_KEY,
    ROOT_KEY,
    FleetEnd,
)
from tests.gateway.manual_clock import WALL_MS
from tests.gateway.world import ALICE, IDENTITY, World

TIME = FleetTime(ClockQuality.NTP)
PING = Ping(NO_RENTAL, ANY_VERSION, bytes(16))
NEXT = replace(BUNDLE, version=2)
REVOKED = replace(NEXT, revoked=(COMMAND_KEY.key_id,))
HOUR_MS = 3_600_000


def changes(fleet: FleetEnd) -> list[TrustChanged]:
    return [event for event in fleet.events() if isinstance(event, TrustChanged)]


async def test_an_accepted_bundle_is_told_and_begins_a_session_on_this_link() -> None:
    # FF-TRU-16, FF-TRU-17.
    async with World() as world:
        session, attempts = world.fleet.session_id, world.air.attempts

        world.fleet.publish_trust(NEXT)
        await world.settle()

        assert world.fleet.session_id != session
        assert world.air.attempts == attempts
        assert world.fleet.hellos[-1].bundle_version == 2
        (change,) = changes(world.fleet)
        signed = TrustInUse(NEXT, sign_bundle(NEXT, (ROOT_KEY,)))
        assert change == TrustChanged(1, 2, signed.body_hash)


async def test_the_link_is_made_anew_later_so_that_its_will_is_of_the_session() -> None:
    # FF-DTH-01: the will at the broker names the session that has ended.
    async with World() as world:
        world.fleet.publish_trust(NEXT)
        await world.advance(60.0)
        world.air.cut()
        await world.settle()

        assert world.fleet.deaths[-1].seq == world.fleet.greetings[-1].seq
        assert world.fleet.deaths[-1].session_id == world.fleet.session_id


async def test_revoked_key_inflight_a_queued_command_never_acts() -> None:
    # FF-TRU-15: signed before, arrived behind the bundle, in one breath.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        unlock = world.fleet.command(Unlock(rental_id, ANY_VERSION))
        world.fleet.publish_trust(REVOKED)
        world.air.deliver(FrameClass.CMD, unlock)
        await world.advance(2.0)

        assert world.board.orders == []
        assert world.fleet.codes_of(unlock) == []
        assert world.gateway.dropped == {Code.REVOKED: 1}


async def test_old_session_commands_of_a_good_key_are_stale_after_a_bundle() -> None:
    # FF-TRU-16: an emergency ends whatever is on its way.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        unlock = world.fleet.command(Unlock(rental_id, ANY_VERSION))
        world.fleet.publish_trust(NEXT)
        world.air.deliver(FrameClass.CMD, unlock)
        await world.advance(2.0)

        assert world.board.orders == []
        assert world.fleet.codes_of(unlock) == [Code.SESSION_STALE]
        again = world.fleet.send(Unlock(rental_id, ANY_VERSION))
        await world.advance(2.0)
        assert world.fleet.codes_of(again) == [Code.OK]


async def test_trust_rollback_an_older_bundle_comes_back_by_no_way() -> None:
    # FF-TRU-07, FF-TRU-14, I-12: neither by the link nor by a restart or a power cut.
    async with World() as world:
        old = world.fleet.trust(BUNDLE, key=RECEIPT_KEY)
        world.fleet.publish_trust(REVOKED)
        await world.settle()

        for event in (world.restart, world.power_cut):
            world.air.deliver(FrameClass.TRUST, old)
            await world.settle()
            await event()
            stale = world.fleet.send(PING)
            await world.settle()
            assert world.fleet.codes_of(stale) == []
        assert world.fleet.hellos[-1].bundle_version == 2
        assert len(changes(world.fleet)) == 1


async def test_a_newer_bundle_in_the_directory_counts_and_is_told() -> None:
    # FF-TRU-14: a workshop may bring one.
    world = World()
    async with world:
        await world.stop()
        world.identity = replace(
            IDENTITY, trust=TrustInUse(NEXT, sign_bundle(NEXT, (ROOT_KEY,)))
        )

        await world.start()

        assert world.fleet.hellos[-1].bundle_version == 2
        assert [change.new_version for change in changes(world.fleet)] == [2]


async def test_an_older_bundle_in_the_directory_is_ignored_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # FF-TRU-07.
    async with World() as world:
        world.fleet.publish_trust(NEXT)
        await world.settle()

        await world.restart()

        assert world.fleet.hellos[-1].bundle_version == 2
        assert "holds trust bundle 1, version 2 is in use: ignored" in caplog.text


async def test_a_start_with_the_same_bundle_says_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with World() as world:
        await world.restart()

        assert changes(world.fleet) == []
        assert "ignored" not in caplog.text


async def test_the_same_bundle_again_begins_no_session() -> None:
    # FF-TRU-08: a broker that repeats it must not stop all commands.
    async with World() as world:
        data = world.fleet.publish_trust(NEXT)
        await world.settle()
        session = world.fleet.session_id

        world.air.deliver(FrameClass.TRUST, data)
        await world.settle()

        assert world.fleet.session_id == session
        assert len(changes(world.fleet)) == 1


async def test_a_refused_bundle_is_counted_and_not_answered() -> None:
    # FF-TRU-23, FF-AUTH-03.
    async with World() as world:
        sent = len(world.air.up)

        data = world.fleet.trust(NEXT, roots=(COMMAND_KEY,))
        world.air.deliver(FrameClass.TRUST, data)
        await world.settle()

        assert world.gateway.dropped == {Code.UNKNOWN_KEY: 1}
        assert len(world.air.up) == sent


async def test_trust_freeze_an_expired_bundle_is_noticed_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # FF-TRU-18, FF-TRU-19: somebody keeps the newer one away.
    caplog.set_level(logging.WARNING)
    ending = replace(NEXT, expires_ms=WALL_MS + HOUR_MS)
    async with World() as world:
        world.fleet.publish_trust(ending)
        await world.settle()
        assert world.fleet.hellos[-1].flags == HelloFlags(0)
        world.fleet.ask(TIME)
        await world.advance(3_700.0)
        await world.restart()
        await world.advance(300.0)

        told = [e for e in world.fleet.events() if isinstance(e, FaultRaised)]
        assert told == [FaultRaised(FaultKind.TRUST_EXPIRED)]
        assert world.fleet.hellos[-1].flags == HelloFlags.BUNDLE_EXPIRED
        assert caplog.text.count("trust bundle 2 has expired") == 1
        ping = world.fleet.send(PING)
        await world.settle()
        assert world.fleet.codes_of(ping) == [Code.OK]
        assert world.state.faults == frozenset()

        world.fleet.publish_trust(replace(BUNDLE, version=3))
        await world.settle()

        assert FaultCleared(FaultKind.TRUST_EXPIRED) in world.fleet.events()
        assert world.fleet.hellos[-1].flags == HelloFlags(0)


async def test_a_key_whose_end_has_come_by_trusted_time_opens_nothing() -> None:
    # FF-FRE-14, FF-TIM-01.
    ending = replace(BUNDLE.keys[0], not_after_ms=WALL_MS + HOUR_MS)
    async with World() as world:
        world.fleet.publish_trust(replace(NEXT, keys=(ending, BUNDLE.keys[1])))
        await world.settle()
        fresh = world.fleet.send(PING)
        await world.settle()
        await world.advance(3_700.0)
        late = world.fleet.send(PING)
        await world.settle()

        assert world.fleet.codes_of(fresh) == [Code.OK]
        assert world.fleet.codes_of(late) == [Code.KEY_EXPIRED]


async def test_a_bundle_that_cannot_be_kept_is_not_used() -> None:
    # FF-TRU-14: in one transaction with its entry, or not at all.
    async with World() as world:
        world.disk.cut_at = world.disk.operations + 1

        world.fleet.publish_trust(REVOKED)
        await world.settle()
        await world.power_cut()

        kept = world.fleet.hellos[-1].bundle_version
        told = [change.new_version for change in changes(world.fleet)]
        assert (kept, told) in [(1, []), (2, [2])]
