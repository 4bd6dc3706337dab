"""The emulated board's program: what it does with bytes, and what it refuses."""

from collections.abc import Iterator
from dataclasses import fields
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_emulator.board_firmware import (
    AGENT_SILENT_MS,
    MIN_MOTOR_MV,
    REPORT_MS,
    BoardFirmware,
    Indicator,
)
from firmware_emulator.car import Car, Leaf
from firmware_emulator.chance import seeded
from protocol.board.framing import BoardDecoder, build_frame
from protocol.board.message import (
    Ack,
    AllowEngine,
    BoardFrame,
    FlashHazards,
    Heartbeat,
    Message,
    Order,
    QueryState,
    RefusalReason,
    Refused,
    Sensors,
    SetLight,
    SetLocks,
    State,
)
from protocol.codes import Bits, Light


class Bench:
    """A board on the table: physics, firmware and a line that a test holds."""

    def __init__(self, car: Car | None = None) -> None:
        self.car = car or Car(seeded(1), locked=False)
        self.firmware = BoardFirmware(self.car, now_ms=0)
        self.now_ms = 0
        self.decoder = BoardDecoder()
        self.seq = 0

    def send(self, message: Message, *, seq: int | None = None) -> list[BoardFrame]:
        if seq is None:
            self.seq += 1
            seq = self.seq
        return self.put(build_frame(BoardFrame(seq, message)))

    def put(self, data: bytes) -> list[BoardFrame]:
        return self.decoder.feed(self.firmware.receive(data, now_ms=self.now_ms))

    def wait(self, duration_ms: int) -> list[BoardFrame]:
        frames = []
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            step = min(50, end_ms - self.now_ms)
            self.now_ms += step
            self.car.advance(step)
            frames += self.decoder.feed(self.firmware.tick(now_ms=self.now_ms))
        return frames

    def order(self, message: Message) -> Message:
        return self.send(message)[0].message


def states(frames: list[BoardFrame]) -> Iterator[State]:
    for frame in frames:
        if isinstance(frame.message, State):
            yield frame.message


def test_a_lock_is_acknowledged_at_once_and_read_back_when_the_bolts_are_there() -> (
    None
):
    bench = Bench()

    answers = bench.send(SetLocks(locked=True))
    later = bench.wait(200)

    assert isinstance(answers[0].message, Ack)
    assert [Bits.LOCKED in state.bits for state in states(answers)] == [False]
    assert [Bits.LOCKED in state.bits for state in states(later)] == [True]


def test_an_order_for_what_is_so_already_is_acknowledged_and_read_back() -> None:
    bench = Bench(Car(seeded(1), locked=True))

    answers = bench.send(SetLocks(locked=True))

    assert isinstance(answers[0].message, Ack)
    assert next(states(answers)).bits & Bits.LOCKED
    assert not bench.car.bolts_moving


def car_with(**fields: object) -> Car:
    car = Car(seeded(1), locked=False)
    for name, value in fields.items():
        setattr(car, name, value)
    return car


def car_without_speed() -> Car:
    car = car_with()
    car.faults.speed_sensor_dead = True
    return car


def car_with_little_power() -> Car:
    car = car_with()
    car.faults.supply_mv = MIN_MOTOR_MV - 1
    return car


@pytest.mark.parametrize(
    ("car", "reason"),
    [
        (car_with(open_leaves={Leaf.DRIVER}), RefusalReason.DOOR_OPEN),
        (car_with(open_leaves={Leaf.BOOT}), RefusalReason.DOOR_OPEN),
        (car_with(ignition_on=True), RefusalReason.ENGINE_RUNNING),
        (car_with(engine_running=True), RefusalReason.ENGINE_RUNNING),
        (car_with(speed_mm_per_s=1.0), RefusalReason.MOVING),
        (car_without_speed(), RefusalReason.MOVING),
        (car_with_little_power(), RefusalReason.LOW_VOLTAGE),
    ],
)
def test_a_lock_that_physics_forbids_is_refused_and_moves_nothing(
    car: Car, reason: RefusalReason
) -> None:
    # I-1: whatever the gateway believed when it ordered.
    bench = Bench(car)

    assert bench.order(SetLocks(locked=True)) == Refused(reason)
    assert not car.bolts_moving


