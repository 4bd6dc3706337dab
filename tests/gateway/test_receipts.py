"""Receipts: nothing else frees an entry (I-22, L1)."""

from collections.abc import Callable

import pytest

from protocol.codes import Code, FrameClass
from protocol.receipt import Gap, Reject
from tests.gateway.fleet_end import COMMAND_KEY, STRANGER_KEY
from tests.gateway.oracle import require_order, require_sound
from tests.gateway.world import World


async def unreceipted_world() -> World:
    """Return a world with a finished rental and no receipt for any of it."""
    world = World()
    world.fleet.gives_receipts = False
    await world.start()
    await world.begin_rental()
    await world.end_rental()
    return world


async def test_a_withheld_receipt_keeps_every_entry_although_the_broker_took_it() -> (
    None
):
    # FF-LED-07.
    world = await unreceipted_world()

    kept = await world.kept()

    assert kept == sorted(world.fleet.entries)
    assert len(kept) > 5
    await world.stop()


async def test_a_receipt_frees_what_it_covers_and_no_more() -> None:
    # FF-RCP-09.
    world = await unreceipted_world()
    newest = world.fleet.contiguous

    world.air.deliver(FrameClass.RECEIPT, world.fleet.receipt(upto=3))
    await world.settle()

    assert await world.kept() == list(range(4, newest + 1))
    await world.stop()


@pytest.mark.parametrize(
    "forge",
    [
        pytest.param(
            lambda w: w.fleet.receipt(key=STRANGER_KEY), id="by a stranger's key"
        ),
        pytest.param(
            lambda w: w.fleet.receipt(key=COMMAND_KEY), id="by a key of another role"
        ),
        pytest.param(
            lambda w: w.fleet.receipt(head_hash=bytes(32)), id="with another hash"
        ),
        pytest.param(
            lambda w: w.fleet.receipt(upto=w.fleet.contiguous + 1, head_hash=bytes(32)),
            id="beyond the head",
        ),
        pytest.param(
            lambda w: w.fleet.receipt(ledger_id=bytes(8)), id="of another ledger"
        ),
        pytest.param(
            lambda w: w.fleet.receipt()[:-1] + b"\0", id="with a broken signature"
        ),
        pytest.param(lambda _world: b"receipt", id="that is no frame"),
    ],
)
async def test_a_receipt_that_is_not_genuine_frees_nothing(
    forge: Callable[[World], bytes],
) -> None:
    # FF-RCP-04, FF-RCP-07, FF-RCP-08.
    world = await unreceipted_world()
    before = await world.kept()

    world.air.deliver(FrameClass.RECEIPT, forge(world))
    await world.settle()

    assert await world.kept() == before
    assert sum(world.gateway.dropped.values()) == 1
    await world.stop()


async def test_a_replayed_receipt_frees_nothing_newer() -> None:
    # FF-RCP-09.
    world = await unreceipted_world()
    old = world.fleet.receipt()
    world.air.deliver(FrameClass.RECEIPT, old)
    await world.settle()
    await world.begin_rental()
    before = await world.kept()

    world.air.deliver(FrameClass.RECEIPT, old)
    await world.settle()

    assert before
    assert await world.kept() == before
    await world.stop()


async def test_a_receipt_survives_a_power_cut() -> None:
    world = await unreceipted_world()
    world.air.deliver(FrameClass.RECEIPT, world.fleet.receipt())
    await world.settle()
    newest = world.fleet.contiguous

    await world.power_cut()

    assert await world.kept() == [newest + 1]
    assert world.fleet.hellos[-1].oldest_unreceipted == newest + 1
    await world.stop()


async def test_what_the_fleet_missed_is_sent_again_bit_by_bit() -> None:
    # FF-RCP-13, FF-LED-06.
    # Gaps; the fleet's double fails the test on any other bytes (I-27).
    world = await unreceipted_world()
    newest = world.fleet.contiguous
    copies = dict(world.fleet.copies)

    world.air.deliver(
        FrameClass.RECEIPT, world.fleet.receipt(upto=1, gaps=(Gap(2, 3), Gap(5, 5)))
    )
    await world.settle()

    again = {seq for seq in copies if world.fleet.copies[seq] > copies[seq]}
    assert again == {2, 3, 5}
    assert world.fleet.contiguous == newest
    await world.stop()


async def test_without_a_receipt_entries_are_sent_again_ever_more_rarely() -> None:
    # FF-HEL-03.
    # A bridge that was away when an entry passed never saw it (L1).
    world = World()
    world.fleet.gives_receipts = False
    world.air.is_deaf = True
    await world.start()
    await world.advance(3_600.0)

    sent = len(world.air.frames(FrameClass.EVENT))
    hellos = len(world.air.frames(FrameClass.HELLO))
    assert 10 < sent < 20
    assert 10 < hellos < 20
    world.air.is_deaf = False
    world.fleet.gives_receipts = True
    await world.advance(301.0)
    assert await world.kept() == []
    await world.stop()


async def test_entries_arrive_in_the_order_of_the_ledger_after_an_outage() -> None:
    async with World() as world:
        await world.begin_rental()
        world.air.cut()
        await world.advance(30.0)
        await world.end_rental()
        assert world.reports() == []

        world.air.restore()
        await world.advance(60.0)

        require_order(world)
        assert len(world.reports()) == 1
        assert await world.kept() == []
        await require_sound(world)


async def test_credit_bounds_what_is_under_way() -> None:
    # FF-RCP-14.
    world = World(is_online=False)
    world.fleet.credit = 2
    world.fleet.gives_receipts = False
    await world.start()
    for _ in range(40):
        await world.restart()
    world.air.restore()
    await world.advance(10.0)

    # The first credit of a session is the car's own; then the fleet's.
    assert len(world.fleet.entries) == 32
    world.fleet.gives_receipts = True
    world.fleet.give_receipt()
    await world.advance(1.0)
    assert world.fleet.contiguous == 41
    await world.stop()


async def test_a_rejected_entry_is_kept_aside_and_never_sent_again() -> None:
    # FF-RCP-10.
    # Row 27: no endless loop and no silent drop.
    world = await unreceipted_world()
    newest = world.fleet.contiguous
    reject = Reject(3, Code.NON_CANONICAL)

    world.air.deliver(
        FrameClass.RECEIPT, world.fleet.receipt(upto=newest, rejects=(reject,))
    )
    await world.settle()

    assert await world.kept() == []
    assert world.store is not None
    ((entry, code),) = await world.store.dead_letters()  # type: ignore[attr-defined] # the production store's
    assert (entry.seq, code) == (3, Code.NON_CANONICAL)
    assert entry.frame == world.fleet.entries[3]
    await world.stop()


async def test_an_entry_rejected_ahead_of_its_receipt_stops_no_other() -> None:
    # FF-RCP-10.
    world = await unreceipted_world()
    newest = world.fleet.contiguous
    reject = Reject(newest, Code.BAD_PARAM)
    world.air.deliver(
        FrameClass.RECEIPT, world.fleet.receipt(upto=2, rejects=(reject,))
    )
    await world.settle()
    assert newest not in await world.kept()

    await world.power_cut()
    world.fleet.gives_receipts = True
    world.fleet.give_receipt()
    await world.advance(1.0)

    assert world.is_running
    assert await world.kept() == []
    await world.stop()
