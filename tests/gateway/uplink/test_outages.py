"""No network for a second, an hour or three days, on a clock that is moved by hand.

The car is the production gateway with its store; the clock passes the three days.
"""

import sys

import pytest

from gateway.core.prompts import Choice
from gateway.uplink.schedule import FIRST_CREDIT, TELEMETRY_WINDOW
from protocol.codes import FrameClass, RentalMode
from protocol.event import Parked, RentalEnded, RentalStarted, Resumed
from tests.depth import DEEP
from tests.gateway.uplink.test_uplink import _classes
from tests.gateway.world import ALICE, PIN, World

SECOND_S, HOUR_S, DAY_S = 1.0, 3_600.0, 86_400.0


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
    outage_s: float, stops: int
) -> None:
    """Row 13, I-13, I-19, I-21: opened and locked all along, told once and in order."""
    async with World() as world:
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
        sent = len(world.air.up)
        world.air.restore()
        await world.advance(61.0)
        if not stops:
            await world.end_rental()
        await world.advance(60.0)

        events = world.events()[told_before:]
        classes = _classes(world, sent)
        left = await world.kept()

    assert events.count(RentalEnded) == 1
    assert events.count(Parked) == events.count(Resumed) == stops
    assert RentalStarted not in events
    # What the rental was comes before what the car measured meanwhile.
    assert classes[0] is FrameClass.HELLO
    last_entry = len(classes) - 1 - classes[::-1].index(FrameClass.EVENT)
    entries, samples = (
        classes.count(kind) for kind in (FrameClass.EVENT, FrameClass.TELEM)
    )
    before = classes[:last_entry].count(FrameClass.TELEM)
    sys.stdout.write(
        f"{before} of {samples} frames of samples before the last entry of {entries}\n"
    )
    # A few may go whenever as many entries are under way as the fleet gives credit for.
    assert before <= TELEMETRY_WINDOW * (1 + entries // FIRST_CREDIT)
    assert left == []
