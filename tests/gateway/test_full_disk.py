"""A disk that fills, and stays full: promises are kept, and nothing is lost (I-20).

The ledger may grow to a small bound, and the reserve is small, so that few steps fill
it. Receipts may be withheld for ever, and the disk refuses writes now and then.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import apsw
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.core.events import ReaderLost, ReaderRecovered
from gateway.ports import Store
from gateway.runtime import committer, intake, room
from gateway.storage.errors import StoreFullError
from gateway.storage.ledger_store import LedgerStore
from gateway.storage.worker import InlineWorker
from protocol.codes import RentalMode
from protocol.command import ANY_VERSION, Ping
from protocol.snapshot import NO_RENTAL
from tests.depth import times
from tests.gateway.oracle import require_order, require_sound, starts
from tests.gateway.powerloss import DiskVfs
from tests.gateway.world import (
    ALICE,
    LEDGER,
    MALLORY,
    SIGNER,
    SeededBytes,
    World,
    reservation,
)

T = TypeVar("T")

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PING = Ping(NO_RENTAL, ANY_VERSION, bytes(16))
LIMIT_KIB = 288
RESERVED_KIB = 128
"""A quarter of it, kept for the rental under way, is three rentals of 10 KiB."""


def small_store(vfs: DiskVfs) -> Store:
    return LedgerStore(
        LEDGER,
        worker=InlineWorker(),
        random_bytes=SeededBytes(vfs.mount),
        limit_kib=LIMIT_KIB,
        checkpoint_pages=12,
        signer=SIGNER,
        vfs=vfs.name,
        files=vfs.files,
    )


class FillingDisk(RuleBasedStateMachine):
    """Rentals, strangers, a busy fleet, and no room."""

    fleet_is_silent = False
    """Whether nothing is ever receipted before the end."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.world = World(store=small_store)
        self.rentals = 0
        self.do(self.world.start())

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def pass_time(self, seconds: float) -> None:
        self.do(self.world.advance(seconds))

    @property
    def free_kib(self) -> int:
        assert self.world.store is not None
        return self.world.store.free_kib()

    @initialize()
    def withhold_receipts(self) -> None:
        self.world.fleet.gives_receipts = False

    @precondition(lambda self: self.world.state.mode is RentalMode.AVAILABLE)
    @rule()
    def rent(self) -> None:
        self.rentals += 1
        free_kib = self.free_kib
        wanted = reservation(
            b"rental--" + self.rentals.to_bytes(8, "big"), ALICE, world=self.world
        )
        self.world.fleet.send(wanted)
        self.pass_time(3.0)
        # I-20: no new rental without room for its end.
        is_taken = self.world.state.mode is RentalMode.RESERVED
        assert is_taken == (free_kib >= RESERVED_KIB)
        if is_taken:
            self.world.present(ALICE)
            self.pass_time(3.0)
            assert self.world.state.mode is RentalMode.STOPPED

    @precondition(lambda self: self.world.state.mode is RentalMode.STOPPED)
    @rule()
    def end(self) -> None:
        ended = self.rentals_told()
        self.pass_time(10.0)
        self.world.present(ALICE)
        self.pass_time(3.0)
        # I-20, I-21: whatever filled the disk meanwhile, a rental ends by its card, and
        # its report is durable.
        assert self.world.state.mode is RentalMode.AVAILABLE
        assert self.rentals_told() == ended + 1

    def rentals_told(self) -> int:
        return sum(
            type(body).__name__ == "RentalEnded"
            for step in self.world.steps
            for body in step.decision.entries
        )

    @rule(count=st.integers(10, 60))
    def be_a_busy_fleet(self, count: int) -> None:
        for _ in range(count):
            self.world.fleet.send(PING)
        self.pass_time(3.0)

    @rule(count=st.integers(1, 12))
    def be_a_stranger_at_the_windscreen(self, count: int) -> None:
        for _ in range(count):
            self.world.present(MALLORY)
            self.pass_time(31.0)

    @rule(count=st.integers(1, 20))
    def shake_a_loose_cable(self, count: int) -> None:
        for _ in range(count):
            self.world.gateway.report(ReaderLost())
            self.pass_time(0.5)
            self.world.gateway.report(ReaderRecovered())
            self.pass_time(0.5)

    @precondition(lambda self: not self.fleet_is_silent)
    @rule()
    def give_receipts_or_withhold_them(self) -> None:
        self.world.fleet.gives_receipts = not self.world.fleet.gives_receipts
        if self.world.fleet.gives_receipts:
            self.world.fleet.give_receipt()
        self.pass_time(1.0)

    @rule(kind=st.sampled_from(["write", "sync"]))
    def refuse_writes_for_a_while(self, kind: str) -> None:
        self.world.disk.fault = lambda asked, _name: (
            apsw.FullError("planted") if asked == kind else None
        )
        self.world.present(MALLORY)
        self.world.fleet.send(PING)
        self.pass_time(35.0)
        self.world.disk.fault = None
        self.pass_time(35.0)

    @rule()
    def restart(self) -> None:
        self.do(self.world.restart())

    @rule()
    def lose_and_find_the_link(self) -> None:
        self.world.air.cut()
        self.pass_time(600.0)
        self.world.air.restore()
        self.pass_time(70.0)

    @invariant()
    def nothing_is_lost(self) -> None:
        self.do(require_sound(self.world, lock_commands=starts(self.world)))
        require_order(self.world)
        # What waits for a receipt is there, from the first to the newest.
        held = self.do(self.world.kept())
        assert held == list(range(min(held, default=1), max(held, default=0) + 1))
        assert len(self.world.disk.files[str(LEDGER)].cache) <= LIMIT_KIB * 1024

    def teardown(self) -> None:
        try:
            self.world.fleet.gives_receipts = True
            self.world.air.restore()
            self.world.fleet.give_receipt()
            self.pass_time(700.0)
            assert self.do(self.world.kept()) == []
        finally:
            self.do(self.world.stop())
            self.loop.close()


