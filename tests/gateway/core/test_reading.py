"""What the board's words mean to the core."""

from dataclasses import replace

import pytest

from gateway.core.board_report import event_of, reading_of
from gateway.core.events import (
    BoardLost,
    BoardRefusal,
    BoardRefused,
    BoardReported,
)
from protocol.board.link import (
    BoardSilent,
    OrderLost,
    OrderRefused,
    OrderTaken,
    StateReceived,
    Synchronised,
)
from protocol.board.message import (
    AllowEngine,
    FlashHazards,
    Order,
    Plug,
    RefusalReason,
    Sensors,
    SetLight,
    SetLocks,
    State,
    Tyres,
)
from protocol.codes import Bits, EnergyKind, Light
from tests.gateway.core.scene import RESTING

SAID = State(
    firmware=bytes([1, 2, 3, 0]),
    boot_count=1,
    uptime_s=5,
    last_seq=0,
    energy_kind=EnergyKind.ELECTRIC,
    bits=Bits(0),
    speed_dkmh=None,
    odometer_m=5,
    energy_pct=6,
    washer_pct=7,
    range_km=8,
    supply_mv=9,
)


@pytest.mark.parametrize("bit", list(Bits), ids=lambda bit: str(bit.name))
def test_each_flag_of_the_board_is_one_fact(bit: Bits) -> None:
    # MOVING follows from the speed on both sides.
    reading = reading_of(replace(SAID, bits=bit, speed_dkmh=0))

    assert reading.bits == (Bits(0) if bit is Bits.MOVING else bit)


@pytest.mark.parametrize(
    ("speed_dkmh", "moving"), [(0, False), (1, True), (None, True)]
)
def test_an_unknown_speed_counts_as_moving(
    speed_dkmh: int | None, moving: bool
) -> None:
    # I-2
    reading = replace(RESTING, speed_dkmh=speed_dkmh)

    assert reading.moving is moving
    assert (Bits.MOVING in reading.bits) is moving


def test_measurements_pass_through() -> None:
    reading = reading_of(SAID)

    assert reading.energy_kind is EnergyKind.ELECTRIC
    assert (reading.odometer_m, reading.energy_pct) == (5, 6)
    assert (reading.washer_pct, reading.range_km, reading.supply_mv) == (7, 8, 9)
    assert event_of(StateReceived(SAID)) == BoardReported(reading)


@pytest.mark.parametrize("reason", list(RefusalReason), ids=lambda r: r.name)
@pytest.mark.parametrize("order", [SetLocks(locked=True), AllowEngine(released=True)])
def test_a_refused_actuation_is_an_event(order: Order, reason: RefusalReason) -> None:
    assert event_of(OrderRefused(order, reason)) == BoardRefused(
        BoardRefusal[reason.name], of_engine=isinstance(order, AllowEngine)
    )


@pytest.mark.parametrize(
    "order", [SetLight(Light.RED, blinking=True), FlashHazards(seconds=5)]
)
def test_a_refused_lamp_is_no_refused_actuation(order: Order) -> None:
    # It must not fail an unlock that is under way.
    assert event_of(OrderRefused(order, RefusalReason.FAULT)) is None


def test_a_silent_board_is_an_event() -> None:
    assert event_of(BoardSilent()) == BoardLost()


def test_what_concerns_the_link_alone_is_no_event() -> None:
    order = SetLocks(locked=True)

    assert event_of(Synchronised()) is None
    assert event_of(OrderTaken(order)) is None
    assert event_of(OrderLost(order)) is None


def test_slow_sensors_are_part_of_the_reading_that_comes_after_them() -> None:
    # C30, H13
    sensed = Sensors(Plug.IN, Tyres.WINTER, 52, 41, 63, 8_400, 120, (0x0301,))

    reading = reading_of(SAID, sensed)

    assert (reading.plug, reading.tyres, reading.tread_dmm) == (
        Plug.IN,
        Tyres.WINTER,
        52,
    )
    assert (reading.oil_pct, reading.brake_pct) == (41, 63)
    assert (reading.service_km, reading.service_days) == (8_400, 120)
    assert reading.trouble_codes == (0x0301,)
    assert event_of(StateReceived(SAID, sensed)) == BoardReported(reading)


def test_without_slow_sensors_nothing_is_known_of_wear() -> None:
    # C30
    reading = reading_of(SAID)

    assert (reading.plug, reading.tyres) == (Plug.UNKNOWN, Tyres.UNKNOWN)
    assert reading.trouble_codes is None
