"""Whole rentals in memory: the production gateway, an emulated car, virtual time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from firmware_emulator import virtual_time
from firmware_emulator.board_firmware import Indicator
from firmware_emulator.car import Car
from firmware_emulator.chance import seeded
from firmware_emulator.clock import EmulatedClock
from firmware_emulator.customer import Customer
from firmware_emulator.devices import EmulatedDevices
from firmware_emulator.errors import StepError
from firmware_emulator.fleet import FleetPlan, random_rental
from firmware_emulator.memory_fleet import NOW, Account, MemoryFleet
from firmware_emulator.reader import Card
from firmware_emulator.rental_script import (
    LOW_SOON_L,
    RentalPlan,
    choose_to_end,
    drive,
    end_by_card,
    enter_pin,
    finish_refuelling,
    get_in,
    rental_steps,
    start_engine,
    stop_engine,
    tap_to_open,
)
from firmware_emulator.saying import Stage
from firmware_emulator.script import StepReport, play, play_step
from firmware_emulator.spoken import describe, parse_script, say
from firmware_emulator.vehicle import EmulatedVehicle
from gateway.storage.identity import load_identity
from protocol.codes import Code, EndReason, Light, RentalMode
from protocol.command import ANY_VERSION, Ping, Unlock
from protocol.event import (
    AgentStarted,
    EnergyLow,
    FaultRaised,
    RefuelEnded,
    RentalEnded,
    RentalStarted,
    Resumed,
)
from protocol.result import Result
from tests.depth import times

CARD = Card(bytes.fromhex("04a1b2c3d4e5f6"))
PIN = "2468"
RENTAL = bytes(range(16))


def must_be_ok(result: Result) -> None:
    """Require that the car did as ordered."""
    assert result.code is Code.OK, result


@dataclass(slots=True)
class Scene:
    """One car, its customer and the fleet that knows it."""

    vehicle: EmulatedVehicle
    customer: Customer
    fleet: MemoryFleet

    @property
    def account(self) -> Account:
        return self.fleet.accounts[self.vehicle.vehicle_id]

    @property
    def devices(self) -> EmulatedDevices:
        return self.vehicle.devices

    async def reserve(self) -> None:
        must_be_ok(
            await self.fleet.reserve(
                self.vehicle.vehicle_id, rental_id=RENTAL, card_uid=CARD.uid, pin=PIN
            )
        )

    async def all_reported(self) -> None:
        """Wait until the fleet has every entry of the car's ledger."""
        await self.fleet.until(
            lambda: self.account.upto >= self.devices.witness.last_seq
        )


def car(seed: int = 1) -> Car:
    return Car(
        seeded(seed, "car"), fuel_l=LOW_SOON_L, washer_l=2.5, odometer_mm=7_654_321_000
    )


@asynccontextmanager
async def scene(tmp_path: Path, seed: int = 1) -> AsyncIterator[Scene]:
    fleet = MemoryFleet.create(tmp_path / "fleet")
    vehicle_id, directory = fleet.issue()
    loop = asyncio.get_running_loop()
    clock = EmulatedClock(loop.time, NOW.timestamp, booted_before_ms=3_600_000)
    fleet.clock_of = lambda _: clock.now().boot_ms
    devices = EmulatedDevices(car(seed), clock)
    vehicle = EmulatedVehicle(
        load_identity(directory),
        data=tmp_path / "data",
        devices=devices,
        links=fleet.links(vehicle_id),
        random_bytes=seeded(seed, "ids").randbytes,
    )
    async with vehicle:
        await vehicle.wait_ready()
        await fleet.until(lambda: fleet.accounts[vehicle_id].hello is not None)
        yield Scene(vehicle, Customer(devices, CARD, PIN), fleet)


def simulate(
    tmp_path: Path, story: Callable[[Scene], Awaitable[None]], seed: int = 1
) -> None:
    async def main() -> None:
        async with scene(tmp_path, seed) as set_up:
            await story(set_up)

    virtual_time.run(main())


def report_of(account: Account) -> RentalEnded:
    """The one report of the one rental."""
    (report,) = account.of_kind(RentalEnded)
    assert isinstance(report, RentalEnded)
    return report


LEDGER = [
    "AgentStarted",
    "ReservationStarted",
    "Result",
    "AccessGranted",
    "RentalStarted",
    "CleanlinessRated",
    "InspectionDone",
    "PinAccepted",
    "EngineReleased",
    "EngineStarted",
    "EnergyLow",
    "EngineStopped",
    "AccessGranted",
    "Parked",
    "AccessGranted",
    "Resumed",
    "PinAccepted",
    "EngineReleased",
    "RefuelStarted",
    "FuelPaidByCard",
    "RefuelEnded",
    "EngineStarted",
    "EngineStopped",
    "AccessGranted",
    "RentalEnded",
]
"""The whole ledger of the scripted rental: nothing twice, nothing missing."""