@pytest.mark.parametrize(
    "car",
    [
        car_with(locked=True, engine_running=True),
        car_with(locked=True, speed_mm_per_s=10.0),
        car_with(locked=True, open_leaves={Leaf.BOOT}),
    ],
)
def test_an_unlock_needs_nothing_but_power(car: Car) -> None:
    # I-3: a state from which doors cannot be opened must not exist.
    bench = Bench(car)

    assert bench.order(SetLocks(locked=False)) == Ack()


def test_whatever_is_ordered_doors_open_from_inside() -> None:
    # I-3: bolts are open or closed; deadlocking is no order of this board.
    assert get_args(Order) == (SetLocks, AllowEngine, SetLight, FlashHazards)
    assert [field.name for field in fields(SetLocks)] == ["locked"]
    orders = (
        SetLocks(locked=True),
        AllowEngine(released=False),
        SetLight(Light.RED, blinking=True),
        FlashHazards(30),
    )
    for leaf in (Leaf.DRIVER, Leaf.PASSENGER):
        bench = Bench()
        for order in orders:
            assert bench.order(order) == Ack()
            bench.wait(500)
        assert bench.car.locked

        bench.car.open_door(leaf, inside=True)

        assert leaf in bench.car.open_leaves


@pytest.mark.parametrize(
    ("car", "reason"),
    [
        (car_with(engine_running=True), RefusalReason.ENGINE_RUNNING),
        (car_with(speed_mm_per_s=1.0), RefusalReason.MOVING),
        (car_without_speed(), RefusalReason.MOVING),
    ],
)
def test_the_engine_is_not_held_while_it_runs_or_the_car_may_move(
    car: Car, reason: RefusalReason
) -> None:
    # I-2
    car.starter_released = True
    bench = Bench(car)

    assert bench.order(AllowEngine(released=False)) == Refused(reason)
    assert car.starter_released


def test_a_stuck_starter_relay_is_told_by_its_own_contact() -> None:
    car = car_with()
    car.faults.starter_relay_stuck = True
    bench = Bench(car)

    assert bench.order(AllowEngine(released=True)) == Refused(RefusalReason.FAULT)


def test_an_order_that_arrives_five_times_acts_once_and_is_answered_five_times() -> (
    None
):
    # I-5
    bench = Bench()
    order = build_frame(BoardFrame(9, SetLocks(locked=True)))

    answers = [bench.put(order)[0] for _ in range(5)]

    assert answers == [BoardFrame(9, Ack())] * 5
    assert bench.firmware.orders_carried_out == 1


def test_a_repeated_order_that_was_refused_stays_refused() -> None:
    # Its number was answered: a door closed since then makes no new order of it.
    bench = Bench(car_with(open_leaves={Leaf.DRIVER}))

    first = bench.send(SetLocks(locked=True), seq=4)[0]
    bench.car.close_door()
    second = bench.send(SetLocks(locked=True), seq=4)[0]

    assert first == second == BoardFrame(4, Refused(RefusalReason.DOOR_OPEN))
    assert not bench.car.bolts_moving


def test_a_state_comes_by_itself_and_at_once_on_a_change() -> None:
    bench = Bench()
    bench.wait(50)

    quiet = list(states(bench.wait(5 * REPORT_MS)))
    bench.car.open_door()
    changed = list(states(bench.wait(50)))

    assert len(quiet) == 5
    assert [bool(state.bits & Bits.DOOR_OPEN) for state in changed] == [True]


def test_hazards_blink_as_long_as_ordered() -> None:
    # H16
    bench = Bench()

    bench.order(FlashHazards(seconds=5))
    bench.wait(4_950)
    before = bench.car.hazards_on
    bench.wait(100)

    assert (before, bench.car.hazards_on) == (True, False)


def test_a_silent_agent_leaves_bolts_and_starter_and_never_a_green_light() -> None:
    # I-3 and H15
    bench = Bench(car_with(locked=True))
    bench.order(SetLocks(locked=False))
    bench.order(AllowEngine(released=True))
    bench.order(SetLight(Light.GREEN, blinking=False))
    bench.wait(AGENT_SILENT_MS)
    in_time = bench.firmware.indicator

    bench.wait(100_000)

    assert in_time == Indicator(Light.GREEN)
    assert bench.firmware.indicator == Indicator(Light.FAULT_PATTERN)
    assert (bench.car.locked, bench.car.starter_released) == (False, True)