class SilentFleet(FillingDisk):
    fleet_is_silent = True


def check(machine: type[FillingDisk], *, examples: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            database=None,
            derandomize=True,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture(autouse=True)
def small_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "RESERVED_KIB", RESERVED_KIB)


def test_a_rental_ends_and_is_told_however_the_disk_fills() -> None:
    # FF-CMD-16, FF-LED-07, FF-LED-11.
    # I-20, row 3.
    check(FillingDisk, examples=times(3, deep=60))
    check(SilentFleet, examples=times(2, deep=60))


async def fill(world: World) -> None:
    """Have a fleet that receipts nothing ask and ask, and the agent start again."""
    assert world.store is not None
    before = -1
    while world.is_running and world.store.free_kib() != before:
        before = world.store.free_kib()
        for _ in range(50):
            world.fleet.send(PING)
        await world.advance(3.0)
    for _ in range(20):
        await world.restart()
        if not world.is_running:
            return


@pytest.mark.parametrize("is_planted", [False, True])
async def test_orders_and_restarts_do_not_use_up_a_rentals_room(
    monkeypatch: pytest.MonkeyPatch, is_planted: bool
) -> None:
    # FF-LED-11.
    # I-20, and a planted bug, as it was: the agent could not even start any more.
    if is_planted:
        for user in (intake, committer):
            monkeypatch.setattr(user, "is_kept_for_rental", lambda _store: False)
    world = World(store=small_store)
    world.fleet.gives_receipts = False
    async with world:
        await world.begin_rental()
        await fill(world)

        if is_planted:
            assert isinstance(world.failure, StoreFullError)
            return
        assert world.is_running
        await world.end_rental()
        assert world.state.mode is RentalMode.AVAILABLE
        await require_sound(world, lock_commands=starts(world))
