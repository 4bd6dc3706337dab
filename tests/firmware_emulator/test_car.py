"""The car's physics: what a driver can do, and what no driver can."""

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from firmware_emulator.car import ACTUATION_MS, PUMP_L_PER_S, Car, Leaf
from firmware_emulator.chance import seeded
from firmware_emulator.errors import DeedError
from firmware_emulator.street import City, Heading, Place


def unlocked_car(*, fuel_l: float = 40.0) -> Car:
    return Car(seeded(1), fuel_l=fuel_l, locked=False)


def running_car(*, fuel_l: float = 40.0) -> Car:
    car = unlocked_car(fuel_l=fuel_l)
    car.set_starter(released=True)
    car.open_door()
    car.sit()
    car.close_door()
    car.turn_key(start=True)
    return car


def test_bolts_arrive_after_their_actuation_time_and_not_before() -> None:
    car = unlocked_car()

    car.move_bolts(locked=True)
    car.advance(ACTUATION_MS - 10)
    early = car.locked
    car.advance(10)

    assert (early, car.locked) == (False, True)


def test_a_door_opened_while_the_bolts_close_leaves_the_car_unlocked() -> None:
    # I-1: a bolt that meets an open leaf comes back.
    car = unlocked_car()

    car.move_bolts(locked=True)
    car.advance(ACTUATION_MS // 2)
    car.open_door()
    car.advance(ACTUATION_MS)

    assert not car.locked


def test_a_locked_door_opens_from_inside_and_not_from_outside() -> None:
    # I-3: doors always open from inside.
    car = Car(seeded(1), locked=True)

    with pytest.raises(DeedError, match="driver's door is locked"):
        car.open_door()
    car.open_door(inside=True)

    assert car.open_leaves == {Leaf.DRIVER}
    assert not car.locked


def test_the_engine_does_not_start_while_the_starter_is_held() -> None:
    # C11: only after the PIN.
    car = unlocked_car()
    car.open_door()
    car.sit()

    assert car.turn_key(start=True) is False
    assert (car.ignition_on, car.engine_running) == (True, False)


def test_the_engine_does_not_start_with_an_empty_tank() -> None:
    car = unlocked_car(fuel_l=0.0)
    car.set_starter(released=True)
    car.open_door()
    car.sit()

    assert car.turn_key(start=True) is False


def drive(car: Car) -> None:
    car.drive(100)


def start(car: Car) -> None:
    car.turn_key(start=True)


@pytest.mark.parametrize(
    ("deed", "why"),
    [
        (drive, "nobody sits"),
        (start, "nobody sits"),
        (Car.sit, "door is closed"),
        (Car.get_out, "door is closed"),
    ],
)
def test_what_a_driver_outside_cannot_do_is_said(
    deed: Callable[[Car], None], why: str
) -> None:
    with pytest.raises(DeedError, match=why):
        deed(unlocked_car())


def test_no_drive_begins_with_an_open_door() -> None:
    car = running_car()
    car.open_door(Leaf.BOOT)

    with pytest.raises(DeedError, match="something is open"):
        car.drive(100)


def test_no_door_opens_while_the_car_drives() -> None:
    car = running_car()
    car.drive(100)
    car.advance(3_000)

    with pytest.raises(DeedError, match="the car drives"):
        car.open_door(inside=True)


@pytest.mark.parametrize("distance_m", [0.5, 30, 150, 1_234])
def test_a_drive_has_exactly_its_length_and_ends_standing(distance_m: float) -> None:
    car = running_car()

    car.drive(distance_m)
    car.advance(10 * 60_000)

    assert car.odometer_mm == round(distance_m * 1_000)
    assert (car.driving, car.speed_dkmh) == (False, 0)
    assert car.city.is_street(car.place)


def test_a_drive_of_150_m_takes_a_time_that_a_car_would_need() -> None:
    # N9 has 30 km/h on average; 50 km/h is the limit. Nothing is compressed.
    car = running_car()

    car.drive(150)
    passed_ms = 0
    top_dkmh = 0
    while car.driving:
        car.advance(10)
        passed_ms += 10
        top_dkmh = max(top_dkmh, car.speed_dkmh or 0)

    assert 12_000 < passed_ms < 20_000
    assert 450 < top_dkmh <= 500


def test_eight_litres_last_a_hundred_kilometres() -> None:
    # N9: 8 l per 100 km.
    car = running_car()

    car.drive(10_000)
    car.advance(20 * 60_000)

    assert car.fuel_l == pytest.approx(40.0 - 0.8, abs=1e-6)


def test_a_level_just_above_a_quarter_falls_below_it_in_a_short_drive() -> None:
    # N2: below 25 %. 12.505 l of 50 l show 25 %, 100 m later 24 %.
    car = running_car(fuel_l=12.505)
    before = car.energy_pct

    car.drive(100)
    car.advance(60_000)

    assert (before, car.energy_pct) == (25, 24)


def test_a_car_out_of_fuel_rolls_out_and_its_engine_is_off() -> None:
    car = running_car(fuel_l=0.004)

    car.drive(5_000)
    car.advance(10 * 60_000)

    assert (car.engine_running, car.driving) == (False, False)
    assert 50_000 <= car.odometer_mm < 150_000


def test_the_pump_gives_no_more_than_a_nozzle_may() -> None:
    car = unlocked_car(fuel_l=10.0)

    car.refuel(6.0)
    car.advance(1_000)

    assert car.fuel_l == pytest.approx(10.0 + PUMP_L_PER_S)


def test_the_pump_stops_at_what_was_asked_and_at_a_full_tank() -> None:
    part, full = unlocked_car(fuel_l=10.0), unlocked_car(fuel_l=49.0)

    for car in (part, full):
        car.refuel(6.0)
        car.advance(60_000)

    assert part.fuel_l == pytest.approx(16.0)
    assert full.fuel_l == pytest.approx(50.0)
    assert (part.fuelling, full.fuelling) == (False, False)


def test_washer_fluid_is_used_and_filled_within_its_tank() -> None:
    # C23
    car = unlocked_car()

    car.spray_washer(1_000)
    empty = car.washer_pct
    car.fill_washer(99)

    assert (empty, car.washer_pct) == (0, 100)


def test_a_jammed_bolt_does_not_move() -> None:
    car = unlocked_car()
    car.faults.bolts_jammed = True

    car.move_bolts(locked=True)
    car.advance(1_000)

    assert not car.locked


def test_no_door_opens_once_the_driver_sets_off() -> None:
    car = running_car()
    car.drive(700)

    with pytest.raises(DeedError):
        car.open_door()


def test_an_unknown_speed_is_no_speed() -> None:
    # I-2: unknown counts as moving, so it must be told from 0.
    car = unlocked_car()
    car.faults.speed_sensor_dead = True

    assert car.speed_dkmh is None


@given(cuts=st.lists(st.integers(0, 4_000), max_size=40))
def test_how_finely_time_is_cut_makes_no_difference(cuts: list[int]) -> None:
    whole, sliced = running_car(), running_car()
    for car in (whole, sliced):
        car.drive(400)

    for cut in cuts:
        sliced.advance(cut)
    whole.advance(sum(cuts))

    for name in ("odometer_mm", "place", "heading", "speed_mm_per_s", "fuel_l"):
        assert getattr(sliced, name) == getattr(whole, name)


@given(seed=st.integers(0, 1_000), distance_m=st.integers(1, 5_000))
def test_the_same_seed_drives_the_same_way_along_streets(
    seed: int, distance_m: int
) -> None:
    city = City()
    start_at = city.random_crossing(seeded(seed))

    def places() -> list[Place]:
        rng = seeded(seed)
        legs = city.wander(start_at, list(Heading)[seed % 4], distance_m * 1_000, rng)
        passed = [start_at]
        for leg in legs:
            passed.append(passed[-1].moved(leg.heading, leg.distance_mm))
        return passed

    first = places()

    assert first == places()
    assert all(city.is_street(place) for place in first)


class CarLife(RuleBasedStateMachine):
    """Any deeds in any order: what must hold of a car at all times."""

    def __init__(self) -> None:
        super().__init__()
        self.car = unlocked_car(fuel_l=20.0)
        self.odometer_mm = 0
        self.fuel_l = self.car.fuel_l

    @rule(
        deed=st.sampled_from(
            [
                Car.open_door,
                lambda car: car.open_door(inside=True),
                lambda car: car.open_door(Leaf.BOOT),
                Car.close_door,
                lambda car: car.close_door(Leaf.BOOT),
                Car.sit,
                Car.get_out,
                lambda car: car.turn_key(start=True),
                lambda car: car.turn_key(start=False),
                lambda car: car.drive(700),
                lambda car: car.move_bolts(locked=True),
                lambda car: car.move_bolts(locked=False),
                lambda car: car.set_starter(released=True),
                Car.spray_washer,
                lambda car: car.fill_washer(1.0),
            ]
        )
    )
    def do(self, deed: Callable[[Car], object]) -> None:
        with contextlib.suppress(DeedError):
            deed(self.car)

    @precondition(lambda self: not self.car.engine_running)
    @rule(litres=st.floats(0.1, 60.0))
    def refuel(self, litres: float) -> None:
        self.car.refuel(litres)

    @rule(duration_ms=st.integers(0, 30_000))
    def wait(self, duration_ms: int) -> None:
        was_fuelling = self.car.fuelling
        self.car.advance(duration_ms)
        if not was_fuelling:
            assert self.car.fuel_l <= self.fuel_l
        self.fuel_l = self.car.fuel_l

    @invariant()
    def levels_are_shares(self) -> None:
        assert 0 <= self.car.energy_pct <= 100
        assert 0 <= self.car.washer_pct <= 100
        assert 0 <= self.car.fuel_l <= self.car.model.tank_l

    @invariant()
    def the_odometer_never_goes_back(self) -> None:
        assert self.car.odometer_mm >= self.odometer_mm
        self.odometer_mm = self.car.odometer_mm

    @invariant()
    def a_moving_car_is_closed(self) -> None:
        assert not (self.car.speed_mm_per_s > 0 and self.car.open_leaves)

    @invariant()
    def it_is_on_a_street(self) -> None:
        assert self.car.city.is_street(self.car.place)


TestCarLife = CarLife.TestCase
