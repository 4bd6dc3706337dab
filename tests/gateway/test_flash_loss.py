"""A car whose flash was lost trusts what it was made with, and lets the fleet see it.

With the ledger's file go the trust bundle and the floor of the time. What is left is
the identity directory: the bundle of the day of issue, which roots signed and no thief
can replace. That is a rollback, and cannot be none; so it must show (FF-TRU-14,
FF-LED-09).
"""

from protocol.codes import Code, FrameClass
from protocol.rental_codes import ResetReason
from protocol.vehicle_event import LedgerReset
from tests.gateway.fleet_end import BUNDLE
from tests.gateway.test_ledger_reset import lose
from tests.gateway.test_trust import NEXT, PING, REVOKED, TIME
from tests.gateway.world import World

WHILE_S = 600.0


async def test_the_lost_bundle_is_told_by_the_hello_and_the_fleet_brings_it_back() -> (
    None
):
    # FF-TRU-24: the bridge sends the newest to whoever names a lower version.
    async with World() as world:
        world.fleet.publish_trust(NEXT)
        await world.settle()
        assert world.fleet.hellos[-1].bundle_version == 2

        await lose(world)
        await world.start()

        # Told in two ways: by the hello, and by the first entry of the new ledger.
        assert world.fleet.hellos[-1].bundle_version == BUNDLE.version
        (reset,) = [e for e in world.fleet.events() if isinstance(e, LedgerReset)]
        assert reset.reason is ResetReason.LOST
        world.fleet.publish_trust(NEXT)
        await world.settle()
        assert world.fleet.hellos[-1].bundle_version == 2
        ping = world.fleet.send(PING)
        await world.advance(1.0)
        assert world.fleet.codes_of(ping) == [Code.OK]


async def test_a_key_that_was_revoked_is_so_again_with_the_bundle_that_comes_back() -> (
    None
):
    # FF-TRU-15: and what was signed in between is void with its session (FF-TRU-16).
    async with World() as world:
        world.fleet.publish_trust(REVOKED)
        await world.settle()
        await lose(world)
        await world.start()
        between = world.fleet.command(PING)

        world.fleet.publish_trust(REVOKED)
        world.air.deliver(FrameClass.CMD, between)
        await world.advance(1.0)

        assert world.fleet.hellos[-1].bundle_version == 2
        assert world.fleet.codes_of(between) == []
        assert world.gateway.dropped == {Code.REVOKED: 1}


async def test_the_floor_falls_back_to_the_day_of_issue_and_rises_with_the_fleet() -> (
    None
):
    # I-29: never below what roots signed, and no wall clock is asked.
    async with World() as world:
        world.fleet.ask(TIME)
        await world.advance(WHILE_S)
        known = world.fleet.hellos[-1].trusted_floor_ms

        await lose(world)
        world.clock.wall_offset_ms -= 80 * 86_400_000
        await world.start()

        fallen = world.fleet.hellos[-1].trusted_floor_ms
        assert fallen >= BUNDLE.issued_ms
        world.fleet.ask(TIME)
        await world.advance(1.0)
        await world.restart()
        assert world.fleet.hellos[-1].trusted_floor_ms >= max(known, fallen)
