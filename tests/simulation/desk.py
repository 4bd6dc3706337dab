"""What customers and operators know of one car: who has it, and what was ordered."""

import contextlib
from dataclasses import dataclass, field
from random import Random

from bridge.commands import CommandRecord, CommandState, is_proved_undone
from bridge.errors import OrderRefusedError, StoreError
from bridge.orders import Order
from gateway.core.state import State
from protocol.codes import ConfigKind, Executed
from protocol.command import CancelReservation, EngineHold, Lock
from tests.simulation.bridge import SimulatedBridge
from tests.simulation.car import SimulatedCar
from tests.simulation.oracle import Oracle
from tests.simulation.orders import RandomOrders, damage_list, stations_near
from tests.simulation.trace import Trace


@dataclass
class Desk:
    """One car's bookings, and what became of every order."""

    car: SimulatedCar
    bridge: SimulatedBridge
    oracle: Oracle
    trace: Trace
    rng: Random
    orders: RandomOrders = field(init=False)
    bodies: int = 0
    """How many configuration bodies were wanted."""
    ordered: list[bytes] = field(default_factory=list)
    """Ids of the commands that the bridge made."""
    keys: list[tuple[str, Order]] = field(default_factory=list)
    """Idempotency keys that were used."""

    def __post_init__(self) -> None:
        self.orders = RandomOrders(self.rng, self.oracle.promises, self.car.client)

    @property
    def state(self) -> State | None:
        return self.car.state

    async def act(self) -> None:
        """Order something, as an operator or an app would."""
        rng = self.rng
        await self._look_up()
        state = self.state
        is_free = state is None or state.rental_id is None
        if is_free:
            free = self.orders.for_free_car()
            await self.order(free, wait_s=rng.choice((0.0, 5.0, 15.0)))
            return
        payment = self.orders.payment(state)
        if payment is not None and rng.random() < 0.5:
            await self.order(payment, wait_s=rng.choice((0.0, 5.0)))
            return
        if self.keys and rng.random() < 0.1:
            key, order = rng.choice(self.keys)
            await self.order(order, wait_s=5.0, key=key)
            return
        order = self.orders.anything(state)
        wait_s = rng.choice((0.0, 2.0, 15.0))
        waits = isinstance(order, Lock | EngineHold | CancelReservation)
        defer_s = rng.choice((0.0, 30.0)) if waits else 0.0
        await self.order(order, wait_s=wait_s, defer_s=defer_s)

    async def configure(self) -> None:
        """Want another body of the car, as an editor of stations or damage would."""
        process, rng, number = self.bridge.process, self.rng, self.bodies + 1
        if process is None:
            return
        is_list = self.bodies == 0 or rng.random() < 0.5
        kind = ConfigKind.STATIONS if is_list else ConfigKind.KNOWN_DAMAGE
        body = (
            stations_near(self.car.physics, number) if is_list else damage_list(number)
        )
        self.bodies = number
        self.oracle.promises.want(self.car.client, kind, body)
        vehicle_id = self.car.identity.vehicle_id
        with contextlib.suppress(StoreError):
            await process.store.put_configuration(
                vehicle_id, kind, body, now=process.now()
            )
            process.steward.wanted([vehicle_id])
            self.trace.note("operator", f"wants {kind.name}", kind="bodies wanted")

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
        self.oracle.promises.note(record)
        self.judge(record)

    def judge(self, record: CommandRecord) -> None:
        """I-11: what the API says of a command, the car has signed."""
        watched = self.oracle.cars[self.car.client]
        if record.parts:
            return  # judged at the end, when all its parts are known
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
