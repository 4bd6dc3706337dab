"""What customers and operators know of one car: who has it, and what was ordered."""

import contextlib
from dataclasses import dataclass, field
from random import Random
from typing import Final

from bridge.bound_orders import Pins, ReserveOrder
from bridge.commands import CommandRecord, CommandState, is_proved_undone
from bridge.errors import OrderRefusedError, StoreError
from bridge.orders import Order
from firmware_emulator.reader import Card
from gateway.core.state import State
from protocol.codes import (
    CancelReason,
    Executed,
    HoldReason,
    LockDefault,
    LockMode,
    ModeRequest,
)
from protocol.command import (
    ANY_VERSION,
    CancelReservation,
    EngineHold,
    EngineRelease,
    FlashHazards,
    Lock,
    Ping,
    RotateKey,
    SetMode,
    Unlock,
)
from protocol.identity import ID_SIZE
from protocol.snapshot import NO_RENTAL
from tests.simulation.bridge import SimulatedBridge
from tests.simulation.car import SimulatedCar
from tests.simulation.oracle import Oracle
from tests.simulation.trace import Trace

PIN: Final = "2468"
FUEL_CARD_PIN: Final = "4711"


@dataclass
class Desk:
    """One car's bookings, and what became of every order."""

    car: SimulatedCar
    bridge: SimulatedBridge
    oracle: Oracle
    trace: Trace
    rng: Random
    card: Card = field(init=False)
    rental_id: bytes = NO_RENTAL
    ordered: list[bytes] = field(default_factory=list)
    """Ids of the commands that the bridge made."""
    keys: list[tuple[str, Order]] = field(default_factory=list)
    """Idempotency keys that were used."""

    def __post_init__(self) -> None:
        self.card = Card.random(self.rng)

    @property
    def state(self) -> State | None:
        return self.car.state

    async def act(self) -> None:
        """Order something, as an operator or an app would."""
        rng = self.rng
        await self._look_up()
        state = self.state
        is_free = state is None or state.rental_id is None
        if is_free and rng.random() < 0.8:
            await self.order(self._reservation(), wait_s=rng.choice((0.0, 5.0, 15.0)))
            return
        if self.keys and rng.random() < 0.1:
            key, order = rng.choice(self.keys)
            await self.order(order, wait_s=5.0, key=key)
            return
        order = self._order()
        wait_s = rng.choice((0.0, 2.0, 15.0))
        waits = isinstance(order, Lock | EngineHold | CancelReservation)
        defer_s = rng.choice((0.0, 30.0)) if waits else 0.0
        await self.order(order, wait_s=wait_s, defer_s=defer_s)

    async def _look_up(self) -> None:
        """Ask what became of an earlier order, and judge the answer."""
        process = self.bridge.process
        if process is None or not self.ordered:
            return
        command_id = self.rng.choice(self.ordered[-3:])
        with contextlib.suppress(StoreError):
            record = await process.dispatcher.find(command_id, wait_s=0.0)
            if record is not None:
                self.judge(record)

    def _reservation(self) -> ReserveOrder:
        rng = self.rng
        rental_id = rng.randbytes(ID_SIZE)
        self.oracle.cards[rental_id] = self.card.uid
        self.rental_id = rental_id
        return ReserveOrder(
            rental_id=rental_id,
            expected_version=ANY_VERSION,
            hold_s=rng.choice((20, 120, 900)),
            cards=(self.card.uid,),
            lock_default=rng.choice(
                (LockDefault.END, LockDefault.END, LockDefault.PARK)
            ),
            language=b"en",
            pins=Pins(PIN, FUEL_CARD_PIN),
        )

    def _order(self) -> Order:
        rng, rental, any_version = self.rng, self.rental_id, ANY_VERSION
        if self.state is not None and self.state.rental_id and rng.random() < 0.9:
            rental = self.state.rental_id
        return rng.choices(
            (
                Unlock(rental, any_version),
                Lock(rental, any_version, rng.choice(tuple(LockMode))),
                CancelReservation(rental, any_version, CancelReason.CUSTOMER),
                EngineRelease(rental, any_version, HoldReason.RENTAL),
                EngineHold(rental, any_version, HoldReason.RENTAL),
                SetMode(rental, any_version, rng.choice(tuple(ModeRequest))),
                FlashHazards(NO_RENTAL, any_version, rng.randrange(1, 6)),
                Ping(NO_RENTAL, any_version, bytes(ID_SIZE)),
                RotateKey(NO_RENTAL, any_version),
            ),
            weights=(5, 4, 2, 2, 2, 2, 2, 1, 0.3),
        )[0]

    async def order(
        self,
        order: Order,
        *,
        wait_s: float,
        key: str | None = None,
        defer_s: float = 0.0,
    ) -> None:
        """Give an order to the bridge, and judge its answer at once (I-11)."""
        process, kind = self.bridge.process, type(order).__name__
        if process is None:
            return
        if key is None and self.rng.random() < 0.3:
            key = f"key-{self.rng.randrange(10**9)}"
            self.keys.append((key, order))
        try:
            record, _ = await process.dispatcher.submit(
                self.car.identity.vehicle_id,
                order,
                idempotency_key=key,
                wait_s=wait_s,
                defer_s=defer_s,
            )
        except OrderRefusedError as refused:
            self.trace.note(
                "operator", f"{kind}: refused, {refused.refusal}", kind="orders refused"
            )
            return
        except StoreError:
            self.trace.note("operator", f"{kind}: the bridge is gone")
            return
        self.trace.note(
            "operator",
            f"{kind} for {self.car.name}: {record.state}",
            kind="orders taken",
        )
        if record.command_id not in self.ordered:
            self.ordered.append(record.command_id)
        self.judge(record)

    def judge(self, record: CommandRecord) -> None:
        """I-11: what the API says of a command, the car has signed."""
        watched = self.oracle.cars[self.car.client]
        result = watched.told.results.get(record.command_id)
        if record.state is CommandState.SUCCEEDED and (
            result is None or result.code != record.code
        ):
            self.oracle.fail(f"I-11: {record.kind} is called succeeded without the car")
        ran = record.command_id in watched.accepted
        did = ran and (result is None or result.executed is not Executed.NO)
        if did and is_proved_undone(record):
            self.oracle.fail(
                f"I-11: {record.kind} is called undone, and the car did it"
            )
