"""One intent, one token: forged busy, same bytes, retry only after proof (W2, I-11)."""

import asyncio

import pytest

from bridge.commands import CommandRecord, CommandState
from bridge.errors import OrderRefusedError, Refusal
from protocol.codes import Code, Executed, FrameClass, LockMode, Retry
from protocol.command import ANY_VERSION, Lock, Unlock
from tests.bridge.car import RENTAL, frame_of
from tests.bridge.world import World

UNLOCK = Unlock(RENTAL, ANY_VERSION)
LOCK = Lock(RENTAL, ANY_VERSION, LockMode.PARK)


async def retry(world: World, earlier: CommandRecord) -> CommandRecord:
    record, _ = await world.dispatcher.submit(
        world.car.id,
        UNLOCK,
        idempotency_key=None,
        wait_s=0,
        retry_of=earlier.command_id,
    )
    return record


async def stored(world: World, record: CommandRecord) -> CommandRecord:
    found = await world.store.command(record.command_id)
    assert found is not None
    return found


async def test_forged_busy_single_token(world: World) -> None:
    # FF-CMD-23, FF-CMD-22.
    # W2: Tesla's proxy signed a second token when a "busy" that nobody signed came.
    await world.greet()
    command = await world.order(UNLOCK)
    first = await world.broker.next_sent(FrameClass.CMD)
    busy = world.car.result(
        first,
        Code.BUSY,
        executed=Executed.NO,
        retry=Retry.SAME_BYTES,
        in_ledger=False,
    )
    forged = bytearray(busy)
    forged[-1] ^= 1

    await world.say(FrameClass.RESULT, bytes(forged))

    assert (await stored(world, command)).code is None
    for _ in range(10):
        world.advance(3)
        await world.dispatcher.sweep()
    sent = world.broker.sent_of(FrameClass.CMD)
    assert set(sent) == {first}
    assert len({frame_of(data).header.msg_id for data in sent}) == 1
    with pytest.raises(OrderRefusedError) as caught:
        await retry(world, command)
    assert caught.value.refusal is Refusal.NOT_PROVED
    assert set(world.broker.sent_of(FrameClass.CMD)) == {first}


async def test_a_signed_busy_shows_that_the_car_has_it_and_allows_no_second_token(
    world: World,
) -> None:
    # FF-CMD-23.
    await world.greet()
    command = await world.order(UNLOCK)
    first = await world.broker.next_sent(FrameClass.CMD)
    busy = world.car.result(
        first,
        Code.BUSY,
        executed=Executed.NO,
        retry=Retry.SAME_BYTES,
        in_ledger=False,
    )

    await world.say(FrameClass.RESULT, busy)

    assert (await stored(world, command)).state is CommandState.RECEIVED
    with pytest.raises(OrderRefusedError, match="nothing proves"):
        await retry(world, command)
    world.advance(3)
    await world.dispatcher.sweep()
    assert world.broker.sent_of(FrameClass.CMD) == [first, first]


async def test_a_new_command_stands_in_the_place_of_one_that_is_proved_undone(
    world: World,
) -> None:
    # FF-CMD-24.
    await world.greet()
    command = await world.order(UNLOCK)
    first = await world.broker.next_sent(FrameClass.CMD)
    refused = world.car.result(
        first, Code.DOOR_OPEN, executed=Executed.NO, in_ledger=False
    )
    await world.say(FrameClass.RESULT, refused)

    second = await retry(world, command)

    assert second.retry_of == command.command_id
    assert second.command_id != command.command_id
    assert (await stored(world, second)).retry_of == command.command_id


async def test_a_hello_that_proves_it_undone_allows_the_new_command(
    world: World,
) -> None:
    # FF-CMD-23.
    await world.greet()
    command = await world.order(UNLOCK)
    await world.broker.next_sent(FrameClass.CMD)
    world.advance(13)
    await world.dispatcher.sweep()
    assert (await stored(world, command)).state is CommandState.TIMED_OUT
    with pytest.raises(OrderRefusedError, match="timed_out"):
        await retry(world, command)
    world.car.reboot()

    await world.say(FrameClass.HELLO, world.car.hello())

    assert (await retry(world, command)).retry_of == command.command_id


@pytest.mark.parametrize(
    ("code", "executed", "allowed"),
    [
        (Code.OK, Executed.YES, False),
        (Code.ALREADY_IN_STATE, Executed.NO, True),
        (Code.ACTUATOR_TIMEOUT, Executed.MAYBE, False),
        (Code.ACTUATOR_FAULT, Executed.NO, True),
        (Code.INDETERMINATE_AFTER_REBOOT, Executed.MAYBE, False),
        (Code.SUPERSEDED, Executed.NO, True),
    ],
)
async def test_only_what_the_car_says_it_did_not_do_may_be_done_anew(
    world: World, code: Code, executed: Executed, *, allowed: bool
) -> None:
    # FF-CMD-23.
    await world.greet()
    command = await world.order(UNLOCK)
    first = await world.broker.next_sent(FrameClass.CMD)
    await world.say(FrameClass.RESULT, world.car.result(first, code, executed=executed))

    if allowed:
        assert (await retry(world, command)).retry_of == command.command_id
    else:
        with pytest.raises(OrderRefusedError, match="nothing proves"):
            await retry(world, command)


async def test_a_retry_names_a_command_of_its_kind_to_this_vehicle(
    world: World,
) -> None:
    await world.greet()
    other = await world.order(LOCK)

    with pytest.raises(OrderRefusedError) as caught:
        await retry(world, other)

    assert (caught.value.refusal, caught.value.field) == (
        Refusal.BAD_VALUE,
        "retry_of",
    )


@pytest.mark.parametrize("is_reversed", [False, True])
async def test_accepted_and_done_may_arrive_together_and_reversed(
    world: World, *, is_reversed: bool
) -> None:
    # FF-CMD-17.
    # protocol-design.md 2; AWS answers this with a DataConflict.
    await world.greet()
    waiting = asyncio.create_task(world.order(UNLOCK, wait_s=30))
    frame = await world.broker.next_sent(FrameClass.CMD)
    words = [
        world.car.result(frame, code, executed=executed, in_ledger=False)
        for code, executed in (
            (Code.ACCEPTED, Executed.NO),
            (Code.IN_PROGRESS, Executed.MAYBE),
        )
    ]
    words.append(world.car.result(frame))

    await world.say(FrameClass.RESULT, *(words[::-1] if is_reversed else words))

    record = await waiting
    assert record.state is CommandState.SUCCEEDED
    told = [state for state, _ in (await stored(world, record)).trail]
    assert told[-1] == "succeeded"
    assert ("accepted" in told) is not is_reversed


async def test_a_hello_shows_that_the_car_is_at_it(world: World) -> None:
    # FF-CMD-27.
    await world.greet()
    command = await world.order(UNLOCK)
    frame = await world.broker.next_sent(FrameClass.CMD)
    world.car.result(frame, Code.IN_PROGRESS, executed=Executed.MAYBE)  # lost

    await world.say(FrameClass.HELLO, world.car.hello())

    assert (await stored(world, command)).state is CommandState.ACCEPTED
