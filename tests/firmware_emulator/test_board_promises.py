"""The board against everything at once: physics is judged when it acts (I-1 to I-4).

A machine turns keys, opens doors, drives, breaks sensors, cuts power and lets the agent
order, repeat and fall silent in any order. Whatever happens, what the board has
promised holds at the instant of each movement.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from firmware_emulator.board_firmware import (
    AGENT_SILENT_MS,
    MIN_MOTOR_MV,
    BoardFirmware,
)
from firmware_emulator.car import Car, Leaf
from firmware_emulator.chance import seeded
from protocol.board.framing import build_frame
from protocol.board.message import (
    AllowEngine,
    BoardFrame,
    Heartbeat,
    Order,
    SetLight,
    SetLocks,
)
from protocol.codes import Light


class BoardInACar(RuleBasedStateMachine):
    """A car, its board, a driver who obeys nobody and an agent that is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.car = Car(seeded(1), locked=False, fuel_l=20.0)
        self.firmware = BoardFirmware(self.car, now_ms=0)
        self.now_ms = 0
        self.seq = 0
        self.heard_ms: int | None = None

    # --- the driver -------------------------------------------------------------------

    @precondition(lambda self: not self.car.driving)
    @rule(leaf=st.sampled_from([Leaf.DRIVER, Leaf.PASSENGER]))
    def open_from_inside(self, leaf: Leaf) -> None:
        """I-3: doors open from inside, whatever the bolts do."""
        self.car.open_door(leaf, inside=True)
        assert not self.car.locked

    @rule(leaf=st.sampled_from(Leaf))
    def close(self, leaf: Leaf) -> None:
        self.car.close_door(leaf)

    @precondition(lambda self: Leaf.DRIVER in self.car.open_leaves)
    @rule()
    def sit(self) -> None:
        self.car.sit()

    @precondition(lambda self: self.car.seated and not self.car.driving)
    @rule(start=st.booleans())
    def turn_key(self, start: bool) -> None:
        released = self.car.starter_released
        runs = self.car.turn_key(start=start)
        assert not runs or released  # C11

    @precondition(
        lambda self: (
            self.car.engine_running
            and self.car.seated
            and not self.car.open_leaves
            and not self.car.driving
        )
    )
    @rule()
    def drive(self) -> None:
        self.car.drive(60)

    # --- the world --------------------------------------------------------------------

    @rule(dead=st.booleans())
    def break_speed_sensor(self, dead: bool) -> None:
        self.car.faults.speed_sensor_dead = dead

    @rule(open_sensor=st.booleans())
    def break_door_sensor(self, open_sensor: bool) -> None:
        self.car.faults.door_sensor_open = open_sensor

    @rule(supply=st.sampled_from([None, MIN_MOTOR_MV - 1]))
    def change_supply(self, supply: int | None) -> None:
        self.car.faults.supply_mv = supply

    @rule()
    def restart_board(self) -> None:
        """B6: bolts and starter are mechanics."""
        before = (self.car.locked, self.car.starter_released)
        self.firmware.restart(now_ms=self.now_ms)
        self.heard_ms = None
        assert (self.car.locked, self.car.starter_released) == before

    @rule(duration_ms=st.sampled_from([50, 200, 1_000, 4_000, AGENT_SILENT_MS + 1_000]))
    def let_time_pass(self, duration_ms: int) -> None:
        """B6: without orders nothing moves but bolts that are on their way."""
        before = (self.car.locked, self.car.starter_released)
        were_moving = self.car.bolts_moving
        end_ms = self.now_ms + duration_ms
        while self.now_ms < end_ms:
            self.now_ms += 50
            self.car.advance(50)
            self.firmware.tick(now_ms=self.now_ms)
        if not were_moving:
            assert (self.car.locked, self.car.starter_released) == before

    # --- the agent --------------------------------------------------------------------

    @rule(locked=st.booleans())
    def order_locks(self, locked: bool) -> None:
        car = self.car
        may_close = not (
            car.door_open
            or car.boot_open
            or car.engine_running
            or car.ignition_on
            or car.speed_dkmh is None
            or car.speed_dkmh > 0
        )
        moving_before = car.bolts_moving
        self._order(SetLocks(locked))
        if locked and not may_close and not moving_before:
            assert not car.bolts_moving, "I-1: bolts set off over what forbids them"

    @rule(released=st.booleans())
    def order_engine(self, released: bool) -> None:
        car = self.car
        may_hold = not car.engine_running and car.speed_dkmh == 0
        before = car.starter_released
        self._order(AllowEngine(released))
        if not released and not may_hold:
            assert car.starter_released == before, "I-2: held in motion"
        if released:
            assert car.starter_released  # B3, I-13

    @rule()
    def beat(self) -> None:
        self.firmware.receive(
            build_frame(BoardFrame(0, Heartbeat())), now_ms=self.now_ms
        )
        self.heard_ms = self.now_ms

    @rule()
    def order_green(self) -> None:
        self._order(SetLight(Light.GREEN, blinking=False))
        assert self.firmware.indicator.light is Light.GREEN

    @rule(noise=st.binary(max_size=40))
    def hear_noise(self, noise: bytes) -> None:
        """I-4: what is not a good frame changes nothing."""
        before = (self.car.locked, self.car.starter_released, self.car.bolts_moving)
        self.firmware.receive(b"\x00" + noise + b"\x01\x00", now_ms=self.now_ms)
        after = (self.car.locked, self.car.starter_released, self.car.bolts_moving)
        assert after == before

    def _order(self, order: Order) -> None:
        self.seq = self.seq % 255 + 1
        frame = build_frame(BoardFrame(self.seq, order))
        self.firmware.receive(frame, now_ms=self.now_ms)
        carried_out = self.firmware.orders_carried_out
        self.firmware.receive(frame, now_ms=self.now_ms)  # rule 2: a repetition
        assert self.firmware.orders_carried_out == carried_out
        self.heard_ms = self.now_ms

    # --- always -----------------------------------------------------------------------

    @invariant()
    def no_car_is_locked_over_an_open_leaf(self) -> None:
        """I-1"""
        assert not (self.car.locked and self.car.open_leaves)

    @invariant()
    def a_running_engine_stays_released(self) -> None:
        """I-2: no path takes the release from a car whose engine runs."""
        assert not self.car.engine_running or self.car.starter_released

    @invariant()
    def a_silent_agent_shows_no_green(self) -> None:
        """H15: never green when nobody is in command."""
        heard = self.heard_ms
        if heard is None or self.now_ms - heard > AGENT_SILENT_MS:
            assert self.firmware.indicator.light is not Light.GREEN


def test_the_board_keeps_its_promises_whatever_happens() -> None:
    """I-1 to I-4, I-3 (P), I-13: judged when it acts, by its own switches."""
    run_state_machine_as_test(
        BoardInACar,
        settings=settings(max_examples=60, stateful_step_count=40, deadline=None),
    )
