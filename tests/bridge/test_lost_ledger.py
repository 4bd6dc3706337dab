"""A car that lost its ledger asks who has it; the bridge answers by the books."""

import json
from dataclasses import replace

import pytest

from bridge.bound_orders import Pins, ReserveOrder, ServiceOrder
from bridge.cloud_event import TO_CLOSE_TYPE
from bridge.errors import OrderRefusedError, Refusal
from bridge.mds.machine import MdsState
from bridge.orders import Order
from protocol.codes import (
    AccessMeans,
    Condition,
    FaultKind,
    FrameClass,
    HelloFlags,
    Light,
    LockDefault,
    Opcode,
)
from protocol.command import ANY_VERSION
from protocol.event import (
    AgentStarted,
    EventBody,
    FaultCleared,
    FaultRaised,
    RentalStarted,
    ReservationStarted,
)
from protocol.hello import Capability
from protocol.rental_codes import ResetReason, ServiceRequest
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import LedgerReset
from tests.bridge.car import RENTAL, REPORT, SNAPSHOT, frame_of
from tests.bridge.test_doubt import lose_flash
from tests.bridge.world import World

OTHER = b"another rental.."
STARTED = RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400)
RAISED = FaultRaised(FaultKind.LEDGER_LOST)
CLEARED = FaultCleared(FaultKind.LEDGER_LOST)
NOBODY = ServiceOrder(NO_RENTAL, ANY_VERSION, ServiceRequest.OFF, 0)
TECHNICIAN = ServiceOrder(NO_RENTAL, ANY_VERSION, ServiceRequest.ON, 60)
ASKING = replace(SNAPSHOT, condition=Condition.FAULT, light=Light.FAULT_PATTERN)
NO_FLAGS = HelloFlags(0)
OPCODES = tuple(
    Capability(opcode, 1) for opcode in (Opcode.RESERVE, Opcode.SERVICE, Opcode.PING)
)


def reserve(rental_id: bytes) -> ReserveOrder:
    return ReserveOrder(rental_id, ANY_VERSION, 900, (), LockDefault.END, b"en", Pins())


async def tell(world: World, *bodies: EventBody) -> None:
    await world.say(FrameClass.EVENT, *(world.car.event(body) for body in bodies))


async def greet(world: World, *, flags: HelloFlags = NO_FLAGS) -> None:
    snapshot = ASKING if flags else SNAPSHOT
    hello = world.car.hello(flags=flags, snapshot=snapshot, capabilities=OPCODES)
    await world.say(FrameClass.HELLO, hello)


async def lose(world: World, *before: EventBody) -> LedgerReset:
    """Let the car tell its story, lose its ledger and say so by its hello.

    Returns the first entry of its new ledger.
    """
    await greet(world)
    await tell(world, AgentStarted(1, bytes(4)), *before)
    reset = LedgerReset(
        world.car.ledger_id, world.car.seq, world.car.head, ResetReason.CORRUPT
    )
    lose_flash(world.car)
    await greet(world, flags=HelloFlags.LEDGER_WAS_RESET)
    return reset


async def ask(world: World, *before: EventBody) -> None:
    """Let the car lose its ledger and tell the first entries of the new one."""
    reset = await lose(world, *before)
    await tell(world, reset, RAISED, AgentStarted(2, bytes(4)))


async def refusal(world: World, order: Order) -> Refusal | None:
    try:
        await world.order(order)
    except OrderRefusedError as refused:
        return refused.refusal
    frame = frame_of(await world.broker.next_sent(FrameClass.CMD))
    assert frame.header.type in {Opcode.RESERVE, Opcode.SERVICE}
    return None


async def test_the_fleet_sees_a_car_that_asks_and_offers_it_to_nobody(
    world: World,
) -> None:
    # Row 5, H15, FF-LED-32: on no map, until the car's question is answered.
    await ask(world, STARTED)

    asking = await world.vehicle()
    assert asking.faults == ("ledger_lost",)
    assert asking.twin["condition"].value == "fault"
    assert asking.standing.shown is MdsState.NON_OPERATIONAL
    rows = await world.store.outbox_after(0, 1_000)
    [told] = [json.loads(r.body) for r in rows if r.type == "freefloat.fault.raised"]
    assert told["data"]["kind"] == "ledger_lost"
    assert [row.type for row in rows].count(TO_CLOSE_TYPE) == 1

    await tell(world, CLEARED)

    settled = await world.vehicle()
    assert settled.faults == ()
    assert settled.standing.shown is MdsState.AVAILABLE


@pytest.mark.parametrize("order", [reserve(OTHER), NOBODY], ids=["another", "nobody"])
@pytest.mark.parametrize("has_told", [True, False], ids=["told", "hello only"])
async def test_what_the_books_deny_is_not_said_to_a_car_that_asks(
    world: World, order: Order, has_told: bool
) -> None:
    # FF-LED-37, I-19: a booking that waited must not give away a car with a renter.
    await (ask if has_told else lose)(world, STARTED)

    with pytest.raises(OrderRefusedError, match=RENTAL.hex()) as caught:
        await world.order(order)

    assert caught.value.refusal is Refusal.RENTAL_OPEN
    assert world.broker.sent_of(FrameClass.CMD) == []


async def test_the_lost_rental_is_given_back_and_its_end_is_the_end(
    world: World,
) -> None:
    # FF-LED-37, I-21: its entries in the new ledger have lower sequences than before.
    await ask(world, *[AgentStarted(1, bytes(4))] * 20, STARTED)

    assert await refusal(world, reserve(RENTAL)) is None

    await tell(world, CLEARED, ReservationStarted(RENTAL, 1, bytes(16)), STARTED)
    again = await world.store.rental(RENTAL)
    assert again is not None
    assert (again.state, again.needs_close) == ("running", False)
    assert await refusal(world, reserve(OTHER)) is None
    await tell(world, REPORT)
    ended = await world.store.rental(RENTAL)
    assert ended is not None
    assert (ended.state, ended.ledger_id) == ("ended", world.car.ledger_id)


@pytest.mark.parametrize("order", [reserve(OTHER), NOBODY], ids=["another", "nobody"])
async def test_a_person_who_closes_the_lost_rental_lets_the_car_be_free(
    world: World, order: Order
) -> None:
    # FF-LED-37
    await ask(world, STARTED)

    assert await world.store.close_rental(RENTAL, now=world.now())

    assert await refusal(world, order) is None


async def test_a_car_that_nobody_had_is_answered_at_once(world: World) -> None:
    await ask(world)

    assert await refusal(world, NOBODY) is None


async def test_a_technician_may_be_sent_whatever_the_books_say(world: World) -> None:
    await ask(world, STARTED)

    assert await refusal(world, TECHNICIAN) is None


async def test_a_flag_of_long_ago_keeps_no_car_that_does_not_ask(world: World) -> None:
    await ask(world, STARTED)
    await tell(world, CLEARED)
    await greet(world)

    assert await refusal(world, reserve(OTHER)) is None
