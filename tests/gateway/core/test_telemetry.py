"""Telemetry samples and when to take one."""

from typing import Final

import pytest

from gateway.core.reading import Position
from gateway.core.state import State
from gateway.core.telemetry import period_ms, sample_of
from protocol.codes import Bits, RentalMode
from protocol.telemetry import SAMPLE
from tests.gateway.core.scene import Scene

PLACE: Final = Position(481_371_540, 115_761_240, 35, 270)


@pytest.mark.parametrize("mode", list(RentalMode))
def test_nobody_sees_where_a_customer_drives(mode: RentalMode) -> None:
    # FF-PLC-08.
    # K25
    scene = Scene()
    scene.be(mode)

    sample = sample_of(scene.state, PLACE, age_ms=0)

    place = (
        sample.latitude_e7,
        sample.longitude_e7,
        sample.accuracy_dm,
        sample.heading_deg,
    )
    if mode.in_rental:
        assert place == (None, None, None, None)
    else:
        assert place == (481_371_540, 115_761_240, 35, 270)
    assert sample.mode is mode
    assert SAMPLE.parse(SAMPLE.build(sample)) == sample


def test_what_was_not_measured_is_none_and_never_zero() -> None:
    # FF-FRM-04.
    sample = sample_of(State(), None, age_ms=0)

    assert (sample.latitude_e7, sample.speed_dkmh, sample.energy_pct) == (None,) * 3
    assert (sample.odometer_m, sample.range_km, sample.washer_pct) == (None,) * 3
    assert (sample.supply_mv, sample.bits) == (None, Bits(0))


def test_a_sample_says_what_the_board_reads() -> None:
    scene = Scene()

    sample = sample_of(scene.state, None, age_ms=2_345)

    assert sample.age_ds == 23
    assert (sample.odometer_m, sample.energy_pct) == (12_345_000, 80)
    assert (sample.range_km, sample.washer_pct, sample.supply_mv) == (400, 60, 12_600)
    assert sample.bits == Bits.LOCKED | Bits.KEY_PRESENT | Bits.FUEL_CARD_PRESENT


def test_an_old_sample_is_at_least_as_old_as_it_can_say() -> None:
    assert sample_of(State(), None, age_ms=10**9).age_ds == 0xFFFF


@pytest.mark.parametrize("mode", list(RentalMode))
def test_a_driving_car_is_sampled_more_often(mode: RentalMode) -> None:
    expected_ms = 10_000 if mode is RentalMode.DRIVING else 60_000

    assert period_ms(State(mode=mode)) == expected_ms
