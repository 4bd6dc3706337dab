"""Wanted of a car that is offline: unsigned, bounded, signed fresh (1.3, section 2)."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bridge.commands import CommandRecord, CommandState
from bridge.errors import OrderRefusedError, Refusal
from bridge.orders import Order
from certs.fleet import FleetDirectory
from protocol.codes import Executed, FrameClass, HoldReason, LockMode
from protocol.command import ANY_VERSION, EngineHold, Lock, Unlock, parse_command
from protocol.signing import verify_frame
from tests.bridge.car import RENTAL, frame_of
from tests.bridge.running import running_bridge
from tests.bridge.world import World

LOCK = Lock(RENTAL, ANY_VERSION, LockMode.PARK)


async def defer(world: World, order: Order, seconds: float) -> CommandRecord:
    record, _ = await world.dispatcher.submit(
        world.car.id, order, idempotency_key=None, wait_s=0, defer_s=seconds
    )
    return record


async def stored(world: World, record: CommandRecord) -> CommandRecord:
    found = await world.store.command(record.command_id)
    assert found is not None
    return found


async def test_it_waits_unsigned_and_is_signed_for_the_session_that_comes(
    world: World,
) -> None:
    await world.greet()
    await world.say(FrameClass.DEATH, world.car.death())
    record = await defer(world, LOCK, 600)
    assert (record.state, record.frame) == (CommandState.DEFERRED, b"")
    await world.dispatcher.sweep()
    assert world.broker.sent_of(FrameClass.CMD) == []

    world.advance(300)
    world.car.reboot()
    await world.greet()
    await world.dispatcher.sweep()

    frame = frame_of(await world.broker.next_sent(FrameClass.CMD))
    header = frame.header
    verify_frame(
        frame,
        fleet_id=world.fleet.fleet.fleet_id,
        key=world.command_key.verify_key,
    )
    assert header.session_id == world.car.session
    assert header.msg_id == record.command_id
    assert parse_command(header.type, header.schema, frame.payload) == LOCK
    await world.say(FrameClass.RESULT, world.car.result(frame.data))
    told = [state for state, _ in (await stored(world, record)).trail]
    assert told[:3] == ["requested", "deferred", "signed"]
    assert told[-1] == "succeeded"


async def test_it_expires_at_its_deadline_and_is_never_signed(world: World) -> None:
    record = await defer(
        world, EngineHold(RENTAL, ANY_VERSION, HoldReason.OPERATOR), 60
    )
    world.advance(61)
    await world.greet()

    await world.dispatcher.sweep()

    ended = await stored(world, record)
    assert (ended.state, ended.executed) == (CommandState.EXPIRED, Executed.NO)
    assert (ended.settled_by, ended.frame) == ("fleet", b"")
    assert world.broker.sent_of(FrameClass.CMD) == []


async def test_it_survives_the_bridge_that_took_it(
    world: World, fleet: FleetDirectory
) -> None:
    # It is in the store, unsigned, with its deadline
    await world.greet()
    await world.say(FrameClass.DEATH, world.car.death())
    record = await defer(world, LOCK, 600)
    path = world.path.with_name("after.sqlite")
    with (
        closing(sqlite3.connect(world.path)) as source,
        closing(sqlite3.connect(path)) as target,
    ):
        source.backup(target)

    async with World(fleet, path) as again:
        again._randoms = 1_000
        again.car = world.car
        await again.dispatcher.sweep()
        assert again.broker.sent_of(FrameClass.CMD) == []
        again.advance(30)
        world.advance(30)
        await again.greet()
        await again.dispatcher.sweep()

        header = frame_of(await again.broker.next_sent(FrameClass.CMD)).header
        assert header.msg_id == record.command_id


async def test_what_opens_a_car_never_waits(world: World) -> None:
    with pytest.raises(OrderRefusedError) as caught:
        await defer(world, Unlock(RENTAL, ANY_VERSION), 60)

    assert (caught.value.refusal, caught.value.field) == (Refusal.BAD_VALUE, "defer_s")


async def test_a_car_that_is_there_gets_it_at_once(world: World) -> None:
    await world.greet()

    record = await defer(world, LOCK, 600)

    assert record.state is CommandState.PUBLISHED


async def test_a_car_in_doubt_gets_it_after_its_answer(world: World) -> None:
    record = await defer(world, LOCK, 600)
    old = world.car.hello()
    world.car.reboot()
    await world.greet()
    await world.say(FrameClass.HELLO, old)

    await world.dispatcher.sweep()
    assert (await stored(world, record)).state is CommandState.DEFERRED

    doubt = (await world.vehicle()).doubt
    assert doubt is not None
    await world.say(FrameClass.HELLO, world.car.hello(nonce=doubt.nonce))
    await world.dispatcher.sweep()
    assert len(world.broker.sent_of(FrameClass.CMD)) == 1


async def test_it_can_be_taken_back_until_it_is_signed(world: World) -> None:
    record = await defer(world, LOCK, 600)

    cancelled = await world.dispatcher.cancel(record.command_id)

    assert cancelled is not None
    assert cancelled.state is CommandState.CANCELLED
    await world.greet()
    await world.dispatcher.sweep()
    assert world.broker.sent_of(FrameClass.CMD) == []
    signed = await world.order(LOCK)
    with pytest.raises(OrderRefusedError) as caught:
        await world.dispatcher.cancel(signed.command_id)
    assert caught.value.refusal is Refusal.TOO_LATE
    assert await world.dispatcher.cancel(bytes(16)) is None


@pytest.mark.broker
async def test_deferring_and_cancelling_over_http(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    body = {"kind": "lock", "rental_id": RENTAL.hex(), "mode": "park"}
    async with running_bridge(fleet, tmp_path) as running:
        offline, _ = await running.order(body)
        status, waiting = await running.order(body, params={"defer_s": "60"})
        path = f"/v1/commands/{waiting['id']}"
        ended, cancelled = await running.delete(path)
        again, problem = await running.delete(path)

    assert offline == 409
    assert (status, waiting["state"], waiting["is_final"]) == (202, "deferred", False)
    assert (ended, cancelled["state"], cancelled["executed"]) == (
        200,
        "cancelled",
        "no",
    )
    assert (again, problem["type"]) == (
        409,
        "urn:freefloat:problem:too-late-to-cancel",
    )
