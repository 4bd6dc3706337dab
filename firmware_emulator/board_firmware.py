"""The board's side of the serial protocol, on the physics of an emulated car.

What a microcontroller's firmware would do, and nothing that it could not know: it sees
bytes, its sensors and its own clock. Rules:

Rule 1 (I-1, I-2): physics is checked at the instant of acting, whatever the gateway
checked before. Bolts do not close over an open door, with ignition or engine on, or
while the car moves; the engine is not held while it runs or the car moves, and an
unknown speed counts as moving. Opening needs power and nothing else (I-3).

Rule 2: an order's number is answered once by acting and afterwards by repeating the
answer, so that a repeated order moves nothing twice (I-5).

Rule 3 (I-3): when the agent falls silent, bolts and starter stay as they are; only the
indicator says that nobody is in command (H15).

Rule 4 (I-4): what is not a good frame changes nothing.
"""

from dataclasses import dataclass
from typing import Final

from firmware_emulator.car import Car
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

FIRMWARE: Final = bytes((1, 0, 0, 0))
"""Version that the emulated board reports."""

REPORT_MS: Final = 500
"""A state at least this often; the gateway asks after a second of silence."""

SENSORS_MS: Final = 10_000
"""What slow sensors say at least this often, and whenever it changed."""

SENSE_MS: Final = 50
"""Switches are read this often; a tenth of what I-16 allows until the light shows."""

AGENT_SILENT_MS: Final = 5_000
"""Five heartbeats missed: the agent is dead."""

MIN_MOTOR_MV: Final = 9_500
"""Below this the lock's motor might stop half-way; assumed."""

_BOOT_COUNTS: Final = 0x1_0000


@dataclass(frozen=True, slots=True)
class Indicator:
    """What the lamp behind the windscreen shows."""

    light: Light = Light.OFF
    """Which light."""
    blinking: bool = False
    """Whether it blinks."""

    def __str__(self) -> str:
        name = self.light.name.lower().replace("_", " ")
        return f"{name} blinking" if self.blinking else name


@dataclass(frozen=True, slots=True)
class _Answered:
    """The last order and what was said to it."""

    seq: int
    order: Order
    answer: Ack | Refused


