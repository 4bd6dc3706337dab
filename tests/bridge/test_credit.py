"""Credit slows cars down and never stops them (L4)."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.credit import CREDIT_LEAST, CREDIT_MOST, credit_for
from bridge.intake import BATCH_LIMIT, GATHER_LIMIT
from protocol.codes import FrameClass
from protocol.event import EngineStarted
from tests.bridge.car import RENTAL, receipt_of
from tests.bridge.world import World

LIMITS = st.integers(1, 10_000)
WAITING = st.integers(0, 20_000)


@given(WAITING, LIMITS)
def test_credit_is_never_nothing_and_never_more_than_everything(
    waiting: int, limit: int
) -> None:
    assert CREDIT_LEAST <= credit_for(waiting, limit) <= CREDIT_MOST


@given(WAITING, WAITING, LIMITS)
def test_more_waiting_never_gives_more(first: int, second: int, limit: int) -> None:
    less, more = sorted((first, second))

    assert credit_for(more, limit) <= credit_for(less, limit)


def test_an_idle_bridge_gives_everything_and_a_full_one_the_least() -> None:
    assert credit_for(0, GATHER_LIMIT) == CREDIT_MOST
    assert credit_for(GATHER_LIMIT, GATHER_LIMIT) == CREDIT_LEAST


async def test_a_receipt_gives_less_while_more_waits(world: World) -> None:
    # All of it is delivered before the bridge looks: some full batches are under way,
    # the rest waits.
    await world.greet()
    frames = [
        world.car.event(EngineStarted(RENTAL, 1_000))
        for _ in range(2 * BATCH_LIMIT + 800)
    ]

    await world.say(FrameClass.EVENT, *frames)

    receipt = receipt_of(await world.broker.next_sent(FrameClass.RECEIPT))
    while receipt.upto < len(frames):
        receipt = receipt_of(await world.broker.next_sent(FrameClass.RECEIPT))
    given_out = [
        receipt_of(data).credit
        for data in world.broker.sent_of(FrameClass.RECEIPT)
        if receipt_of(data).upto
    ]
    assert given_out[0] < given_out[-1] == CREDIT_MOST
