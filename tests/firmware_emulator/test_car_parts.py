"""Route, wear, charging, windows: the parts of an emulated car beside its drive."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_emulator.board_firmware import BoardFirmware
from firmware_emulator.car import Car, CarModel, Leaf, Window
from firmware_emulator.car_file import load_car, save_car
from firmware_emulator.chance import seeded
from firmware_emulator.devices import mixed_car
from firmware_emulator.errors import DeedError
from firmware_emulator.street import City, Heading, Place
from firmware_emulator.upkeep import Upkeep
from protocol.board.framing import BoardDecoder
from protocol.board.message import Plug, Sensors, State
from protocol.codes import Bits, EnergyKind

CITY = City()
BLOCK_MM = CITY.block_m * 1_000


def places() -> st.SearchStrategy[Place]:
    """Any place on a street near the middle."""
    along = st.integers(0, 6 * BLOCK_MM)
    across = st.integers(0, 6).map(lambda number: number * BLOCK_MM)
    return st.builds(Place, along, across) | st.builds(Place, across, along)


def ready_car(model: CarModel | None = None, **fields: object) -> Car:
    """A car whose engine runs."""
    car = Car(seeded(1), model=model or CarModel(), locked=False, **fields)  # type: ignore[arg-type] # fields of a test
    car.set_starter(released=True)
    car.open_door()
    car.sit()
    car.close_door()
    car.turn_key(start=True)
    return car


def drive_out(car: Car) -> None:
    """Let a drive come to its end."""
    while car.driving:
        car.advance(1_000)


# --- route ----------------------------------------------------------------------------


@given(start=places(), goal=places())
def test_a_route_leads_along_streets_and_is_no_detour(
    start: Place, goal: Place
) -> None:
    """The position moves along streets, by a way that nobody would call a detour."""
    legs = CITY.route(start, goal)

    place, length_mm = start, 0
    for leg in legs:
        for step_mm in range(0, leg.distance_mm, BLOCK_MM // 4):
            assert CITY.is_street(place.moved(leg.heading, step_mm))
        place = place.moved(leg.heading, leg.distance_mm)
        length_mm += leg.distance_mm
    assert place == goal
    direct_mm = abs(goal.east_mm - start.east_mm) + abs(goal.north_mm - start.north_mm)
    assert direct_mm <= length_mm <= direct_mm + BLOCK_MM


def test_a_drive_to_a_place_ends_there_and_has_the_length_of_its_way() -> None:
    """Position, heading and odometer follow one another."""
    car = ready_car(place=Place(0, 0))
    before_mm = car.odometer_mm

    length_m = car.drive_to(Place(300_000, 250_000))
    halfway = None
    while car.driving:
        car.advance(100)
        if halfway is None and car.odometer_mm - before_mm > 200_000:
            halfway = car.place

    assert car.place == Place(300_000, 250_000)
    assert car.odometer_mm - before_mm == length_m * 1_000 == 550_000
    assert halfway is not None
    assert CITY.is_street(halfway)
    assert car.heading in {Heading.NORTH, Heading.EAST}


def test_no_drive_begins_to_where_no_street_is_or_the_car_stands() -> None:
    """A deed that is impossible changes nothing."""
    car = ready_car(place=Place(0, 0))

    with pytest.raises(DeedError, match="on no street"):
        car.drive_to(Place(50_500, 50_500))
    with pytest.raises(DeedError, match="is there"):
        car.drive_to(Place(0, 0))
    assert not car.driving


# --- wear -----------------------------------------------------------------------------


@given(cuts=st.lists(st.integers(1, 900_000_000), min_size=1, max_size=6))
def test_wear_depends_on_the_distance_and_not_on_how_it_is_cut(cuts: list[int]) -> None:
    """C30: a drive wears a car as much as its halves do."""
    whole, pieces = Upkeep(), Upkeep()

    whole.roll(sum(cuts))
    for piece in cuts:
        pieces.roll(piece)

    assert whole == pieces
    assert whole.service_km == max(0, 12_000 - sum(cuts) // 1_000_000)


def test_a_worn_car_never_wears_below_nothing() -> None:
    """What a gauge shows stays within its scale."""
    car = Upkeep(service_km=1, oil_pct=0, brake_pct=0, tread_dmm=0)

    car.roll(2_000_000_000)

    assert (car.service_km, car.oil_pct) == (0, 0)
    assert (car.brake_pct, car.tread_dmm) == (0, 0)


# --- charging -------------------------------------------------------------------------


def electric(**fields: object) -> Car:
    """An electric car with an open door."""
    return Car(seeded(1), model=CarModel.electric(), locked=False, **fields)  # type: ignore[arg-type] # fields of a test


def test_an_electric_car_charges_by_its_plug_only_and_stops_when_it_is_pulled() -> None:
    """H13"""
    car = electric(fuel_l=10.0)
    with pytest.raises(DeedError, match="cable is out"):
        car.refuel(6)

    car.plug_in()
    car.refuel(30)
    car.advance(60_000)
    after_a_minute = car.fuel_l
    car.unplug()
    car.advance(60_000)

    assert after_a_minute == pytest.approx(12.5, abs=0.01)  # 150 kW
    assert car.fuel_l == after_a_minute
    assert car.upkeep.plug is Plug.OUT


def test_nobody_drives_away_with_the_cable_in() -> None:
    """The car would take the charger with it."""
    car = ready_car(CarModel.electric())
    car.plug_in()

    with pytest.raises(DeedError, match="charging cable is in"):
        car.drive(10)


def test_a_fuel_car_has_no_plug() -> None:
    """H13"""
    car = Car(seeded(1))

    with pytest.raises(DeedError, match="no socket"):
        car.plug_in()
    with pytest.raises(DeedError, match="no socket"):
        car.unplug()
    assert car.upkeep.sensed().plug is Plug.UNKNOWN


# --- what the board sees and the file keeps -------------------------------------------


def said_by(car: Car) -> tuple[Sensors, State]:
    """What the board says first."""
    data = BoardFirmware(car, now_ms=0).tick(now_ms=0)
    sensors, state = (frame.message for frame in BoardDecoder().feed(data))
    assert isinstance(sensors, Sensors)
    assert isinstance(state, State)
    return sensors, state


@pytest.mark.parametrize("window", list(Window), ids=lambda one: one.name)
def test_one_open_window_is_an_open_window(window: Window) -> None:
    """The board has one switch for all of them."""
    car = Car(seeded(1))

    car.move_window(window, is_open=True)
    opened = said_by(car)[1].bits
    car.move_window(window, is_open=False)

    assert Bits.WINDOW_OPEN in opened
    assert Bits.WINDOW_OPEN not in said_by(car)[1].bits


def test_the_board_says_what_an_electric_car_is() -> None:
    """H13, C30"""
    car = electric(fuel_l=25.0)
    car.plug_in()

    sensors, state = said_by(car)

    assert (state.energy_kind, state.energy_pct) == (EnergyKind.ELECTRIC, 50)
    assert state.range_km == 166
    assert sensors.plug is Plug.IN


def test_a_car_is_kept_with_its_kind_and_its_wear(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A car that stands where it was left is as worn as it was, too."""
    path = tmp_path_factory.mktemp("car") / "car.json"
    car = electric(place=Place(0, 0))
    car.upkeep.roll(700_000_000)
    car.open_leaves.add(Leaf.BOOT)

    save_car(car, path)
    again = load_car(path, seeded(2))

    assert again is not None
    assert again.model.energy_kind is EnergyKind.ELECTRIC
    assert again.upkeep.service_km == 11_300
    assert again.upkeep.brake_pct == car.upkeep.brake_pct


def test_a_mixed_fleet_has_both_kinds() -> None:
    """H13"""
    kinds = {mixed_car(seeded(1, number)).model.energy_kind for number in range(20)}

    assert kinds == {EnergyKind.FUEL, EnergyKind.ELECTRIC}
