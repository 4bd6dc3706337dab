"""A car that lost its ledger: it starts, serves, says so, and tells what is left."""

import apsw
import pytest

from gateway.storage.quarantine import quarantined
from protocol.codes import FaultKind, FrameClass, RentalMode
from protocol.entry import entry_hash
from protocol.event import AgentStarted, FaultRaised, RentalEnded
from protocol.rental_codes import ResetReason
from protocol.vehicle_event import LedgerReset
from tests.depth import some
from tests.gateway.powerloss import DiskVfs
from tests.gateway.world import LEDGER, World

pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)


async def damage(world: World, statement: str) -> None:
    """Spoil the ledger of a car that is switched off."""
    await world.crash()
    vfs = DiskVfs(world.disk)
    connection = apsw.Connection(str(LEDGER), vfs=vfs.name)
    connection.execute("pragma locking_mode = exclusive")
    connection.execute("drop trigger entry_is_immutable;" + statement)
    connection.close()
    vfs.unregister()


async def lose(world: World) -> None:
    """Take the ledger, its log and its notes away."""
    await world.crash()
    for name in [name for name in world.disk.files if name.startswith(str(LEDGER))]:
        del world.disk.files[name]


async def test_a_damaged_ledger_is_replaced_and_the_car_serves() -> None:
    # Row 5, FF-LED-09, FF-LED-10.
    world = World()
    world.fleet.gives_receipts = False
    await world.start()
    await world.begin_rental()
    await world.end_rental()
    old = world.fleet.head()

    await damage(world, "update entry set frame = zeroblob(300) where seq = 2")
    await world.start()

    assert world.is_running
    reset, raised, started = world.fleet.events()
    assert isinstance(reset, LedgerReset)
    assert raised == FaultRaised(FaultKind.LEDGER_LOST)
    assert reset.previous_ledger_id == old.ledger_id
    assert (reset.previous_head_seq, reset.previous_head_hash) == (old.seq, old.hash)
    assert reset.reason is ResetReason.CORRUPT
    assert isinstance(started, AgentStarted)
    assert world.gateway.state.mode is RentalMode.AVAILABLE
    vfs = DiskVfs(world.disk)
    assert len(quarantined(vfs.files, LEDGER)) == 1
    vfs.unregister()
    world.fleet.gives_receipts = True
    world.fleet.give_receipt()
    await world.begin_rental()
    await world.end_rental()
    assert len(world.reports()) == 1
    assert await world.kept() == []
    await world.stop()


async def test_a_rental_end_reaches_the_fleet_out_of_a_damaged_ledger() -> None:
    # I-21: also when nothing of it had been sent.
    world = World()
    await world.start()
    await world.begin_rental()
    world.air.cut()
    await world.end_rental()
    assert world.state.mode is RentalMode.AVAILABLE
    ledger_id, newest = world.fleet.ledger_id, world.written()[-1].seq
    await damage(world, "update vehicle set state = x'7b7d'")
    world.air.restore()

    await world.start()

    arrived = world.fleet.older[ledger_id]
    assert max(arrived) == newest
    assert sorted(arrived) == list(range(1, newest + 1))
    await world.restart()
    world.air.deliver(
        FrameClass.RECEIPT,
        world.fleet.receipt(
            upto=newest, head_hash=entry_hash(arrived[newest]), ledger_id=ledger_id
        ),
    )
    await world.settle()
    sent = len(world.air.up)
    await world.restart()
    frames = {data for _, data in world.air.up[sent:]}
    assert not frames & set(arrived.values())
    assert world.gateway.dropped == {}
    await world.stop()


async def test_a_receipt_of_the_old_ledger_with_another_hash_frees_nothing() -> None:
    # FF-RCP-07, FF-RCP-08.
    # I-22 holds for what was salvaged too.
    world = World()
    world.fleet.gives_receipts = False
    await world.start()
    await world.begin_rental()
    ledger_id = world.fleet.ledger_id
    newest = world.fleet.contiguous
    await damage(world, "update vehicle set state = x'7b7d'")
    await world.start()

    for upto in (newest, newest + 1):
        forged = world.fleet.receipt(
            upto=upto, head_hash=bytes(32), ledger_id=ledger_id
        )
        world.air.deliver(FrameClass.RECEIPT, forged)
        await world.settle()

    assert sum(world.gateway.dropped.values()) == 2
    sent = len(world.air.up)
    await world.restart()
    frames = {data for _, data in world.air.up[sent:]}
    assert set(world.fleet.older[ledger_id].values()) <= frames
    await world.stop()


async def test_a_lost_ledger_says_what_it_replaces() -> None:
    # Row 5: the marker in the identity directory tells it from a first start.
    world = World()
    await world.start()
    await world.begin_rental()
    ledger_id, hellos = world.fleet.ledger_id, len(world.fleet.hellos)
    boot = int.from_bytes(world.fleet.session_id[:4], "big")

    await lose(world)
    await world.start()

    reset = world.fleet.events()[0]
    assert isinstance(reset, LedgerReset)
    assert (reset.previous_ledger_id, reset.reason) == (ledger_id, ResetReason.LOST)
    assert len(world.fleet.hellos) > hellos
    # FF-HEL: the count of starts never goes back, or a fleet would take no hello.
    assert int.from_bytes(world.fleet.session_id[:4], "big") > boot
    await world.power_cut()
    assert sum(isinstance(e, LedgerReset) for e in world.fleet.events()) == 1
    await world.stop()


async def test_a_power_cut_at_every_write_of_a_reset_tells_it_once() -> None:
    # I-28: between the new file, its first entry and the agent's start.
    world = World()
    await world.start()
    await lose(world)
    before = world.disk.operations
    await world.start()
    await world.stop()
    for cut_at in some(range(world.disk.operations - before), one_in=9):
        world = World(seed=cut_at)
        await world.start()
        ledger_id = world.fleet.ledger_id
        await lose(world)
        world.disk.cut_at = world.disk.operations + cut_at
        await world.start()
        await world.power_cut()

        events = world.fleet.events()
        assert isinstance(events[0], LedgerReset), cut_at
        assert events[0].previous_ledger_id == ledger_id
        assert sum(isinstance(event, LedgerReset) for event in events) == 1
        await world.begin_rental()
        await world.end_rental()
        assert sum(isinstance(e, RentalEnded) for e in world.fleet.events()) == 1
        await world.stop()
