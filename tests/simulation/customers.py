"""Customers who rent, and who do not always do what they should."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator

from firmware_emulator.car import Leaf
from firmware_emulator.customer import Customer
from firmware_emulator.errors import DeedError, StepError
from firmware_emulator.reader import Card
from gateway.core.events import (
    DamageEntered,
    DestinationEntered,
    PumpEntered,
    RatingEntered,
)
from gateway.core.prompts import Choice
from protocol.rental_codes import DamageKind, DamagePlace
from tests.simulation.desk import Desk
from tests.simulation.orders import PIN, SECOND_PIN

Deed = Callable[[], object]


class RandomCustomer:
    """One customer after another at one car."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rng = desk.rng
        self._car = desk.car

    async def live(self) -> None:
        """Rent whenever the car is reserved, until cancelled."""
        rng = self._rng
        while True:
            await asyncio.sleep(rng.uniform(0.3, 2.0))
            state = self._desk.state
            if state is None or state.rental_id is None:
                await self._pass_by()
                continue
            for name, deed in self.rental():
                if rng.random() < 0.12:
                    await self._do(*self._whim())
                if rng.random() < 0.06:
                    continue  # forgotten
                await self._do(name, deed)
                await asyncio.sleep(rng.uniform(0.1, 1.5))

    async def _pass_by(self) -> None:
        """Try what a free car may be opened by: a stored grant, or nothing (H14)."""
        rng = self._rng
        if rng.random() < 0.1:
            await self._do("a stranger's tap", self._stranger)
        if self._desk.orders.grants and rng.random() < 0.4:
            if rng.random() < 0.4:
                await self._do("a technician's tap", self._technician_tap)
            else:
                await self._do("tap", self._tap)

    async def _do(self, name: str, deed: Deed) -> None:
        trace = self._desk.trace
        try:
            done = deed()
            if isinstance(done, Coroutine):
                await done
        except (DeedError, StepError) as error:
            trace.note("customer", f"{name}: {error}")
        else:
            trace.note("customer", name, kind=f"customers: {name}")

    @property
    def _customer(self) -> Customer:
        return Customer(self._car.devices, self._desk.orders.card, PIN)

    @property
    def _next_driver(self) -> Customer:
        return Customer(self._car.devices, self._desk.orders.second, SECOND_PIN)

    # -- a rental, as it is meant --------------------------------------------------

    def rental(self) -> Iterator[tuple[str, Deed]]:
        me, rng = self._customer, self._rng
        yield from self.sitting_down()
        if rng.random() < 0.3:
            yield from self.pay_online()
        elif rng.random() < 0.3:
            yield from self.hand_over()
        if rng.random() < 0.4:
            yield "choose to park", lambda: me.choose(Choice.PARK)
            yield "get out", me.get_out
            yield "wait", self._linger
            yield "tap", self._tap
            yield "wait", self._linger
            yield "tap", self._tap
            yield "get in", me.get_in
            yield "PIN", me.type_pin
            yield from self._drive()
        if rng.random() < 0.3:
            yield "choose to refuel", lambda: me.choose(Choice.REFUEL)
            yield "refuel", lambda: me.refuel(rng.uniform(0.3, 2.0))
            yield "paid by card", lambda: me.choose(Choice.PAID_BY_CARD)
            yield "refuelled", lambda: me.choose(Choice.REFUEL_DONE)
        yield "choose to end", lambda: me.choose(Choice.END)
        yield "get out", me.get_out
        yield "tidy up", self._tidy_up
        yield "wait", self._linger
        yield "tap", self._tap
        yield "wait", self._linger

    def sitting_down(self) -> Iterator[tuple[str, Deed]]:
        """Get in, for the first way."""
        me = self._customer
        yield "tap", self._tap
        yield "look at the damage", lambda: me.choose(Choice.CONTINUE)
        yield "get in", me.get_in
        yield "rate", lambda: me.fill_in(RatingEntered(5, 4))
        yield "PIN", me.type_pin
        yield from self._drive()

    def hand_over(self) -> Iterator[tuple[str, Deed]]:
        """Change seats with who takes the car over, if anybody was named (F14)."""
        second = self._next_driver
        yield "offer the car", lambda: second.choose(Choice.OFFER_HANDOVER)
        yield "the second's tap", self._second_tap
        yield "the second's PIN", second.type_pin
        yield "look at the damage", lambda: second.choose(Choice.CONTINUE)
        yield "PIN", second.type_pin
        yield from self._drive()

    def pay_online(self) -> Iterator[tuple[str, Deed]]:
        """Refuel where the fleet pays (C19 to C22)."""
        me, rng = self._customer, self._rng
        yield "choose to refuel", lambda: me.choose(Choice.REFUEL)
        yield "refuel", lambda: me.refuel(rng.uniform(0.3, 2.0))
        yield "pay online", lambda: me.choose(Choice.PAY_ONLINE)
        yield "name the pump", lambda: me.fill_in(PumpEntered(rng.randrange(1, 9)))
        yield "wait", self._linger
        # Nobody knows whether it was paid: who cannot wait tries it once more.
        yield "pay online again", lambda: me.choose(Choice.PAY_ONLINE)
        yield "name the pump", lambda: me.fill_in(PumpEntered(rng.randrange(1, 9)))
        yield "wait", self._linger
        yield "paid by card", lambda: me.choose(Choice.PAID_BY_CARD)
        yield "refuelled", lambda: me.choose(Choice.REFUEL_DONE)

    def _drive(self) -> Iterator[tuple[str, Deed]]:
        me, rng = self._customer, self._rng
        yield "start the engine", me.start_engine
        yield "drive", lambda: me.drive(rng.uniform(10.0, 100.0))
        yield "stop the engine", me.stop_engine

    # -- and what else people do ---------------------------------------------------

    def _whim(self) -> tuple[str, Deed]:
        me, rng = self._customer, self._rng
        whims: tuple[tuple[str, Deed], ...] = (
            ("tap", self._tap),
            ("tap", self._tap),
            ("a stranger's tap", self._stranger),
            ("the second's tap", self._second_tap),
            ("a technician's tap", self._technician_tap),
            ("the second's PIN", self._next_driver.type_pin),
            ("a wrong PIN", lambda: me.type_pin("0000")),
            ("PIN", me.type_pin),
            ("a choice", lambda: me.choose(rng.choice(tuple(Choice)))),
            ("a damage", lambda: me.fill_in(self._damage())),
            ("a pump", lambda: me.fill_in(PumpEntered(rng.randrange(12)))),
            ("a destination", lambda: me.fill_in(DestinationEntered("Elm Street"))),
            ("boot", self._boot),
            ("take the key", self._take_key),
            ("start the engine", me.start_engine),
            ("get out", me.get_out),
            ("leave the door open", self._leave_open),
            ("wash", lambda: me.wash_windscreen(3)),
        )
        return rng.choice(whims)

    def _tap(self) -> None:
        self._hold(self._desk.orders.card)

    def _second_tap(self) -> None:
        self._hold(self._desk.orders.second)

    def _technician_tap(self) -> None:
        self._hold(self._desk.orders.technician)

    def _stranger(self) -> None:
        self._hold(Card.random(self._rng))

    def _hold(self, card: Card) -> None:
        self._desk.oracle.tapped(self._car.client)
        if not self._car.devices.reader.tap(card):
            raise StepError("the reader is dead")

    def _damage(self) -> DamageEntered:
        rng = self._rng
        return DamageEntered(
            rng.choice(tuple(DamagePlace)), rng.choice(tuple(DamageKind)), "a scratch"
        )

    def _boot(self) -> None:
        with self._car.devices.world.hands() as car:
            if car.boot_open:
                car.close_door(Leaf.BOOT)
            else:
                car.open_door(Leaf.BOOT)

    def _take_key(self) -> None:
        with self._car.devices.world.hands() as car:
            if car.key_in_holder:
                car.take_key()
            else:
                car.return_key()

    def _leave_open(self) -> None:
        with self._car.devices.world.hands() as car:
            car.open_door(inside=True)

    def _tidy_up(self) -> None:
        with self._car.devices.world.hands() as car:
            car.return_key()
            car.return_fuel_card()
            for leaf in Leaf:
                car.close_door(leaf)

    async def _linger(self) -> None:
        await asyncio.sleep(self._rng.uniform(1.0, 6.0))
