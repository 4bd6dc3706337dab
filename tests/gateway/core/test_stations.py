"""Partner stations: the nearest ones, and the geofence (C14, C15, C16, C18, H17)."""

from dataclasses import replace

import pytest

from gateway.core.bearing import Compass
from gateway.core.events import ConfigurationTold, PositionFixed
from gateway.core.prompts import Choice, Line, LineKey, Prompt, PromptKey, term_of
from gateway.core.reading import Position
from protocol.codes import ConfigKind, EnergyKind, RentalMode
from protocol.station_list import Station, build_station_list
from tests.gateway.core.scene import Scene

E7 = 10_000_000
LATITUDE = 48 * E7
LONGITUDE = 11 * E7


def station(
    number: int, north_m: float, kind: EnergyKind = EnergyKind.FUEL, radius_m: int = 75
) -> Station:
    latitude_e7 = LATITUDE + round(north_m / 111_195 * E7)
    return Station(number, f"No {number}", latitude_e7, LONGITUDE, kind, radius_m)


STATIONS = (
    station(1, 2_000),
    station(2, 740),
    station(3, -5_130),
    station(4, 9_000),
    station(5, 100, EnergyKind.ELECTRIC),
)


def told(stations: tuple[Station, ...] = STATIONS) -> Scene:
    scene = Scene()
    body = build_station_list(stations)
    scene.happen(ConfigurationTold(ConfigKind.STATIONS, body))
    return scene


def fix(
    scene: Scene,
    *,
    north_m: float = 0,
    east_m: float = 0,
    accuracy_dm: int = 30,
    age_ms: int = 0,
) -> None:
    """Be so far from the origin."""
    latitude_e7 = LATITUDE + round(north_m / 111_195 * E7)
    # The cosine of 48 degrees.
    longitude_e7 = LONGITUDE + round(east_m / 111_195 / 0.66913 * E7)
    position = Position(latitude_e7, longitude_e7, accuracy_dm, None, age_ms)
    scene.happen(PositionFixed(position))


def stop_at(scene: Scene, **where: float) -> None:
    """Drive, and stop the engine there."""
    scene.rent_and_release()
    scene.drive_off()
    fix(scene, **where)  # type: ignore[arg-type] # by name
    scene.board(engine_running=False, ignition_on=False, speed_dkmh=0)


def away(distance_m: int, name: str, compass: Compass) -> Line:
    """What a display shows of a station."""
    return Line(
        LineKey.STATION, (distance_m,), words=(name,), terms=(term_of(compass),)
    )


def test_a_driver_with_a_low_level_sees_the_nearest_stations() -> None:
    # C14, C15, N2: name, distance and direction of three; another kind of energy does
    # not count.
    scene = told()
    scene.rent_and_release()
    scene.drive_off()
    fix(scene)

    scene.board(energy_pct=20)

    assert scene.state.shown_prompt == Prompt(
        PromptKey.ENERGY_LOW,
        (20,),
        lines=(
            away(700, "No 2", Compass.NORTH),
            away(2_000, "No 1", Compass.NORTH),
            away(5_100, "No 3", Compass.SOUTH),
        ),
    )


def test_the_list_follows_the_car() -> None:
    # C15, C18: tracked continuously
    scene = told()
    scene.rent_and_release()
    scene.drive_off()
    fix(scene)
    scene.board(energy_pct=20)

    fix(scene, north_m=-5_000)
    near = scene.state.shown_prompt.lines[0]
    fix(scene, north_m=-5_120)

    assert near == away(100, "No 3", Compass.SOUTH)
    there = scene.state.shown_prompt.lines[0]
    assert there == Line(LineKey.STATION_HERE, words=("No 3",))


@pytest.mark.parametrize(
    ("north_m", "east_m", "compass"),
    [
        (-2_000, 0, Compass.NORTH),
        (-2_000, -2_000, Compass.NORTH_EAST),
        (-2_000, -700, Compass.NORTH),
        (-2_000, -900, Compass.NORTH_EAST),
        (0, -2_000, Compass.EAST),
        (2_000, -2_000, Compass.SOUTH_EAST),
        (2_000, 0, Compass.SOUTH),
        (2_000, 2_000, Compass.SOUTH_WEST),
        (0, 2_000, Compass.WEST),
        (-2_000, 2_000, Compass.NORTH_WEST),
        (-2_000, 700, Compass.NORTH),
    ],
)
def test_the_direction_is_the_nearest_of_eight_points(
    north_m: float, east_m: float, compass: Compass
) -> None:
    # C15: a display without a map
    scene = told((station(1, 0),))
    scene.rent_and_release()
    scene.drive_off()
    fix(scene, north_m=north_m, east_m=east_m)

    scene.board(energy_pct=20)

    [line] = scene.state.shown_prompt.lines
    assert line.terms == (term_of(compass),)


def test_a_driver_who_stands_with_a_low_level_reads_where_to_go_too() -> None:
    # C14, C15: before the drive, and when the engine is off again
    scene = told()
    scene.rent_and_release()
    fix(scene)
    scene.board(energy_pct=20)
    before = scene.state.shown_prompt

    scene.drive()

    lines = (
        Line(LineKey.ENERGY_LOW, (20,)),
        away(700, "No 2", Compass.NORTH),
        away(2_000, "No 1", Compass.NORTH),
        away(5_100, "No 3", Compass.SOUTH),
    )
    assert (before.key, before.lines) == (PromptKey.MAY_START, lines)
    assert scene.prompt is PromptKey.CHOOSE_NEXT
    assert scene.state.shown_prompt.lines == lines


