"""A handful of emulated cars living random days, from one seed.

Every car is a whole `EmulatedVehicle`: production runtime, uplink and a ledger file of
its own. With a bridge, customers reserve through its public API and live a rental each;
without, the cars stand about, send telemetry and see a stranger's card now and then.
What happens is drawn from the seed; how it ends is up to the gateway.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final, Self

from firmware_emulator.car_file import CAR_FILE, load_car, save_car
from firmware_emulator.chance import seeded
from firmware_emulator.clock import EmulatedClock, Seconds
from firmware_emulator.customer import Customer
from firmware_emulator.demand import Bridge
from firmware_emulator.devices import EmulatedDevices, mixed_car
from firmware_emulator.errors import EmulatorError, StepError
from firmware_emulator.reader import Card
from firmware_emulator.rental_script import (
    choose_to_park,
    drive,
    end_by_card,
    enter_pin,
    enter_wrong_pin,
    fill_washer,
    get_in,
    park_by_card,
    return_by_card,
    start_engine,
    stay_away,
    stop_engine,
    tap_to_open,
    use_washer,
)
from firmware_emulator.script import ScriptStep, StepReport, play_step
from firmware_emulator.vehicle import EmulatedVehicle
from protocol.event import CardRefused, RentalEnded, RentalStarted
from transport.backoff import Backoff

CARS_LIMIT: Final = 50
"""Cars of one process: each has an uplink and two threads of its own."""

RESET_MS: Final = 6_000
"""A customer whose step failed tries to end after so long."""

Tell = Callable[[str, str], None]
"""Takes a car's short name and what happened there."""


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What the fleet's days are like."""

    seed: int
    """Of everything random."""
    pause_s: tuple[float, float] = (2.0, 20.0)
    """Least and most between two things that happen at a car."""
    drive_m: tuple[float, float] = (40.0, 300.0)
    """Least and most of a drive."""
    cuts: float = 0.1
    """Share of rentals in which the link is cut for a while."""
    mistypes: float = 0.2
    """Share of customers who type a wrong PIN first."""
    rains: float = 0.3
    """Share of drives on which washer fluid is used."""
    parks: float = 0.4
    """Share of rentals with a stay in the middle."""
    fills: float = 0.2
    """Share of customers who fill in washer fluid (H18)."""


@dataclass(slots=True)
class FleetCounts:
    """What happened so far."""

    rentals_started: int = 0
    """As the cars' ledgers say."""
    rentals_ended: int = 0
    """As the cars' ledgers say."""
    cards_refused: int = 0
    """As the cars' ledgers say."""
    entries: int = 0
    """Ledger entries of all cars since they were started."""
    troubles: list[str] = field(default_factory=list)
    """What did not go as a script said."""


