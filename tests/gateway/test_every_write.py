"""Cut, full or broken at every single write of whatever a car keeps (I-28, L13).

Beside the rental (`test_power_cuts`), the ledger's reset and its quarantine, these are
all that a car makes durable: a command with its result, a receipt, a trust bundle, a
configuration, a signing key; and the two places where money changes hands, a payment
that is asked for and a car that is handed over. Each write of each of them is the last
one once: before a power cut that tears the sectors that were not synced, on a full
disk, and on one that fails. Afterwards the old stands or the new, never half; what was
told is kept; and the same work succeeds when it is asked for again.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import apsw
import pytest

from protocol.codes import Code, ConfigKind, FrameClass
from protocol.command import ANY_VERSION, FlashHazards, Ping, RotateKey
from protocol.event import RentalEnded, RentalStarted
from protocol.frame import parse_frame
from protocol.identity import card_digest
from protocol.rental_command import HandoverOffer
from protocol.rental_event import HandoverDone, PaymentRequested
from protocol.snapshot import NO_RENTAL
from protocol.station_list import Station, build_station_list
from protocol.sync import ConfigChunk, ConfigOffer
from protocol.vehicle_event import ConfigurationActivated, KeyRotated, TrustChanged
from tests.depth import UNCOUNTED, some
from tests.gateway.fleet_end import BUNDLE
from tests.gateway.oracle import require_sound
from tests.gateway.test_payment import come_to_the_pump
from tests.gateway.world import PIN, World

pytestmark = [
    UNCOUNTED,
    pytest.mark.timeout(240),
    # apsw warns of errors that SQLite met while it closed or rolled back.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PING: Final = Ping(NO_RENTAL, ANY_VERSION, bytes(16))
BOB: Final = bytes.fromhex("04b0b0b0b0b0b0")
"""The second driver's card."""
STATIONS: Final = build_station_list(
    tuple(Station(n, f"No {n}", 480_000_000 + n, 110_000_000) for n in range(16))
)


class Work(ABC):
    """Something that a car makes durable, and how it is seen whether it did."""

    one_in = 13
    """How many of its writes are tried each time."""

    async def prepare(self, world: World) -> None:
        """Bring the car to where the work begins."""
        await world.advance(1.0)

    @abstractmethod
    async def do(self, world: World) -> None:
        """Ask for it, and let a second pass."""

    @abstractmethod
    async def is_done(self, world: World) -> bool:
        """Return whether it stands; fails if half of it does."""


class ACommand(Work):
    """Accepted, carried out and answered."""

    def __init__(self) -> None:
        self.sent = list[bytes]()

    async def do(self, world: World) -> None:
        self.sent.append(world.fleet.send(FlashHazards(NO_RENTAL, ANY_VERSION, 3)))
        await world.advance(1.0)

    async def is_done(self, world: World) -> bool:
        # Whatever became of it, its sender never sees two ends, and it blinked once.
        for data in self.sent:
            results = [
                code
                for code in world.fleet.codes_of(data)
                if code is not Code.STORAGE_FULL
            ]
            assert len(set(results)) <= 1
            world.air.deliver(FrameClass.CMD, data)
        await world.advance(1.0)
        assert world.board.orders.count("hazards") <= len(self.sent)
        return Code.OK in world.fleet.codes_of(self.sent[-1])


class AReceipt(Work):
    """Frees entries."""

    def __init__(self) -> None:
        self.due = 0

    async def prepare(self, world: World) -> None:
        world.fleet.gives_receipts = False
        for _ in range(4):
            world.fleet.send(PING)
        await world.advance(1.0)
        self.due = world.fleet.contiguous

    async def do(self, world: World) -> None:
        world.fleet.give_receipt()
        await world.advance(1.0)

    async def is_done(self, world: World) -> bool:
        held = await world.kept()
        known = set(held) | world.fleet.entries.keys()
        # I-22, I-27: no entry is lost, and what is kept is a run without a hole.
        assert known == set(range(1, max(known) + 1))
        assert held == list(range(min(held, default=1), max(held, default=0) + 1))
        return min(held, default=self.due + 1) > self.due


