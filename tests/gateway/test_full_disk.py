"""A disk that fills, and stays full: promises are kept, and nothing is lost (I-20).

The ledger may grow to a small bound, and the reserve is small, so that few steps fill
it. Receipts may be withheld for ever, others write to the same disk, and it refuses
writes now and then.
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
from protocol.codes import Code, LockDefault, RentalMode
from protocol.command import ANY_VERSION, Ping, Unlock
from protocol.identity import card_digest
from protocol.rental_codes import GrantAction, Rights
from protocol.rental_command import Grant, HandoverOffer
from protocol.snapshot import NO_RENTAL
from tests.depth import UNCOUNTED, times
from tests.gateway.oracle import require_order, require_sound, starts
from tests.gateway.powerloss import Disk, DiskVfs
from tests.gateway.world import (
    ALICE,
    LEDGER,
    MALLORY,
    PIN,
    SIGNER,
    SeededBytes,
    World,
    reservation,
)

T = TypeVar("T")

pytestmark = [
    UNCOUNTED,
    pytest.mark.timeout(1_200),  # seconds: the deep form, on a loaded machine
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

BOB = bytes.fromhex("04b0b0b0b0b0b0")
"""The card of who takes the car over."""
CAROL = bytes.fromhex("04c0c0c0c0c0c0")
"""The card of who comes with a grant."""
PING = Ping(NO_RENTAL, ANY_VERSION, bytes(16))
LIMIT_KIB = 288
RESERVED_KIB = 128
"""A quarter of it, kept for the rental under way, is three rentals of 10 KiB."""
PROMISED_KIB = 16
"""An eighth of it: with less not even a reservation of before is opened (ADR 26)."""
OTHERS_LEAVE = st.sampled_from([None, None, 100, 24, 12])
"""KiB; None for enough."""


class CrowdedStore(LedgerStore):
    """A store on a disk that it shares with others."""

    def __init__(self, *args: Any, disk: Disk, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self._disk = disk

    def free_kib(self) -> int:
        free_kib, left_kib = super().free_kib(), self._disk.free_kib
        return free_kib if left_kib is None else min(free_kib, left_kib)


def small_store(vfs: DiskVfs) -> Store:
    return CrowdedStore(
        LEDGER,
        worker=InlineWorker(),
        random_bytes=SeededBytes(vfs.mount),
        limit_kib=LIMIT_KIB,
        checkpoint_pages=12,
        signer=SIGNER,
        vfs=vfs.name,
        files=vfs.files,
        disk=vfs.disk,
    )


def grant_for(uid: bytes, rental_id: bytes, *, world: World) -> Grant:
    now = world.clock.now()
    return Grant(
        rental_id=rental_id,
        expected_version=ANY_VERSION,
        action=GrantAction.ADD,
        grant_id=rental_id,
        card=card_digest(rental_id, uid),
        not_before_wall_ms=now.wall_ms - 1,
        not_after_wall_ms=now.wall_ms + 900_000,
        rights=Rights.UNLOCK | Rights.DRIVE,
        lock_default=LockDefault.END,
        language=b"de",
        sealed=b"sealed",
    )


def offer_to(
    uid: bytes, offer_id: bytes, rental_id: bytes, *, world: World
) -> HandoverOffer:
    return HandoverOffer(
        rental_id=rental_id,
        expected_version=ANY_VERSION,
        offer_id=offer_id,
        until_ms=world.clock.boot_ms + 900_000,
        latitude_e7=0,
        longitude_e7=0,
        cards=(card_digest(offer_id, uid),),
        sealed=b"sealed",
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
        self.renter = ALICE
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

    def new_id(self) -> bytes:
        self.rentals += 1
        return b"rental--" + self.rentals.to_bytes(8, "big")

    def others_leave(self, left_kib: int | None) -> None:
        self.world.disk.leave(left_kib)

    @precondition(lambda self: self.world.state.mode is RentalMode.AVAILABLE)
    @rule(before_kib=OTHERS_LEAVE, left_kib=OTHERS_LEAVE)
    def rent(self, before_kib: int | None, left_kib: int | None) -> None:
        self.others_leave(before_kib)
        free_kib = self.free_kib
        self.world.fleet.send(reservation(self.new_id(), ALICE, world=self.world))
        self.pass_time(3.0)
        # I-20: no new rental without room for its end.
        is_taken = self.world.state.mode is RentalMode.RESERVED
        assert is_taken == (free_kib >= RESERVED_KIB)
        if not is_taken:
            return
        self.others_leave(left_kib)
        free_kib = self.free_kib
        self.tap(ALICE)
        # What was promised is kept while it can be recorded to its end.
        is_kept = self.world.state.mode is RentalMode.STOPPED
        assert is_kept == (free_kib >= PROMISED_KIB)
        if not is_kept:
            assert self.world.state.mode is RentalMode.RESERVED
            self.others_leave(None)
            self.tap(ALICE)
        assert self.world.state.mode is RentalMode.STOPPED
        self.renter = ALICE

    @precondition(lambda self: self.world.state.mode is RentalMode.AVAILABLE)
    @rule(left_kib=OTHERS_LEAVE)
    def rent_by_a_grant(self, left_kib: int | None) -> None:
        self.others_leave(None)
        self.world.fleet.send(grant_for(CAROL, self.new_id(), world=self.world))
        self.pass_time(1.0)
        if not self.world.state.grants:
            assert self.free_kib < RESERVED_KIB
            return
        held = self.world.state.grants
        self.others_leave(left_kib)
        free_kib = self.free_kib
        self.tap(CAROL)
        # I-20, H14: as by the fleet's word; a grant that began nothing is not spent.
        is_taken = self.world.state.mode is RentalMode.STOPPED
        assert is_taken == (free_kib >= RESERVED_KIB)
        assert len(held) - len(self.world.state.grants) == is_taken
        if is_taken:
            self.renter = CAROL

    @precondition(lambda self: self.world.state.mode is RentalMode.STOPPED)
    @rule(left_kib=OTHERS_LEAVE)
    def hand_over(self, left_kib: int | None) -> None:
        self.others_leave(None)
        first = self.world.state.rental_id
        assert first is not None
        offer = offer_to(BOB, self.new_id(), first, world=self.world)
        self.world.fleet.send(offer)
        self.pass_time(1.0)
        self.tap(BOB)
        rental = self.world.state.rental
        assert rental is not None
        assert rental.handover is not None
        is_asked = rental.handover.asks_pin_until_ms is not None
        self.others_leave(left_kib)
        free_kib = self.free_kib
        ended = self.rentals_told()
        self.world.display.type_pin(PIN)
        self.pass_time(3.0)
        # I-20, H11: the second rental is a new one, and the first goes on without it.
        is_handed_over = self.world.state.rental_id == offer.offer_id
        assert is_handed_over == (is_asked and free_kib >= RESERVED_KIB)
        assert self.rentals_told() - ended == is_handed_over
        assert self.world.state.rental_id == (
            offer.offer_id if is_handed_over else first
        )
        if is_handed_over:
            self.renter = BOB

    def tap(self, uid: bytes) -> None:
        self.world.present(uid)
        self.pass_time(3.0)

    @precondition(lambda self: self.world.state.mode is RentalMode.STOPPED)
    @rule()
    def end(self) -> None:
        ended = self.rentals_told()
        self.pass_time(10.0)
        self.tap(self.renter)
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
            self.world.disk.leave(None)
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
    check(FillingDisk, examples=times(6, deep=60))
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


@pytest.mark.parametrize(
    ("left_kib", "begins"),
    [(RESERVED_KIB, True), (RESERVED_KIB - 1, False), (0, False)],
)
async def test_a_grant_begins_a_rental_only_where_it_can_be_recorded(
    left_kib: int, begins: bool
) -> None:
    # FF-CMD-16.
    # I-20, H14, row 3: the disk fills after the grant was given.
    async with World(store=small_store) as world:
        world.fleet.send(grant_for(CAROL, b"g" * 16, world=world))
        await world.advance(1.0)
        world.disk.leave(left_kib)

        world.present(CAROL)
        await world.advance(1.0)

        assert (world.state.mode is RentalMode.STOPPED) == begins
        assert bool(world.state.grants) == (not begins)
        world.disk.leave(None)
        await world.advance(3.0)
        world.present(CAROL)
        await world.advance(1.0)
        assert world.state.mode is RentalMode.STOPPED


@pytest.mark.parametrize(
    ("left_kib", "begins"),
    [(PROMISED_KIB, True), (PROMISED_KIB - 1, False), (0, False)],
)
async def test_a_reservation_is_kept_while_its_rental_can_be_recorded_whole(
    left_kib: int, begins: bool
) -> None:
    # I-20, H1, row 3, ADR 26.
    async with World(store=small_store) as world:
        rental_id = await world.reserve(ALICE)
        world.disk.leave(left_kib)

        unlocked = world.fleet.send(Unlock(rental_id, ANY_VERSION))
        await world.advance(1.0)

        code = Code.OK if begins else Code.STORAGE_FULL
        assert world.fleet.codes_of(unlocked) == [code]
        mode = RentalMode.STOPPED if begins else RentalMode.RESERVED
        assert world.state.mode is mode
        if begins:
            # What was begun by so little room is ended by it.
            await world.end_rental()
            assert len(world.reports()) == 1
            assert world.state.mode is RentalMode.AVAILABLE


@pytest.mark.parametrize(
    ("left_kib", "hands_over"), [(RESERVED_KIB, True), (RESERVED_KIB - 1, False)]
)
async def test_a_disk_that_fills_before_the_second_pin_keeps_the_first_rental(
    left_kib: int, hands_over: bool
) -> None:
    # FF-CMD-16.
    # I-20, H11, row 3.
    async with World(store=small_store) as world:
        first = await world.begin_rental()
        offer = offer_to(BOB, b"s" * 16, first, world=world)
        world.fleet.send(offer)
        await world.advance(1.0)
        world.present(BOB)
        await world.advance(1.0)
        world.disk.leave(left_kib)

        world.display.type_pin(PIN)
        await world.advance(1.0)

        held = offer.offer_id if hands_over else first
        assert world.state.rental_id == held
        assert len(world.reports()) == hands_over
        if not hands_over:
            await world.end_rental()
            assert [told.rental_id for told in world.reports()] == [first]