class BoardFirmware:
    """One board; call `receive` with what comes in and `tick` as time passes.

    Both return bytes for the line. The caller advances the car's physics first.
    """

    def __init__(self, car: Car, *, now_ms: int) -> None:
        """Boot for the first time.

        Args:
            car: whose sensors and actuators.
            now_ms: a clock that never goes back, here and in every call.
        """
        self.car = car
        self.orders_carried_out = 0
        """How often an actuator was set; a repetition does not count."""
        self._boot_count = 0
        self._start(now_ms)

    def restart(self, *, now_ms: int) -> None:
        """Lose power for an instant: bolts and relay stay, all memory is gone."""
        self.car.hazards_on = False
        self._start(now_ms)

    def _start(self, now_ms: int) -> None:
        self._boot_count = (self._boot_count + 1) % _BOOT_COUNTS
        self._booted_ms = now_ms
        self._decoder = BoardDecoder()
        self._answered: _Answered | None = None
        self._ordered_light = Indicator()
        self._hazards_until_ms: int | None = None
        self._heard_ms: int | None = None
        self._report_at_ms = now_ms
        self._reported: State | None = None
        self._sensed: Sensors | None = None
        self._sensors_at_ms = now_ms
        self._bolts_moved = False
        self._now_ms = now_ms

    @property
    def indicator(self) -> Indicator:
        """What the lamp shows now.

        Without an agent it is the fault pattern, never the green of a car that could
        be rented (H15); when the agent is heard again, what it last ordered.
        """
        if self._heard_ms is None:
            return Indicator()
        if self._now_ms - self._heard_ms > AGENT_SILENT_MS:
            return Indicator(Light.FAULT_PATTERN)
        return self._ordered_light

    @property
    def next_tick_ms(self) -> int:
        """When `tick` is due at the latest."""
        if not self.car.at_rest:
            return self._now_ms + SENSE_MS
        if self._hazards_until_ms is not None:
            return min(self._report_at_ms, self._hazards_until_ms)
        return self._report_at_ms

    def receive(self, data: bytes, *, now_ms: int) -> bytes:
        """Take bytes from the line; return the answers."""
        self._now_ms = now_ms
        said = bytearray()
        for frame in self._decoder.feed(data):
            said += self._take(frame, now_ms)
        return bytes(said)

    def tick(self, *, now_ms: int) -> bytes:
        """Read the sensors; return a state if one is due or something changed."""
        self._now_ms = now_ms
        if self._hazards_until_ms is not None and now_ms >= self._hazards_until_ms:
            self._hazards_until_ms = None
            self.car.hazards_on = False
        arrived = self._bolts_moved and not self.car.bolts_moving
        self._bolts_moved = self.car.bolts_moving
        due = now_ms >= self._report_at_ms
        if due or arrived or self._has_changed():
            return self._report()
        return b""

    # --- orders ---------------------------------------------------------------------

    def _take(self, frame: BoardFrame, now_ms: int) -> bytes:
        message = frame.message
        if isinstance(message, Ack | Refused | State | Sensors):
            return b""  # an echo on the line is nobody's order
        self._heard_ms = now_ms
        if isinstance(message, Heartbeat):
            return b""
        if isinstance(message, QueryState):
            return self._report()
        answered = self._answered
        if answered and (answered.seq, answered.order) == (frame.seq, message):
            return _built(answered.answer, frame.seq)
        answer = self._obey(message, now_ms)
        self._answered = _Answered(frame.seq, message, answer)
        if isinstance(answer, Ack):
            self.orders_carried_out += 1
        # The state that follows lets the gateway read back what is so already.
        return _built(answer, frame.seq) + self._report()

    def _obey(self, order: Order, now_ms: int) -> Ack | Refused:
        match order:
            case SetLocks(locked):
                return self._set_locks(locked=locked)
            case AllowEngine(released):
                return self._allow_engine(released=released)
            case SetLight(light, blinking):
                self._ordered_light = Indicator(light, blinking)
            case FlashHazards(seconds):
                self.car.hazards_on = True
                self._hazards_until_ms = now_ms + seconds * 1_000
        return Ack()

    def _set_locks(self, *, locked: bool) -> Ack | Refused:
        car = self.car
        if car.supply_mv < MIN_MOTOR_MV:
            return Refused(RefusalReason.LOW_VOLTAGE)
        if locked:
            if car.speed_dkmh is None or car.speed_dkmh > 0:
                return Refused(RefusalReason.MOVING)
            if car.engine_running or car.ignition_on:
                return Refused(RefusalReason.ENGINE_RUNNING)
            if car.door_open or car.boot_open:
                return Refused(RefusalReason.DOOR_OPEN)
        if car.locked != locked or car.bolts_moving:
            car.move_bolts(locked=locked)
            self._bolts_moved = True
        return Ack()

    def _allow_engine(self, *, released: bool) -> Ack | Refused:
        car = self.car
        if not released:
            if car.speed_dkmh is None or car.speed_dkmh > 0:
                return Refused(RefusalReason.MOVING)
            if car.engine_running:
                return Refused(RefusalReason.ENGINE_RUNNING)
        car.set_starter(released=released)
        if car.starter_released != released:  # the relay's own contact says so
            return Refused(RefusalReason.FAULT)
        return Ack()

    # --- reports --------------------------------------------------------------------

    def _has_changed(self) -> bool:
        last = self._reported
        if self._sensed != self.car.upkeep.sensed():
            return True
        return last is None or _telling(last) != _telling(self._state())

    def _report(self) -> bytes:
        """Say the state, and before it what slow sensors say if that is due."""
        said = b""
        sensed = self.car.upkeep.sensed()
        if sensed != self._sensed or self._now_ms >= self._sensors_at_ms:
            self._sensed = sensed
            self._sensors_at_ms = self._now_ms + SENSORS_MS
            said = _built(sensed)
        self._reported = self._state()
        self._report_at_ms = self._now_ms + REPORT_MS
        return said + _built(self._reported)

    def _state(self) -> State:
        car = self.car
        return State(
            firmware=FIRMWARE,
            boot_count=self._boot_count,
            uptime_s=(self._now_ms - self._booted_ms) // 1_000,
            last_seq=self._answered.seq if self._answered else 0,
            energy_kind=car.model.energy_kind,
            bits=_bits(car),
            speed_dkmh=car.speed_dkmh,
            odometer_m=car.odometer_m,
            energy_pct=car.energy_pct,
            washer_pct=car.washer_pct,
            range_km=car.range_km,
            supply_mv=car.supply_mv,
        )


def _built(message: Message, seq: int = 0) -> bytes:
    return build_frame(BoardFrame(seq, message))


def _telling(state: State) -> tuple[Bits, bool, int | None, int | None]:
    """Return what is worth a report at once; the rest waits for the next one."""
    moving = state.speed_dkmh is None or state.speed_dkmh > 0
    return state.bits, moving, state.energy_pct, state.washer_pct


def _bits(car: Car) -> Bits:
    switches = (
        (Bits.LOCKED, car.locked),  # bolts on their way are where they were
        (Bits.DOOR_OPEN, car.door_open),
        (Bits.BOOT_OPEN, car.boot_open),
        (Bits.WINDOW_OPEN, bool(car.open_windows)),
        (Bits.ENGINE_RUNNING, car.engine_running),
        (Bits.ENGINE_RELEASED, car.starter_released),
        (Bits.IGNITION_ON, car.ignition_on),
        (Bits.LIGHTS_ON, car.headlights_on),
        (Bits.HAZARDS_ON, car.hazards_on),
        (Bits.KEY_PRESENT, car.key_in_holder),
        (Bits.FUEL_CARD_PRESENT, car.fuel_card_in_holder),
    )
    bits = Bits(0)
    for bit, is_set in switches:
        if is_set:
            bits |= bit
    return bits