class ABundle(Work):
    """Changes whom the car trusts."""

    async def do(self, world: World) -> None:
        world.fleet.publish_trust(replace(BUNDLE, version=2))
        await world.advance(1.0)

    async def is_done(self, world: World) -> bool:
        version = world.fleet.hellos[-1].bundle_version
        told = [e for e in world.fleet.events() if isinstance(e, TrustChanged)]
        assert (version, len(told)) in [(1, 0), (2, 1)], "half a change of trust"
        return version == 2


class AConfiguration(Work):
    """Takes effect whole, or not at all."""

    async def do(self, world: World) -> None:
        digest = hashlib.sha256(STATIONS).digest()
        kind = ConfigKind.STATIONS
        world.fleet.ask(ConfigOffer(kind, 1, len(STATIONS), digest))
        for start in range(0, len(STATIONS), 700):
            part = STATIONS[start : start + 700]
            world.fleet.ask(ConfigChunk(kind, 1, start, part))
        await world.advance(1.0)

    async def is_done(self, world: World) -> bool:
        assert world.store is not None
        body = await world.store.configuration(ConfigKind.STATIONS)
        told = [
            e for e in world.fleet.events() if isinstance(e, ConfigurationActivated)
        ]
        assert body in (None, STATIONS), "half a configuration"
        assert len(told) == (body is not None), "in force and not told, or told twice"
        return body is not None


class AKey(Work):
    """Signs from its entry on."""

    async def do(self, world: World) -> None:
        world.fleet.send(RotateKey(NO_RENTAL, ANY_VERSION))
        await world.advance(1.0)

    async def is_done(self, world: World) -> bool:
        ping = world.fleet.send(PING)
        await world.advance(1.0)
        # FF-ENR-13: the fleet verifies each answer by the key that the ledger names.
        assert world.fleet.codes_of(ping) == [Code.OK]
        told = [e for e in world.fleet.events() if isinstance(e, KeyRotated)]
        answers = [parse_frame(data).header.key_id for _, data in world.fleet.answers]
        assert answers[-1] == world.fleet.car_key.key_id
        return bool(told)


class APayment(Work):
    """Holds the engine from the instant at which the fleet is asked to pay."""

    one_in = 27

    async def prepare(self, world: World) -> None:
        await come_to_the_pump(world)

    async def do(self, world: World) -> None:
        world.display.type_pump(4)
        await world.advance(1.0)

    async def is_done(self, world: World) -> bool:
        rental = world.state.rental
        assert rental is not None
        told = [e for e in world.fleet.events() if isinstance(e, PaymentRequested)]
        # H3: one payment, always of the same id, and the ledger tells what stands.
        assert len(told) == rental.payments <= 1, "half a payment"
        if rental.payment is None:
            assert world.board.car.engine_released, "held for no payment"
            return False
        assert told[0].payment_id == rental.payment.payment_id
        assert not world.board.car.engine_released, "C21: it may drive off unpaid"
        return True


