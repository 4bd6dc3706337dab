"""What a car's words do not do: end a command by dying, count twice, or wait unread."""

import pytest

from bridge.errors import OrderRefusedError, Refusal
from protocol.codes import FrameClass
from protocol.command import ANY_VERSION, Unlock
from protocol.entry import GENESIS, entry_hash
from protocol.event import AgentStarted
from tests.bridge.car import RENTAL, receipt_of, sample
from tests.bridge.world import World

UNLOCK = Unlock(RENTAL, ANY_VERSION)


async def test_a_death_ends_no_command(world: World) -> None:
    """FF-DTH-05: the link broke; what the car did before nobody knows."""
    await world.greet()
    command = await world.order(UNLOCK)

    await world.say(FrameClass.DEATH, world.car.death())

    still = await world.store.command(command.command_id)
    assert still is not None
    assert not still.state.is_terminal
    assert still.executed is None


async def test_a_hello_that_comes_twice_is_one(world: World) -> None:
    """FF-HEL-10: the broker delivered it again."""
    hello = world.car.hello()
    await world.say(FrameClass.HELLO, hello)
    first = await world.vehicle()

    await world.say(FrameClass.HELLO, hello)

    again = await world.vehicle()
    assert (again.session_id, again.hello_seq) == (first.session_id, first.hello_seq)
    assert "hello went back" not in {seen.note for seen in world.seen}


async def test_nothing_is_signed_for_a_car_that_has_not_spoken(world: World) -> None:
    """FF-FRE-30: its session and its clock are not known."""
    with pytest.raises(OrderRefusedError) as caught:
        await world.order(UNLOCK)

    assert caught.value.refusal is Refusal.OFFLINE
    assert world.broker.sent_of(FrameClass.CMD) == []


@pytest.mark.parametrize(("kind", "schema"), [(0x82FF, 1), (0x8201, 9)])
async def test_telemetry_of_a_newer_car_does_no_harm(
    world: World, kind: int, schema: int
) -> None:
    """FF-EVO-03."""
    await world.greet()
    newer = world.car.sign(
        FrameClass.TELEM, kind, b"something new", seq=1, schema=schema
    )

    await world.say(FrameClass.TELEM, newer)
    await world.say(FrameClass.TELEM, world.car.telemetry(sample(energy_pct=33)))

    assert (await world.vehicle()).twin["energy_pct"].value == 33
    assert await world.store.dead_letters() == []


@pytest.mark.parametrize("signature", [bytes(64), b"\xff" * 64])
async def test_unsigned_result_ends_no_command(world: World, signature: bytes) -> None:
    """FF-CMD-19, FF-SIG-07: "done" is the car's word, or nobody's (downgrade, W1)."""
    await world.greet()
    command = await world.order(UNLOCK)
    frame = await world.broker.next_sent(FrameClass.CMD)
    unsigned = world.car.result(frame)[:-64] + signature

    await world.say(FrameClass.RESULT, unsigned)

    still = await world.store.command(command.command_id)
    assert still is not None
    assert not still.state.is_terminal
    assert len(await world.store.dead_letters()) == 1


async def test_fork_detected_a_backdated_entry_does_not_replace_the_receipted_one(
    world: World,
) -> None:
    """FF-LED-17, FF-LED-15: who owns the car signs its own past anew."""
    world.car.wall_ms = world.now()
    genuine = world.car.event(AgentStarted(1, bytes(4)))
    await world.say(FrameClass.EVENT, genuine)
    await world.broker.next_sent(FrameClass.RECEIPT)
    world.car.seq, world.car.head = 0, GENESIS
    backdated = world.car.event(AgentStarted(1, bytes(4)), wall_ms=world.now() - 10**9)

    await world.say(FrameClass.EVENT, backdated)

    told = receipt_of(await world.broker.next_sent(FrameClass.RECEIPT))
    assert (told.upto, told.head_hash) == (1, entry_hash(genuine))
    assert await world.events() == [
        "freefloat.agent.started",
        "freefloat.ledger.forked",
    ]
    [letter] = await world.store.dead_letters()
    assert letter.data == backdated