def test_an_agent_that_is_heard_again_has_the_light_it_ordered() -> None:
    bench = Bench()
    bench.order(SetLight(Light.YELLOW, blinking=False))
    bench.wait(AGENT_SILENT_MS + 100)

    bench.send(Heartbeat(), seq=0)

    assert bench.firmware.indicator == Indicator(Light.YELLOW)


def test_a_power_cut_of_the_board_keeps_bolts_and_starter_and_counts_a_boot() -> None:
    # I-28: the same door and immobiliser as before.
    bench = Bench(car_with(locked=False))
    bench.order(AllowEngine(released=True))
    bench.order(FlashHazards(seconds=30))
    before = next(states(bench.send(QueryState(), seq=0)))

    bench.firmware.restart(now_ms=bench.now_ms)
    after = next(states(bench.send(QueryState(), seq=0)))

    assert (after.boot_count, after.last_seq) == (before.boot_count + 1, 0)
    assert after.bits & Bits.ENGINE_RELEASED
    assert not after.bits & (Bits.LOCKED | Bits.HAZARDS_ON)


def test_orders_are_understood_one_byte_at_a_time() -> None:
    bench = Bench()
    data = build_frame(BoardFrame(1, SetLocks(locked=True)))

    frames = [frame for byte in data for frame in bench.put(bytes([byte]))]

    assert frames[0] == BoardFrame(1, Ack())


def physical(car: Car) -> tuple[object, ...]:
    return (car.locked, car.bolts_moving, car.starter_released, car.hazards_on)


@given(noise=st.lists(st.binary(max_size=200), max_size=20))
def test_garbage_changes_nothing_and_the_next_order_is_understood(
    noise: list[bytes],
) -> None:
    # I-4
    bench = Bench()
    before = physical(bench.car)

    for piece in noise:
        bench.put(piece)
    after = physical(bench.car)
    answers = bench.send(SetLocks(locked=True))

    assert before == after
    assert BoardFrame(1, Ack()) in answers


@given(data=st.data())
def test_an_order_with_a_flipped_bit_moves_nothing(data: st.DataObject) -> None:
    # I-4: the checksum finds any single bit.
    bench = Bench()
    before = physical(bench.car)
    frame = bytearray(build_frame(BoardFrame(1, SetLocks(locked=True))))
    position = data.draw(st.integers(1, len(frame) - 2))
    frame[position] ^= 1 << data.draw(st.integers(0, 7))

    bench.put(bytes(frame))

    assert physical(bench.car) == before


def test_the_boards_own_words_coming_back_are_nobodys_orders() -> None:
    bench = Bench()

    echo = build_frame(BoardFrame(1, Ack())) + bench.firmware.tick(now_ms=0)

    assert bench.put(echo) == []
    assert bench.firmware.indicator == Indicator(Light.OFF)


def test_the_locked_switch_stays_as_it_was_while_the_bolts_open() -> None:
    # Read back is what is, not what was ordered.
    bench = Bench(car_with(locked=True))

    answers = bench.send(SetLocks(locked=False))
    bench.wait(50)
    on_the_way = next(states(bench.send(QueryState(), seq=0)))

    assert next(states(answers)).bits & Bits.LOCKED
    assert on_the_way.bits & Bits.LOCKED


def test_slow_sensors_are_told_before_a_state_when_they_change_and_every_10_s() -> None:
    # C30, docs/board-protocol.md: SENSORS
    bench = Bench()
    bench.wait(100)

    def told() -> list[Sensors]:
        return [frame.message for frame in frames if isinstance(frame.message, Sensors)]

    frames = bench.wait(9_000)
    assert told() == []
    bench.car.upkeep.brake_pct = 9
    frames = bench.wait(100)
    assert [each.brake_pct for each in told()] == [9]
    assert isinstance(frames[1].message, State)
    frames = bench.wait(10_500)
    assert len(told()) == 1