class EmulatedFleet:
    """Cars and their days; an asynchronous context manager.

    Args:
        directories: the cars' directories of `freefloat certs issue`, 1 to
            `CARS_LIMIT`.
        data: where their ledgers lie, a directory for each car.
        host: the broker.
        port: its port.
        plan: what their days are like.
        monotonic: a clock that never goes back, in seconds.
        wall: UTC in seconds.
        bridge: whose API reserves; None for cars that stand about.
        recorder: whether each car's flight recorder runs.
        tell: is told what happens.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        *,
        data: Path,
        host: str,
        port: int,
        plan: FleetPlan,
        monotonic: Seconds,
        wall: Seconds,
        bridge: Bridge | None = None,
        recorder: bool = False,
        tell: Tell = lambda _car, _what: None,
    ) -> None:
        """Build the cars; nothing runs before the fleet is entered.

        Raises:
            IdentityError: a directory cannot be used.
            CarFileError: a car's file cannot be read.
        """
        if not 1 <= len(directories) <= CARS_LIMIT:
            raise EmulatorError(
                f"{len(directories)} cars, a fleet of one process has 1 to {CARS_LIMIT}"
            )
        self._plan = plan
        self._bridge = bridge
        self._tell = tell
        self._troubles: list[str] = []
        self.vehicles: list[EmulatedVehicle] = []
        """The cars."""
        for number, directory in enumerate(directories):
            clock = EmulatedClock(monotonic, wall)
            rng = seeded(plan.seed, "car", number)
            car = load_car(data / directory.name / CAR_FILE, rng) or mixed_car(rng)
            self.vehicles.append(
                EmulatedVehicle.on_broker(
                    directory,
                    host=host,
                    port=port,
                    data=data / directory.name,
                    devices=EmulatedDevices(car, clock),
                    backoff=Backoff(maximum_s=10.0),
                    recorder=recorder,
                )
            )

    async def __aenter__(self) -> Self:
        """Switch all cars on; return when every lamp shows something.

        Raises:
            StepError: a gateway ended at once; all cars are off again.
        """
        entered: list[EmulatedVehicle] = []
        try:
            for vehicle in self.vehicles:
                await vehicle.__aenter__()
                entered.append(vehicle)
            for vehicle in self.vehicles:
                await vehicle.wait_ready()
        except BaseException:
            await _leave(entered)
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Switch all cars off, in order, and put them away."""
        await _leave(self.vehicles)
        for vehicle in self.vehicles:
            save_car(vehicle.devices.car, vehicle.data / CAR_FILE)

    @property
    def counts(self) -> FleetCounts:
        """What happened so far."""
        counts = FleetCounts(troubles=self._troubles)
        for vehicle in self.vehicles:
            for entry in vehicle.devices.witness.entries:
                counts.entries += 1
                counts.rentals_started += isinstance(entry.body, RentalStarted)
                counts.rentals_ended += isinstance(entry.body, RentalEnded)
                counts.cards_refused += isinstance(entry.body, CardRefused)
        return counts

    async def live(self, duration_s: float | None) -> None:
        """Let the cars live; return when the time is over and rentals have ended.

        Args:
            duration_s: no rental begins after it; None for until cancelled.

        Raises:
            StepError: a gateway ended by itself.
        """
        loop = asyncio.get_running_loop()
        end = None if duration_s is None else loop.time() + duration_s
        async with asyncio.TaskGroup() as group:
            for number, vehicle in enumerate(self.vehicles):
                rng = seeded(self._plan.seed, "day", number)
                group.create_task(self._day(vehicle, rng, end))

    async def _day(
        self, vehicle: EmulatedVehicle, rng: Random, end: float | None
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            pause_s = rng.uniform(*self._plan.pause_s)
            if end is not None and loop.time() + pause_s >= end:
                await asyncio.sleep(max(0.0, end - loop.time()))
                return
            await asyncio.sleep(pause_s)
            vehicle.require_alive()
            happening = self._stranger if self._bridge is None else self._rental
            try:
                await happening(vehicle, rng)
            except EmulatorError as error:
                self._troubles.append(f"{vehicle.vehicle_id.short}: {error}")
                self._tell(vehicle.vehicle_id.short, f"trouble: {error}")
                vehicle.restore_link()
                vehicle.require_alive()

    async def _stranger(self, vehicle: EmulatedVehicle, rng: Random) -> None:
        vehicle.devices.reader.tap(Card.random(rng))
        self._tell(vehicle.vehicle_id.short, "a stranger tries a card")

    async def _rental(self, vehicle: EmulatedVehicle, rng: Random) -> None:
        if self._bridge is None:
            raise StepError("without a bridge nobody can reserve")
        name = vehicle.vehicle_id.short
        card, pin = Card.random(rng), f"{rng.randrange(10_000):04d}"
        await self._bridge.reserve(vehicle.vehicle_id, card, pin)
        self._tell(name, "reserved")
        customer = Customer(vehicle.devices, card, pin)
        steps = random_rental(rng, self._plan, pin)
        cut_at = rng.randrange(len(steps)) if rng.random() < self._plan.cuts else None
        try:
            for number, step in enumerate(steps):
                if number == cut_at:
                    vehicle.cut_link()
                    self._tell(name, "loses its link")
                self._note(name, await play_step(step, customer))
                await asyncio.sleep(rng.uniform(0.2, 1.0))
        except EmulatorError:
            await self._give_up(customer)
            raise
        finally:
            vehicle.restore_link()

    async def _give_up(self, customer: Customer) -> None:
        """End a rental that went wrong, so that the car can be rented again."""
        with contextlib.suppress(EmulatorError):
            await customer.wait(RESET_MS)
            if customer.devices.car.engine_running:
                await play_step(stop_engine(), customer)
            await play_step(end_by_card(), customer)

    def _note(self, name: str, report: StepReport) -> None:
        told = ", ".join(type(entry.body).__name__ for entry in report.entries)
        if told:
            self._tell(name, f"{report.title}: {told}")


def random_rental(rng: Random, plan: FleetPlan, pin: str) -> tuple[ScriptStep, ...]:
    """Return the steps of a rental of a reserved car, by chance."""
    steps = [tap_to_open(), get_in()]
    if rng.random() < plan.mistypes:
        wrong = f"{(int(pin) + 1) % 10_000:04d}"
        steps.append(enter_wrong_pin(wrong))
    steps += [enter_pin(), start_engine(), drive(round(rng.uniform(*plan.drive_m)))]
    if rng.random() < plan.rains:
        steps.append(use_washer(rng.randint(1, 5)))
    steps.append(stop_engine())
    if rng.random() < plan.parks:
        steps += [
            choose_to_park(),
            park_by_card(),
            stay_away(rng.randint(2_000, 8_000)),
            return_by_card(),
            get_in(),
            enter_pin(),
            start_engine(),
            drive(round(rng.uniform(*plan.drive_m))),
            stop_engine(),
        ]
    if rng.random() < plan.fills:
        steps.append(fill_washer(rng.uniform(0.5, 2.0)))
    return (*steps, end_by_card())


async def _leave(vehicles: Sequence[EmulatedVehicle]) -> None:
    leaving: list[Coroutine[Any, Any, None]] = [
        vehicle.__aexit__(None, None, None) for vehicle in vehicles
    ]
    await asyncio.gather(*leaving, return_exceptions=True)
