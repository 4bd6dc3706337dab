"""What the bridge does with frames: I-21, I-22, I-23, I-24, I-27."""

import pytest

from bridge.errors import StoreError
from protocol.codes import AccessMeans, Code, FrameClass
from protocol.event import EVENTS, AgentStarted, Parked, RentalStarted
from protocol.receipt import Gap
from tests.bridge.car import RENTAL, REPORT, receipt_of, sample
from tests.bridge.world import World

STARTED = RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400)
PARKED = Parked(RENTAL, AccessMeans.CARD, 1_005_000)


async def test_an_entry_is_stored_told_and_receipted(world: World) -> None:
    await world.greet()

    await world.say(FrameClass.EVENT, world.car.event(STARTED))

    receipt = receipt_of(await world.broker.next_sent(FrameClass.RECEIPT))
    assert receipt.upto == 1
    assert receipt.head_hash == world.car.head
    assert receipt.gaps == ()
    assert await world.events() == ["freefloat.rental.started"]


async def test_a_resent_entry_is_told_once_and_receipted_again(world: World) -> None:
    # I-21: the car resends because the receipt was lost.
    entry = world.car.event(STARTED)
    await world.say(FrameClass.EVENT, entry)
    await world.broker.next_sent(FrameClass.RECEIPT)

    await world.say(FrameClass.EVENT, entry)

    assert receipt_of(await world.broker.next_sent(FrameClass.RECEIPT)).upto == 1
    assert await world.events() == ["freefloat.rental.started"]