class AHandover(Work):
    """Ends one rental and begins the next, both or none."""

    one_in = 107

    def __init__(self) -> None:
        self.first = b""
        self.offer = b"the second rental"[:16]

    async def prepare(self, world: World) -> None:
        self.first = await world.begin_rental()
        world.display.type_pin(PIN)
        await world.advance(1.0)

    async def do(self, world: World) -> None:
        if world.state.rental_id == self.offer:
            return  # a tap would end the second rental
        # A power cut forgets who was to come; the fleet tells it again.
        world.fleet.send(
            HandoverOffer(
                rental_id=self.first,
                expected_version=ANY_VERSION,
                offer_id=self.offer,
                until_ms=world.clock.now().boot_ms + 900_000,
                latitude_e7=0,
                longitude_e7=0,
                cards=(card_digest(self.offer, BOB),),
                sealed=b"sealed",
            )
        )
        await world.advance(2.0)
        if world.is_running:
            world.present(BOB)
            await world.advance(1.0)
            world.display.type_pin(PIN)
            await world.advance(1.0)

    async def is_done(self, world: World) -> bool:
        events = world.fleet.events()
        done = [e for e in events if isinstance(e, HandoverDone)]
        ended = [e.rental_id for e in events if isinstance(e, RentalEnded)]
        begun = [e.rental_id for e in events if isinstance(e, RentalStarted)]
        # H11: at one instant, so never one without the other.
        assert ended == [self.first] * len(done), "ended and not handed over"
        assert begun == [self.first, self.offer][: len(done) + 1], "half a handover"
        held = self.offer if done else self.first
        assert world.state.rental_id == held
        return bool(done)


WORKS: Final = [
    ACommand,
    AReceipt,
    ABundle,
    AConfiguration,
    AKey,
    APayment,
    AHandover,
]

Failure = Callable[[World, int], Awaitable[None]]
"""Makes the work's n-th write fail."""


async def cut(world: World, at: int) -> None:
    world.disk.cut_at = world.disk.operations + at


def failing(error: type[apsw.Error], *, for_ever: bool) -> Failure:
    async def plant(world: World, at: int) -> None:
        disk, first = world.disk, world.disk.operations + at

        def fault(_kind: str, _name: str) -> apsw.Error | None:
            is_due = disk.operations > first and (
                for_ever or disk.operations == first + 1
            )
            return error("planted") if is_due else None

        disk.fault = fault

    return plant


FAILURES: Final[dict[str, Failure]] = {
    "power cut": cut,
    "full once": failing(apsw.FullError, for_ever=False),
    "full": failing(apsw.FullError, for_ever=True),
    "EIO once": failing(apsw.IOError, for_ever=False),
    "EIO": failing(apsw.IOError, for_ever=True),
}


async def operations_of(work: Work) -> int:
    async with World() as world:
        await work.prepare(world)
        before = world.disk.operations
        await work.do(world)
        assert await work.is_done(world)
        return world.disk.operations - before


async def recover(world: World, *, power: bool) -> None:
    """Bring the car back, as its service and its driver would."""
    if isinstance(world.failure, AssertionError):
        raise world.failure  # the fleet found a fork
    world.disk.fault = None
    if power:
        await world.power_cut()
    elif not world.is_running:
        await world.restart()
    # Time for a link, for what waits, and for a disk that is tried again.
    await world.advance(120.0)


@pytest.mark.parametrize("failure", list(FAILURES))
@pytest.mark.parametrize("work", WORKS, ids=lambda each: each.__name__)
async def test_at_every_write_the_old_stands_or_the_new(
    work: type[Work], failure: str
) -> None:
    # FF-LED-08, FF-TRU-14, FF-CFG-02, FF-ENR-13, FF-CMD-07, FF-CMD-08, FF-RCP-09.
    # I-5 (S), I-10 (S), I-20, I-22 (S), I-27, I-28, H3, H11, L13; rows 1, 3 and 4.
    fates = set()
    operations = range(await operations_of(work()))
    for at in some(operations, one_in=work.one_in, turn=failure):
        now = work()
        world = World(seed=at)
        await world.start()
        try:
            await now.prepare(world)
            await FAILURES[failure](world, at)
            await now.do(world)
            await recover(world, power=failure == "power cut")

            await require_sound(world)
            fates.add(await now.is_done(world))
            await now.do(world)

            await world.advance(60.0)
            await require_sound(world)
            assert await now.is_done(world), f"not done after a failure at {at}"
        finally:
            await world.stop()
    assert True in fates or failure != "power cut"