def test_a_whole_rental_is_lived_step_by_step_and_reported_once(tmp_path: Path) -> None:
    # The flagship: C1 to C4, C8, C11 to C14, C16, C17, C23 to C27, H2, H5 to H7, H15.
    reports: list[StepReport] = []

    async def story(scene: Scene) -> None:
        assert scene.devices.world.firmware.indicator == Indicator(Light.GREEN)
        await scene.reserve()
        assert scene.devices.world.firmware.indicator == Indicator(Light.YELLOW)

        steps = rental_steps(RentalPlan())
        reports.extend([report async for report in play(steps, scene.customer)])
        await scene.all_reported()

        ended = report_of(scene.account)
        assert ended.rental_id == RENTAL
        assert ended.reason is EndReason.CARD
        assert ended.distance_m == 180
        assert (ended.start_energy_pct, ended.lowest_energy_pct) == (25, 24)
        assert (ended.end_energy_pct, ended.refuel_gain_pct) == (36, 12)
        assert (ended.start_washer_pct, ended.end_washer_pct) == (83, 100)
        assert not ended.estimated
        assert 5_000 <= ended.parking_ms < 6_000
        assert (ended.driving_min, ended.parking_min) == (1, 1)
        assert ended.total_ms < scene.devices.clock.elapsed_ms
        assert [
            type(scene.account.bodies[seq]).__name__
            for seq in sorted(scene.account.bodies)
        ] == LEDGER

    simulate(tmp_path, story)

    assert len(reports) == len(rental_steps(RentalPlan()))
    lights = [report.indicator.light for report in reports]
    assert lights == [*[Light.RED] * (len(reports) - 1), Light.GREEN]
    # A story has a line for them, however many the display has.
    assert [report.words for report in reports if "\n" in report.words] == []
    assert any(" / " in report.words for report in reports)


