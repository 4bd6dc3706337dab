"""The rental report: what money depends on (C25, C27, H7, H21, I-29)."""

import pytest

from gateway.core.prompts import Choice
from protocol.codes import Bits, ClockQuality, RentalMode
from protocol.event import RentalEnded, Resumed
from tests.gateway.core.scene import START_WALL_MS, Scene

TEN_YEARS_MS = 10 * 365 * 86_400_000


def _one_rental(scene: Scene) -> RentalEnded:
    """10 min about, 20 s of it parked twice, then end."""
    scene.rent_and_release()
    scene.drive(seconds=60, metres=900)
    for _ in range(2):
        scene.choose(Choice.PARK)
        scene.tap_later()
        scene.advance(100)
        scene.tap_later()
    scene.type_pin()
    scene.drive(seconds=60, metres=100)
    scene.tap_later()
    return scene.one(RentalEnded)


def test_the_report_says_minutes_parking_distance_and_levels() -> None:
    # FF-LED-25, FF-LED-26, FF-LED-27.
    # C27
    scene = Scene()

    report = _one_rental(scene)

    assert report.parking_ms == 2 * 106_000
    assert report.total_ms == 60_000 + 2 * (6_000 + 106_000) + 60_000 + 6_000
    assert report.parking_min == 4
    assert report.driving_min == 3
    assert report.distance_m == 1_000
    assert (report.start_energy_pct, report.end_energy_pct) == (80, 80)
    assert (report.start_washer_pct, report.end_washer_pct) == (60, 60)
    assert report.range_km == 400
    assert not report.estimated
    assert Bits.LOCKED in report.bits
    assert Bits.ENGINE_RELEASED not in report.bits


def test_each_stay_is_told_when_it_is_over() -> None:
    # FF-LED-26.
    # H7
    scene = Scene()

    report = _one_rental(scene)

    assert [stay.parked_ms for stay in scene.told(Resumed)] == [106_000, 106_000]
    assert report.parking_ms == sum(stay.parked_ms for stay in scene.told(Resumed))


@pytest.mark.parametrize("jump_ms", [TEN_YEARS_MS, -TEN_YEARS_MS])
def test_a_wall_clock_that_jumps_changes_labels_and_no_minute(jump_ms: int) -> None:
    # FF-LED-25.
    # I-29
    usual = _one_rental(Scene())
    scene = Scene()
    scene.reserve()
    scene.wall_ms += jump_ms
    scene.tap()
    scene.wall_ms -= 2 * jump_ms
    scene.advance(60)
    scene.wall_ms += 3 * jump_ms
    scene.tap()

    report = scene.one(RentalEnded)
    assert report.total_ms == 60_000
    assert report.started_wall_ms == START_WALL_MS + jump_ms
    assert report.driving_min == 1
    assert usual.total_ms == 350_000


@pytest.mark.parametrize("jump_ms", [TEN_YEARS_MS, -TEN_YEARS_MS])
def test_no_timer_fires_early_or_late_when_the_wall_clock_jumps(jump_ms: int) -> None:
    # I-29
    scene = Scene()
    scene.reserve(seconds=900)

    scene.wall_ms += jump_ms
    scene.advance(899)
    kept = scene.mode
    scene.advance(1)

    assert kept is RentalMode.RESERVED
    assert scene.mode is RentalMode.AVAILABLE


@pytest.mark.parametrize(
    ("total_s", "minutes"), [(6, 1), (59.999, 1), (60, 1), (60.001, 2), (3_600, 60)]
)
def test_every_minute_that_began_is_billed(total_s: float, minutes: int) -> None:
    # FF-LED-27.
    scene = Scene()
    scene.rent()

    scene.advance(total_s)
    scene.tap()

    report = scene.one(RentalEnded)
    assert (report.driving_min, report.parking_min) == (minutes, 0)


@pytest.mark.parametrize(
    ("start_m", "end_m", "distance_m"),
    [
        (100, 100, 0),
        (100, 101, 1),
        (100, 99, None),
        (None, 100, None),
        (100, None, None),
        (None, None, None),
    ],
)
def test_no_distance_is_better_than_a_wrong_one(
    start_m: int | None, end_m: int | None, distance_m: int | None
) -> None:
    # An odometer that went back was exchanged.
    scene = Scene()
    scene.board(odometer_m=start_m)
    scene.rent()
    scene.board(odometer_m=end_m)

    scene.tap_later()

    report = scene.one(RentalEnded)
    assert (report.start_odometer_m, report.end_odometer_m) == (start_m, end_m)
    assert report.distance_m == distance_m


def test_the_report_says_how_far_its_labels_can_be_trusted() -> None:
    scene = Scene(quality=ClockQuality.UNSET)
    scene.rent()
    scene.quality = ClockQuality.GNSS

    scene.tap_later()

    report = scene.one(RentalEnded)
    assert report.started_quality is ClockQuality.UNSET
    assert report.ended_quality is ClockQuality.GNSS


def test_washer_fluid_is_measured_at_start_and_end() -> None:
    # C23
    scene = Scene()
    scene.rent()
    scene.board(washer_pct=95)

    scene.tap_later()

    report = scene.one(RentalEnded)
    assert (report.start_washer_pct, report.end_washer_pct) == (60, 95)


def test_nothing_of_the_customer_stays_in_the_car() -> None:
    scene = Scene()

    _one_rental(scene)

    assert scene.state.rental is None
    assert scene.state.reservation is None