def test_an_electric_car_that_stands_speaks_of_its_charge() -> None:
    # C14, H13
    scene = told()
    scene.rent_and_release()

    scene.board(energy_pct=24, energy_kind=EnergyKind.ELECTRIC)

    assert scene.state.shown_prompt.lines == (Line(LineKey.CHARGE_LOW, (24,)),)


def test_an_electric_car_sees_chargers_only() -> None:
    # H13, C15
    scene = told()
    scene.rent_and_release()
    scene.drive_off()
    fix(scene)

    scene.board(energy_pct=20, energy_kind=EnergyKind.ELECTRIC)

    [line] = scene.state.shown_prompt.lines
    assert line == away(100, "No 5", Compass.NORTH)


def test_an_electric_car_speaks_of_charging_and_offers_the_same() -> None:
    # H13, C14, C16, C18
    scene = told()
    scene.rent_and_release()
    scene.board(energy_kind=EnergyKind.ELECTRIC)
    scene.drive_off()
    fix(scene)
    scene.board(energy_pct=20)
    low = scene.prompt
    scene.board(engine_running=False, ignition_on=False, speed_dkmh=0)
    away = scene.prompt
    fix(scene, north_m=100)

    assert (low, away) == (PromptKey.CHARGE_LOW, PromptKey.CHOOSE_NEXT_ELECTRIC)
    assert scene.prompt is PromptKey.OFFER_CHARGE
    scene.choose(Choice.REFUEL)
    assert scene.mode is RentalMode.REFUELLING


def test_without_a_position_the_low_level_is_told_all_the_same() -> None:
    # C14
    scene = told()
    scene.rent_and_release()
    scene.drive_off()

    scene.board(energy_pct=20)

    assert scene.state.shown_prompt == Prompt(PromptKey.ENERGY_LOW, (20,))


def test_a_car_that_stops_at_a_station_offers_to_refuel_first() -> None:
    # C16, C18
    scene = told()

    stop_at(scene, north_m=700)

    assert scene.state.shown_prompt == Prompt(PromptKey.OFFER_REFUEL, words=("No 2",))
    scene.choose(Choice.REFUEL)
    assert scene.mode is RentalMode.REFUELLING


@pytest.mark.parametrize(("away_m", "offered"), [(74.0, True), (76.0, False)])
@pytest.mark.parametrize("direction", ["north_m", "east_m"])
def test_the_geofence_has_75_metres(
    away_m: float, offered: bool, direction: str
) -> None:
    # H17
    scene = told((station(1, 0),))

    stop_at(scene, **{direction: away_m})

    expected = PromptKey.OFFER_REFUEL if offered else PromptKey.CHOOSE_NEXT
    assert scene.prompt is expected


def test_a_station_may_have_a_geofence_of_its_own() -> None:
    # H17: per station
    scene = told((station(1, 0, radius_m=200),))

    stop_at(scene, north_m=190)

    assert scene.prompt is PromptKey.OFFER_REFUEL


def test_of_two_stations_the_nearer_one_is_meant() -> None:
    # C18
    scene = told((station(1, 60), station(2, 20)))

    stop_at(scene)

    assert scene.state.shown_prompt.words == ("No 2",)


@pytest.mark.parametrize(
    ("accuracy_dm", "age_ms", "offered"),
    [
        (500, 0, True),
        (501, 0, False),
        (30, 30_000, True),
        (30, 30_001, False),
    ],
)
def test_a_vague_or_old_fix_never_triggers(
    accuracy_dm: int, age_ms: int, offered: bool
) -> None:
    # H17: 50 m, 30 s
    scene = told((station(1, 0),))

    stop_at(scene, accuracy_dm=accuracy_dm, age_ms=age_ms)

    expected = PromptKey.OFFER_REFUEL if offered else PromptKey.CHOOSE_NEXT
    assert scene.prompt is expected


def test_a_fix_that_comes_after_the_stop_counts_too() -> None:
    # C18
    scene = told()
    scene.rent_and_release()
    scene.drive()
    before = scene.prompt

    fix(scene, north_m=700)

    shown = (before, scene.prompt)
    assert shown == (PromptKey.CHOOSE_NEXT, PromptKey.OFFER_REFUEL)


def test_before_the_first_drive_nothing_is_offered() -> None:
    # C18: on engine off, and not to somebody who has just got in.
    scene = told()
    scene.rent_and_release()

    fix(scene, north_m=700)

    assert scene.prompt is PromptKey.MAY_START


def test_a_station_that_the_fleet_strikes_off_is_offered_no_more() -> None:
    scene = told()
    stop_at(scene, north_m=700)

    body = build_station_list(())
    scene.happen(ConfigurationTold(ConfigKind.STATIONS, body))

    assert scene.prompt is PromptKey.CHOOSE_NEXT


def test_driving_on_leaves_the_station_behind() -> None:
    # C18
    scene = told()
    stop_at(scene, north_m=700)

    scene.drive_off()
    fix(scene, north_m=1_300)
    scene.board(engine_running=False, ignition_on=False, speed_dkmh=0)

    assert scene.prompt is PromptKey.CHOOSE_NEXT


def test_distances_are_measured_the_short_way_round_the_earth() -> None:
    # C15: Fiji has cars too.
    at_date_line = replace(station(1, 0), longitude_e7=1_799_999_000)
    scene = told((at_date_line,))
    scene.rent_and_release()
    scene.drive_off()
    scene.happen(PositionFixed(Position(LATITUDE, -1_799_999_000, 30, None)))

    scene.board(energy_pct=20)

    [line] = scene.state.shown_prompt.lines
    assert line.key is LineKey.STATION_HERE


def test_a_car_without_a_board_takes_stations_for_fuel() -> None:
    scene = told((station(1, 0),))
    stop_at(scene, north_m=500)
    scene.lose_board()

    fix(scene)

    assert scene.prompt is PromptKey.OFFER_REFUEL