def test_the_report_says_what_the_cars_sensors_said(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.reserve()
        before = scene.devices.car.odometer_m
        async for _ in play(rental_steps(RentalPlan()), scene.customer):
            pass
        await scene.all_reported()

        ended = report_of(scene.account)
        car = scene.devices.car
        assert (ended.start_odometer_m, ended.end_odometer_m) == (
            before,
            car.odometer_m,
        )
        assert ended.end_energy_pct == car.energy_pct
        assert ended.end_washer_pct == car.washer_pct
        (low,) = scene.account.of_kind(EnergyLow)
        (refuelled,) = scene.account.of_kind(RefuelEnded)
        assert isinstance(low, EnergyLow)
        assert isinstance(refuelled, RefuelEnded)
        assert low.energy_pct == 24
        assert refuelled.refuelled

    simulate(tmp_path, story)


def test_a_rental_that_ends_offline_is_reported_once_after_reconnection(
    tmp_path: Path,
) -> None:
    # I-19, I-21: no link is needed to end, and the report comes exactly once.
    async def story(scene: Scene) -> None:
        await scene.reserve()
        steps = rental_steps(RentalPlan())
        async for _ in play(steps[:6], scene.customer):
            pass
        scene.fleet.cut(scene.vehicle.vehicle_id)
        known = scene.account.upto

        async for _ in play(steps[6:], scene.customer):
            pass
        assert scene.account.upto == known
        assert not scene.account.of_kind(RentalEnded)

        scene.fleet.restore(scene.vehicle.vehicle_id)
        await scene.all_reported()
        await scene.devices.clock.sleep(120_000)

        assert report_of(scene.account).distance_m == 180
        assert scene.account.arrivals.count(scene.account.upto) == 1
        assert scene.account.hellos == 2

    simulate(tmp_path, story)


STEPS = rental_steps(RentalPlan())


@pytest.mark.parametrize(
    "cut_after", range(1, len(STEPS)), ids=lambda n: f"{n:02d}-{STEPS[n - 1].title}"
)
def test_a_power_cut_after_any_step_leaves_a_rental_that_can_be_ended(
    tmp_path: Path, cut_after: int
) -> None:
    # I-28: same rental, same doors; I-21: reported once.
    async def story(scene: Scene) -> None:
        await scene.reserve()
        async for _ in play(STEPS[:cut_after], scene.customer):
            pass
        devices, car = scene.devices, scene.devices.car
        mode = devices.witness.state.mode
        bolts = car.locked

        await scene.vehicle.power_cut()
        await scene.vehicle.wait_ready()
        await devices.witness.until(
            lambda: devices.witness.state.reading is not None,
            timeout_s=10,
            missing="the board's first report",
        )

        assert car.locked == bolts
        assert devices.witness.state.mode is mode
        assert devices.witness.state.rental_id == RENTAL
        await end_somehow(scene)
        await scene.all_reported()
        ended = report_of(scene.account)
        assert ended.rental_id == RENTAL
        assert ended.estimated
        assert ended.end_odometer_m == car.odometer_m
        assert len(scene.account.of_kind(RentalStarted)) == 1
        assert len(scene.account.of_kind(AgentStarted)) == 2

    simulate(tmp_path, story)


async def end_somehow(scene: Scene) -> None:
    """Do what a customer would do to end the rental, from wherever it is."""
    customer, car = scene.customer, scene.devices.car
    if scene.devices.witness.state.mode is RentalMode.PARKED:
        customer.tap()
        await scene.devices.witness.until(
            lambda: not car.locked, timeout_s=10, missing="open doors"
        )
    if car.engine_running:
        customer.stop_engine()
        await scene.devices.clock.sleep(2_000)
    if scene.devices.witness.state.mode is RentalMode.REFUELLING:
        await play_step(finish_refuelling(), customer)
    await scene.devices.clock.sleep(6_000)
    if _is_to_park(scene):
        await play_step(choose_to_end(), customer)
    await play_step(end_by_card(), customer)


def _is_to_park(scene: Scene) -> bool:
    rental = scene.devices.witness.state.rental
    return rental is not None and rental.parking_chosen is True


def test_a_power_cut_while_driving_does_not_stop_the_car_or_the_rental(
    tmp_path: Path,
) -> None:
    # I-2, I-28
    async def story(scene: Scene) -> None:
        await scene.reserve()
        await play_step(tap_to_open(), scene.customer)
        for step in (get_in(), enter_pin(), start_engine()):
            await play_step(step, scene.customer)
        driving = asyncio.create_task(play_step(drive(400), scene.customer))
        await scene.devices.clock.sleep(5_000)

        await scene.vehicle.power_cut()
        await driving

        assert scene.devices.car.engine_running
        assert scene.devices.car.starter_released
        await play_step(stop_engine(), scene.customer)
        await play_step(end_by_card(), scene.customer)
        await scene.all_reported()
        assert report_of(scene.account).distance_m == 400

    simulate(tmp_path, story)


def test_what_was_not_yet_reported_before_a_power_cut_is_reported_after_it(
    tmp_path: Path,
) -> None:
    # I-21, I-28
    async def story(scene: Scene) -> None:
        await scene.reserve()
        scene.fleet.cut(scene.vehicle.vehicle_id)
        async for _ in play(STEPS, scene.customer):
            pass
        told = scene.devices.witness.entries[-1]

        await scene.vehicle.power_cut()
        await scene.vehicle.wait_ready()
        scene.fleet.restore(scene.vehicle.vehicle_id)
        await scene.all_reported()

        assert isinstance(told.body, RentalEnded)
        assert scene.account.bodies[told.seq] == told.body

    simulate(tmp_path, story)


def test_the_same_seed_makes_the_same_rental_to_the_millisecond(tmp_path: Path) -> None:
    def day(name: str) -> list[tuple[int, str]]:
        seen: list[tuple[int, str]] = []

        async def story(scene: Scene) -> None:
            await scene.reserve()
            async for report in play(STEPS, scene.customer):
                took = (report.took_ms, report.title)
                seen.append(took)
            seen.extend(
                (entry.at_ms, type(entry.body).__name__)
                for entry in scene.devices.witness.entries
            )

        (tmp_path / name).mkdir()
        simulate(tmp_path / name, story)
        return seen

    assert day("monday") == day("again")


SPOKEN = """
tap
expect unlocked
expect display no-known-damage
report
damage rear dent as large as a hand
expect entry DamageReported
continue
expect display rate-cleanliness
report
back
rate 4 5
expect entry CleanlinessRated
expect display enter-pin
in
pin 0000
expect display pin-wrong
pin
expect engine released
start
expect entry EngineStarted
drive 40
wash 2
stop
expect entry EngineStopped
refuel
expect display fuel-card-pin
out
pump 6
paid
expect entry FuelPaidByCard
done
expect entry RefuelEnded
fill 0.5
park
boot open
boot close
door open
door close
tap
expect entry Parked
expect locked
expect engine held
wait 20
stranger
expect entry CardRefused
wait 3
tap
expect entry Resumed
restart
expect entry AgentStarted
expect light red
wait 6
end
reader off
expect entry FaultRaised
reader on
expect entry FaultCleared
board off
expect entry FaultRaised
board on
expect light red
bolts jam
wait 1
bolts free
tap
expect entry RentalEnded
expect light green
"""


def test_a_rental_can_be_spoken_line_by_line(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.reserve()
        stage = Stage(scene.vehicle, scene.customer)
        seen = []
        for line in parse_script(SPOKEN):
            await say(line, stage)
            seen.append(describe(stage))
        await scene.all_reported()

        ended = report_of(scene.account)
        assert (ended.distance_m, ended.refuel_gain_pct) == (40, 12)
        assert "light green, doors locked" in describe(stage)
        assert any("menu: Your PIN | Continue | Report damage" in each for each in seen)
        assert "menu" not in describe(stage)
        assert not any("\n" in each for each in seen)

    simulate(tmp_path, story)


def random_day(tmp_path: Path, seed: int) -> list[tuple[int, str]]:
    """Three random customers, one after another; return the car's whole ledger."""
    ledger: list[tuple[int, str]] = []

    async def story(scene: Scene) -> None:
        rng = seeded(seed, "day")
        for number in range(3):
            customer = Customer(scene.devices, Card.random(rng), PIN)
            result = await scene.fleet.reserve(
                scene.vehicle.vehicle_id,
                rental_id=bytes([number + 1]) * 16,
                card_uid=customer.card.uid,
                pin=PIN,
            )
            must_be_ok(result)
            async for _ in play(random_rental(rng, FleetPlan(seed), PIN), customer):
                await scene.devices.clock.sleep(rng.randrange(10_000))
        await scene.all_reported()
        assert len(scene.account.of_kind(RentalEnded)) == 3
        ledger.extend(
            (entry.at_ms, type(entry.body).__name__)
            for entry in scene.devices.witness.entries
        )

    tmp_path.mkdir()
    simulate(tmp_path, story, seed)
    return ledger


@pytest.mark.parametrize("seed", range(times(1, deep=8)))
def test_the_same_seed_lives_the_same_day(tmp_path: Path, seed: int) -> None:
    first = random_day(tmp_path / "first", seed)

    assert first == random_day(tmp_path / "again", seed)
    assert first != random_day(tmp_path / "other", seed + 100)


def test_a_step_that_does_not_come_about_names_what_was_missing(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        # Nobody reserved: the card opens nothing (I-12).
        with pytest.raises(StepError, match="in vain for the doors to be unlocked"):
            await play_step(tap_to_open(), scene.customer)

        assert scene.devices.car.locked

    simulate(tmp_path, story)


def test_a_jammed_bolt_is_told_and_does_not_start_a_rental(tmp_path: Path) -> None:
    async def story(scene: Scene) -> None:
        await scene.reserve()
        scene.devices.car.faults.bolts_jammed = True

        with pytest.raises(StepError, match="doors to be unlocked"):
            await play_step(tap_to_open(), scene.customer)

        assert not scene.account.of_kind(RentalStarted)
        assert scene.devices.witness.state.mode is RentalMode.RESERVED

    simulate(tmp_path, story)


def test_a_car_answers_a_ping_and_survives_a_dead_reader(tmp_path: Path) -> None:
    # I-15: a dead reader opens nothing; the way in is then the app's unlock.
    async def story(scene: Scene) -> None:
        await scene.reserve()
        scene.devices.reader.fail()
        await scene.devices.clock.sleep(10_000)
        assert not scene.devices.reader.tap(CARD)
        locked = [scene.devices.car.locked]
        vehicle_id = scene.vehicle.vehicle_id

        ping = Ping(bytes(16), ANY_VERSION, bytes(16))
        must_be_ok(await scene.fleet.order(vehicle_id, ping))
        must_be_ok(await scene.fleet.order(vehicle_id, Unlock(RENTAL, ANY_VERSION)))
        locked.append(scene.devices.car.locked)

        assert locked == [True, False]
        assert len(scene.account.of_kind(FaultRaised)) == 1

    simulate(tmp_path, story)


def test_a_parked_stay_counts_as_parking_time(tmp_path: Path) -> None:
    # H7
    async def story(scene: Scene) -> None:
        await scene.reserve()
        async for _ in play(rental_steps(RentalPlan(away_ms=90_000)), scene.customer):
            pass
        await scene.all_reported()

        (resumed,) = scene.account.of_kind(Resumed)
        assert isinstance(resumed, Resumed)
        assert 90_000 <= resumed.parked_ms < 91_000
        assert report_of(scene.account).parking_min == 2

    simulate(tmp_path, story)
