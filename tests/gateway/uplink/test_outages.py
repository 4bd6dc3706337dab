"""No network for a second, an hour or three days, on a clock that is moved by hand.

The car is the production gateway with its store; the clock passes the three days.
"""

import sys

import pytest

from gateway.core.prompts import Choice
from protocol.codes import FrameClass, RentalMode
from protocol.event import Parked, RentalEnded, RentalStarted, Resumed
from tests.depth import DEEP
from tests.gateway.uplink.test_uplink import _classes
from tests.gateway.world import ALICE, PIN, World

SECOND_S, HOUR_S, DAY_S = 1.0, 3_600.0, 86_400.0

CREDIT = 4
"""Entries under way at once."""


def mode_of(world: World) -> RentalMode:
    """Return the car's mode; its bolts must be as the mode says."""
    assert world.board.locked == (world.state.mode is not RentalMode.STOPPED)
    return world.state.mode


async def park_and_return(world: World) -> None:
    """Park by display and card, and open by card again (I-13)."""
    world.display.choose(Choice.PARK)
    await world.advance(1.0)
    world.present(ALICE)
    await world.advance(90.0)
    assert mode_of(world) is RentalMode.PARKED
    await world.advance(600.0)
    world.present(ALICE)
    await world.advance(1.0)
    assert mode_of(world) is RentalMode.STOPPED


async def catch_up(world: World, span_s: float) -> None:
    """Let time pass; the fleet receipts together what came together, as bridges do.

    A receipt for each entry, all at one moment, would be more frames than a car judges.
    """
    world.fleet.gives_receipts = False
    for _ in range(round(10 * span_s)):
        came = len(world.air.up)
        await world.advance(0.1)
        if len(world.air.up) > came:
            world.fleet.give_receipt()
    world.fleet.gives_receipts = True


@pytest.mark.parametrize(
    ("outage_s", "stops"),
    [
        pytest.param(SECOND_S, 0, id="a second"),
        pytest.param(HOUR_S, 2, id="an hour"),
        # A minute of ours, for 25,000 samples: only in the long form.
        *([pytest.param(3 * DAY_S, 24, id="three days")] if DEEP else []),
    ],
)
async def test_a_renter_drives_through_an_outage_and_all_of_it_is_told_first(
    outage_s: float, stops: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row 13, I-13, I-19, I-21, FF-TEL-07: opened and locked all along, told once.

    The fleet's credit is less than what an hour makes, as it is after three days.
    """
    monkeypatch.setattr("gateway.uplink.schedule.FIRST_CREDIT", CREDIT)
    async with World() as world:
        world.fleet.credit = CREDIT
        await world.begin_rental()
        world.display.type_pin(PIN)
        await world.advance(20.0)
        told_before = len(world.events())
        world.air.cut()
        await world.advance(SECOND_S)
        for _ in range(stops):
            await world.advance(outage_s / stops - 700.0)
            await park_and_return(world)
        if stops:
            await world.end_rental()
            assert world.board.locked
        kept, sent = len(await world.kept()), len(world.air.up)
        world.air.restore()
        await catch_up(world, 61.0)
        caught_up = _classes(world, sent)
        if not stops:
            await world.end_rental()
        await world.advance(60.0)

        events = world.events()[told_before:]
        left = await world.kept()

    assert events.count(RentalEnded) == 1
    assert events.count(Parked) == events.count(Resumed) == stops
    assert RentalStarted not in events
    # What the rental was comes before what the car measured meanwhile.
    entries = caught_up.count(FrameClass.EVENT)
    sys.stdout.write(
        f"{entries} entries, {caught_up.count(FrameClass.TELEM)} samples\n"
    )
    assert caught_up[: 1 + entries] == [FrameClass.HELLO, *entries * [FrameClass.EVENT]]
    assert entries >= kept
    assert kept > CREDIT or not stops
    assert FrameClass.TELEM in caught_up
    assert left == []
