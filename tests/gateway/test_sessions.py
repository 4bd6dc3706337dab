"""Sessions: what ends one, and what of an older one never acts (FF-FRE, I-6)."""

from dataclasses import replace

import pytest

from protocol.codes import Code, FrameClass, LockMode
from protocol.command import ANY_VERSION, Lock, Ping, Unlock
from protocol.rental_codes import GrantAction
from protocol.snapshot import NO_RENTAL
from tests.gateway.powerloss import Disk
from tests.gateway.test_full_disk import grant_for
from tests.gateway.world import ALICE, World

PING = Ping(NO_RENTAL, ANY_VERSION, bytes(16))


async def test_unlock_after_tunnel_never_acts() -> None:
    # FF-FRE-04, I-6: held by the broker while the car was out of reach.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        unlock = world.fleet.command(Unlock(rental_id, ANY_VERSION))
        world.air.cut()
        await world.advance(2.0)
        world.air.restore()
        await world.advance(2.0)
        assert world.air.link is not None

        world.air.deliver(FrameClass.CMD, unlock)
        await world.advance(2.0)

        assert world.board.orders == []
        assert world.fleet.codes_of(unlock) == [Code.SESSION_STALE]


async def test_unlock_after_suspend_never_acts() -> None:
    # FF-FRE-05, FF-FRE-21, I-6: read from the socket before the machine slept.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        session = world.fleet.session_id
        unlock = world.fleet.command(Unlock(rental_id, ANY_VERSION), ttl_ms=9_000)
        world.clock.suspend(61.0)
        world.air.deliver(FrameClass.CMD, unlock)
        await world.settle()

        assert world.board.orders == []
        assert world.fleet.codes_of(unlock) == [Code.SESSION_STALE]
        assert world.fleet.session_id != session


async def test_after_a_suspend_commands_of_the_new_session_act() -> None:
    # FF-FRE-05: on the same connection, once the hello has told it.
    async with World() as world:
        world.clock.suspend(61.0)
        await world.advance(2.0)

        ping = world.fleet.send(PING)
        await world.settle()

        assert world.fleet.codes_of(ping) == [Code.OK]


async def test_a_short_suspend_ends_lives_and_no_session() -> None:
    # FF-FRE-21, I-6: the boot clock runs through it.
    async with World() as world:
        ping = world.fleet.command(PING, ttl_ms=9_000)
        world.clock.suspend(9.0)
        world.air.deliver(FrameClass.CMD, ping)
        await world.settle()

        assert world.fleet.codes_of(ping) == [Code.EXPIRED]


async def test_a_car_that_wakes_without_a_link_says_nothing() -> None:
    world = World(is_online=False)
    async with world:
        world.clock.suspend(3_600.0)
        await world.advance(2.0)

        assert world.is_running
        assert world.air.up == []


async def test_holdback_then_newer_the_older_one_never_acts() -> None:
    # FF-FRE-22: the broker lets a newer command pass and then delivers the older.
    async with World() as world:
        rental_id = await world.begin_rental()
        await world.advance(10.0)
        opened = len(world.board.orders)
        older = world.fleet.command(Unlock(rental_id, ANY_VERSION))
        newer = world.fleet.send(Lock(rental_id, ANY_VERSION, LockMode.PLAIN))
        await world.advance(1.0)

        world.air.deliver(FrameClass.CMD, older)
        await world.advance(1.0)

        assert world.fleet.codes_of(newer) == [Code.OK]
        assert world.fleet.codes_of(older) == [Code.SUPERSEDED]
        assert world.board.orders[opened:] == ["lock"]


async def test_consecutive_old_frames_never_accepted() -> None:
    # FF-FRE-24 (RollBack): a run of old frames moves no counter.
    async with World() as world:
        old = [world.fleet.send(PING) for _ in range(5)]
        await world.settle()
        answers = len(world.fleet.answers)
        await world.restart()

        for data in old * 2:
            world.air.deliver(FrameClass.CMD, data)
        await world.advance(20.0)

        fresh = world.fleet.send(PING)
        await world.settle()
        results = {frame for _, frame in world.fleet.answers[:answers]}
        repeated = {frame for _, frame in world.fleet.answers[answers:-1]}
        assert repeated <= results
        assert world.fleet.codes_of(fresh) == [Code.OK]


@pytest.mark.parametrize("knows_journal", [True, False])
async def test_replay_after_flash_loss_never_acts(knows_journal: bool) -> None:
    # FF-FRE-01: no journal, no counter, and still 96 bits that nobody knows.
    async with World() as world:
        rental_id = await world.reserve(ALICE)
        unlock = world.fleet.send(Unlock(rental_id, ANY_VERSION))
        await world.advance(1.0)
        assert world.board.orders == ["unlock"]
        await world.stop()
        if not knows_journal:
            world.disk = Disk()
            world.fleet.entries.clear()
        world.clock.reboot(1.0)
        world.reboot_mark()
        await world.start()
        answered = len(world.fleet.codes_of(unlock))

        world.air.deliver(FrameClass.CMD, unlock)
        await world.advance(1.0)

        assert world.board.orders.count("unlock") == 1
        again = world.fleet.codes_of(unlock)[answered:]
        assert again == [Code.OK if knows_journal else Code.SESSION_STALE]


async def test_a_grant_that_was_withdrawn_does_not_come_back_by_its_old_frame() -> None:
    # I-12: nor in a later session, nor after a power cut.
    async with World() as world:
        given = grant_for(ALICE, b"granted " * 2, world=world)
        added = world.fleet.send(given)
        await world.settle()
        assert [grant.grant_id for grant in world.state.grants] == [given.grant_id]
        withdrawal = replace(given, action=GrantAction.WITHDRAW)
        world.fleet.send(withdrawal)
        await world.settle()

        for event in (world.settle, world.restart, world.power_cut):
            await event()
            await world.advance(2.0)
            world.air.deliver(FrameClass.CMD, added)
            await world.advance(2.0)
            world.present(ALICE)
            await world.advance(6.0)

            assert world.state.grants == ()
            assert world.board.orders == []


async def test_every_start_connection_bundle_and_suspend_has_its_own_session() -> None:
    # FF-FRE-03, FF-FRE-04, FF-FRE-05, FF-HEL-02.
    async with World() as world:
        await world.restart()
        await world.power_cut()
        world.air.lose()
        await world.advance(60.0)
        world.clock.suspend(61.0)
        await world.advance(5.0)

        sessions = [header.session_id for header in world.fleet.greetings]
        seqs = [header.seq for header in world.fleet.greetings]
        assert len(set(sessions)) == len(sessions) >= 5
        assert seqs == sorted(set(seqs))
