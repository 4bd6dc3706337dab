"""The emulated car: what it is made of and what a driver can do with it.

Physics only. The car knows no card, rental or protocol; the board's firmware
(`firmware_emulator.board_firmware`) drives its actuators and reads its sensors, a
driver does deeds, and `advance` lets time pass. Rules:

Rule 1: a deed that a real car would not let happen raises `DeedError` and changes
nothing. Rule 2: nothing moves but in `advance`. Rule 3: how finely time is cut makes no
difference: ``advance(a); advance(b)`` is ``advance(a + b)``. Rule 4: a car at rest
costs nothing, however long it stands.

Figures are those of the thesis's simulation where it has them (requirements.md N9: a
tank of 50 l, 8 l per 100 km); what it leaves open is marked assumed.
"""

from dataclasses import dataclass, field
from enum import Enum, unique
from random import Random
from typing import Final, Self

from firmware_emulator.errors import DeedError
from firmware_emulator.street import MM_PER_M, City, Heading, Leg, Place
from firmware_emulator.upkeep import Upkeep
from protocol.board.message import Plug
from protocol.codes import EnergyKind

QUANTUM_MS: Final = 10
"""Time step of everything that moves: a car at 50 km/h goes 14 cm in one."""

ACTUATION_MS: Final = 150
"""From the order to the end of a bolt's way; assumed, central locks need 100 to 300."""

PUMP_L_PER_S: Final = 38 / 60
"""The most that a nozzle may give: 10 US gallons a minute (40 CFR 1090.1550)."""

ACCELERATION_MM_PER_S2: Final = 2_000
"""Brisk in town; assumed."""
BRAKING_MM_PER_S2: Final = 3_000
"""Firm and comfortable; assumed."""
CRUISE_MM_PER_S: Final = 50_000_000 / 3_600
"""50 km/h, the limit in towns. The average of 30 km/h of N9 counts traffic lights."""

REST_DRAIN_PER_MS: Final = 0.03 / 60 / 3_600_000
"""30 mA out of 60 Ah, as a share of a full battery; assumed."""
CHARGE_PER_MS: Final = 40 / 60 / 3_600_000
"""40 A from the alternator."""
EMPTY_MV: Final = 11_800
FULL_MV: Final = 12_700
CHARGING_MV: Final = 14_200
"""Open-circuit voltages of a lead battery, and the alternator's."""


CORNER: Final = Place(0, 0)
"""South-west corner of the city; every city has it."""


@unique
class Leaf(Enum):
    """What can be open."""

    DRIVER = "driver's door"
    PASSENGER = "passenger's door"
    REAR_LEFT = "left rear door"
    REAR_RIGHT = "right rear door"
    BOOT = "boot"


@unique
class Window(Enum):
    """What can be let down."""

    DRIVER = "driver's window"
    PASSENGER = "passenger's window"
    REAR_LEFT = "left rear window"
    REAR_RIGHT = "right rear window"
    ROOF = "roof"


@dataclass(frozen=True, slots=True)
class CarModel:
    """What cars of one make have in common."""

    energy_kind: EnergyKind = EnergyKind.FUEL
    """What the tank holds; 'litres' of an electric car are kWh of its battery."""
    tank_l: float = 50.0
    """N9."""
    l_per_100_km: float = 8.0
    """N9."""
    washer_tank_l: float = 3.0
    """Assumed."""
    spray_l: float = 0.06
    """Washer fluid of one spray; assumed."""
    fill_l_per_s: float = PUMP_L_PER_S
    """What a nozzle gives, or a charger."""

    @classmethod
    def electric(cls) -> Self:
        """Return an electric car: 50 kWh, 15 kWh per 100 km, 150 kW; assumed."""
        return cls(
            EnergyKind.ELECTRIC,
            tank_l=50.0,
            l_per_100_km=15.0,
            fill_l_per_s=150 / 3_600,
        )


@dataclass(slots=True)
class CarFaults:
    """What is broken; set and reset while the car lives."""

    bolts_jammed: bool = False
    """The motor turns, the bolts do not move."""
    starter_relay_stuck: bool = False
    """The relay of the engine hold does not follow."""
    door_sensor_open: bool = False
    """The driver's door is reported open, whatever it is."""
    speed_sensor_dead: bool = False
    """No speed is known; nobody may then assume that the car stands (I-2)."""
    supply_mv: int | None = None
    """This supply voltage instead of the battery's."""


@dataclass(slots=True)
class _Motion:
    """Bolts on their way."""

    locked: bool
    left_ms: int


@dataclass(slots=True)
class Car:
    """One car. The fields are its physical state; deeds and actuators change it."""

    rng: Random
    """Chooses at crossings; seeded by whoever makes the car."""
    model: CarModel = field(default_factory=CarModel)
    """Of which make."""
    city: City = field(default_factory=City)
    """Where it drives."""
    place: Place = CORNER
    """Where it is; on a street."""
    heading: Heading = Heading.NORTH
    """Where it looks."""
    odometer_mm: int = 0
    """Distance ever driven."""
    fuel_l: float = 40.0
    """In the tank."""
    washer_l: float = 2.0
    """In the washer tank."""
    battery: float = 1.0
    """12 V battery, share of full."""
    locked: bool = True
    """Whether the bolts of all doors are closed."""
    open_leaves: set[Leaf] = field(default_factory=set)
    """What is open."""
    open_windows: set[Window] = field(default_factory=set)
    """Which windows are."""
    starter_released: bool = False
    """A bistable relay: it keeps its position without power."""
    ignition_on: bool = False
    """Whether the ignition is on."""
    engine_running: bool = False
    """Whether the engine runs."""
    headlights_on: bool = False
    """Whether they are on."""
    hazards_on: bool = False
    """Whether they blink; the board's own timer switches them off."""
    key_in_holder: bool = True
    """Whether the key is in its holder."""
    fuel_card_in_holder: bool = True
    """Whether the fuel card is in its holder."""
    seated: bool = False
    """Whether somebody sits at the wheel."""
    faults: CarFaults = field(default_factory=CarFaults)
    """What is broken."""
    upkeep: Upkeep = field(default_factory=Upkeep)
    """What wears out, and the charging socket."""
    speed_mm_per_s: float = 0.0
    """How fast it goes."""
    _legs: list[Leg] = field(default_factory=list)
    _left_mm: int = 0
    _pump_l: float = 0.0
    _motion: _Motion | None = None
    _unspent_ms: int = 0

    def __post_init__(self) -> None:
        is_electric = self.model.energy_kind is EnergyKind.ELECTRIC
        if is_electric and self.upkeep.plug is Plug.UNKNOWN:
            self.upkeep.plug = Plug.OUT

    # --- sensors --------------------------------------------------------------------

    @property
    def energy_pct(self) -> int:
        """Level of the tank, 0 to 100, rounded down: no gauge promises too much."""
        return _share(self.fuel_l, self.model.tank_l)

    @property
    def washer_pct(self) -> int:
        """Level of the washer tank, 0 to 100, rounded down."""
        return _share(self.washer_l, self.model.washer_tank_l)

    @property
    def range_km(self) -> int:
        """How far the tank lasts, rounded down."""
        return int(self.fuel_l / self.model.l_per_100_km * 100)

    @property
    def odometer_m(self) -> int:
        """Distance ever driven, m, rounded down."""
        return self.odometer_mm // MM_PER_M

    @property
    def speed_dkmh(self) -> int | None:
        """Speed in tenths of km/h; a car that moves at all never shows 0."""
        if self.faults.speed_sensor_dead:
            return None
        shown = round(self.speed_mm_per_s * 0.036)
        return max(shown, 1) if self.speed_mm_per_s > 0 else 0

    @property
    def supply_mv(self) -> int:
        """12 V supply."""
        if self.faults.supply_mv is not None:
            return self.faults.supply_mv
        if self.engine_running:
            return CHARGING_MV
        return round(EMPTY_MV + (FULL_MV - EMPTY_MV) * self.battery)

    @property
    def door_open(self) -> bool:
        """Whether a door's sensor says open."""
        doors = self.open_leaves - {Leaf.BOOT}
        return bool(doors) or self.faults.door_sensor_open

    @property
    def boot_open(self) -> bool:
        """Whether the boot is open."""
        return Leaf.BOOT in self.open_leaves

    @property
    def driving(self) -> bool:
        """Whether a drive is not over yet."""
        return bool(self._legs) or self.speed_mm_per_s > 0

    @property
    def fuelling(self) -> bool:
        """Whether the pump runs."""
        return self._pump_l > 0

    @property
    def bolts_moving(self) -> bool:
        """Whether the bolts are on their way."""
        return self._motion is not None

    @property
    def at_rest(self) -> bool:
        """Whether nothing changes by itself but the battery."""
        return not (self.driving or self.fuelling or self.bolts_moving)

    # --- actuators, for the board's firmware ----------------------------------------

    def move_bolts(self, *, locked: bool) -> None:
        """Start the motor of the bolts; they arrive `ACTUATION_MS` later, if they do.

        An order while they move turns them round.
        """
        self._motion = _Motion(locked, ACTUATION_MS)

    def set_starter(self, *, released: bool) -> None:
        """Set the relay that lets the engine start."""
        if not self.faults.starter_relay_stuck:
            self.starter_released = released

    # --- deeds ----------------------------------------------------------------------

    def open_door(self, leaf: Leaf = Leaf.DRIVER, *, inside: bool = False) -> None:
        """Open a door or the boot.

        Args:
            leaf: which.
            inside: by the inner handle, which opens a locked door too and draws its
                bolt (I-3).

        Raises:
            DeedError: the car is locked, or drives.
        """
        _deny(self.driving, "the car drives")
        _deny(inside and leaf is Leaf.BOOT, "the boot has no inner handle")
        _deny(self.locked and not inside, f"the {leaf.value} is locked")
        self.locked = False
        self.open_leaves.add(leaf)

    def close_door(self, leaf: Leaf = Leaf.DRIVER) -> None:
        """Close a door or the boot; nothing happens if it is closed."""
        self.open_leaves.discard(leaf)

    def sit(self) -> None:
        """Get in, at the wheel.

        Raises:
            DeedError: the driver's door is closed.
        """
        _deny(Leaf.DRIVER not in self.open_leaves, "the driver's door is closed")
        self.seated = True

    def get_out(self) -> None:
        """Get out.

        Raises:
            DeedError: the driver's door is closed.
        """
        _deny(Leaf.DRIVER not in self.open_leaves, "the driver's door is closed")
        self.seated = False

    def turn_key(self, *, start: bool) -> bool:
        """Start or stop the engine; return whether it runs afterwards.

        With the starter held the ignition goes on and the engine does not start; so it
        is with an empty tank.

        Raises:
            DeedError: nobody sits at the wheel, or the car drives.
        """
        _deny(not self.seated, "nobody sits at the wheel")
        _deny(self.driving, "the car drives")
        self.ignition_on = start
        self.engine_running = start and self.starter_released and self.fuel_l > 0
        return self.engine_running

    def drive(self, distance_m: float) -> None:
        """Set off for a drive of that length through the streets.

        Raises:
            DeedError: the engine does not run, nobody drives, or a door is open.
        """
        _deny(distance_m <= 0, f"a drive of {distance_m} m goes nowhere")
        self._require_ready()
        distance_mm = round(distance_m * MM_PER_M)
        self._set_off(self.city.wander(self.place, self.heading, distance_mm, self.rng))

    def drive_to(self, goal: Place) -> float:
        """Set off for a place on a street, by a shortest way; return its length in m.

        Raises:
            DeedError: as for `drive`; or it is on no street, or the car is there.
        """
        self._require_ready()
        legs = self.city.route(self.place, goal)
        _deny(not legs, "the car is there")
        self._set_off(legs)
        return self._left_mm / MM_PER_M

    def refuel(self, litres: float) -> None:
        """Start the pump; it stops after so many litres or when the tank is full.

        An electric car charges so many kWh, from a cable that was put in.

        Raises:
            DeedError: the engine runs, or the cable is out.
        """
        _deny(litres <= 0, f"{litres} l is nothing to fill in")
        _deny(self.engine_running, "the engine runs")
        is_electric = self.model.energy_kind is EnergyKind.ELECTRIC
        _deny(is_electric and self.upkeep.plug is not Plug.IN, "the cable is out")
        self._pump_l = litres

    def plug_in(self) -> None:
        """Put the charging cable in.

        Raises:
            DeedError: the car has no socket, or drives.
        """
        _deny(self.model.energy_kind is not EnergyKind.ELECTRIC, "it has no socket")
        _deny(self.driving, "the car drives")
        self.upkeep.plug = Plug.IN

    def unplug(self) -> None:
        """Take the charging cable out; charging ends.

        Raises:
            DeedError: the car has no socket.
        """
        _deny(self.model.energy_kind is not EnergyKind.ELECTRIC, "it has no socket")
        self.upkeep.plug = Plug.OUT
        self._pump_l = 0.0

    def spray_washer(self, times: int = 1) -> None:
        """Wash the windscreen, as long as there is fluid."""
        self.washer_l = max(0.0, self.washer_l - times * self.model.spray_l)

    def fill_washer(self, litres: float) -> None:
        """Fill the washer tank, up to the brim."""
        self.washer_l = min(self.model.washer_tank_l, self.washer_l + max(0.0, litres))

    def move_window(self, window: Window, *, is_open: bool) -> None:
        """Let one window down, or up."""
        if is_open:
            self.open_windows.add(window)
        else:
            self.open_windows.discard(window)

    def take_key(self) -> None:
        """Take the key out of its holder."""
        self.key_in_holder = False

    def return_key(self) -> None:
        """Put the key into its holder."""
        self.key_in_holder = True

    def take_fuel_card(self) -> None:
        """Take the fuel card out of its holder."""
        self.fuel_card_in_holder = False

    def return_fuel_card(self) -> None:
        """Put the fuel card into its holder."""
        self.fuel_card_in_holder = True

    # --- time -----------------------------------------------------------------------

    def advance(self, duration_ms: int) -> None:
        """Let time pass.

        Args:
            duration_ms: 0 or more.
        """
        self._unspent_ms += duration_ms
        while self._unspent_ms >= QUANTUM_MS:
            whole = self._unspent_ms - self._unspent_ms % QUANTUM_MS
            step = whole if self.at_rest else QUANTUM_MS
            self._charge(step)
            if not self.at_rest:
                self._step_bolts()
                self._step_pump()
                self._step_drive()
            self._unspent_ms -= step

    def _charge(self, duration_ms: int) -> None:
        rate = CHARGE_PER_MS if self.engine_running else -REST_DRAIN_PER_MS
        self.battery = min(1.0, max(0.0, self.battery + rate * duration_ms))

    def _step_bolts(self) -> None:
        motion = self._motion
        if motion is None:
            return
        motion.left_ms -= QUANTUM_MS
        if motion.left_ms > 0:
            return
        self._motion = None
        # A bolt that meets an open leaf comes back: the car is not locked.
        blocked = self.faults.bolts_jammed or (motion.locked and self.open_leaves)
        if not blocked:
            self.locked = motion.locked

    def _step_pump(self) -> None:
        if self._pump_l <= 0:
            return
        room = self.model.tank_l - self.fuel_l
        most = self.model.fill_l_per_s * QUANTUM_MS / 1_000
        flow = min(self._pump_l, room, most)
        self.fuel_l += flow
        full = self.model.tank_l - self.fuel_l < 1e-9  # noqa: PLR2004 - rounding
        self._pump_l = 0.0 if full else max(0.0, self._pump_l - flow)

    def _step_drive(self) -> None:
        if not self.driving:
            return
        seconds = QUANTUM_MS / 1_000
        if self.engine_running:
            stoppable = (2 * BRAKING_MM_PER_S2 * self._left_mm) ** 0.5
            faster = self.speed_mm_per_s + ACCELERATION_MM_PER_S2 * seconds
            speed = min(CRUISE_MM_PER_S, faster, stoppable)
        else:  # out of fuel: it rolls out
            speed = max(0.0, self.speed_mm_per_s - BRAKING_MM_PER_S2 * seconds)
        moved = min(self._left_mm, max(1, round(speed * seconds))) if speed else 0
        self._roll(moved)
        self.speed_mm_per_s = speed if self._left_mm else 0.0
        if self.speed_mm_per_s == 0:
            self._legs.clear()
            self._left_mm = 0

    def _roll(self, distance_mm: int) -> None:
        self.odometer_mm += distance_mm
        self.upkeep.roll(distance_mm)
        self._left_mm -= distance_mm
        burnt = distance_mm / (100_000 * MM_PER_M) * self.model.l_per_100_km
        self.fuel_l = max(0.0, self.fuel_l - burnt)
        if self.fuel_l == 0.0:
            self.engine_running = False
        while distance_mm > 0:
            leg = self._legs[0]
            step = min(distance_mm, leg.distance_mm)
            self.heading = leg.heading
            self.place = self.place.moved(leg.heading, step)
            distance_mm -= step
            if step == leg.distance_mm:
                self._legs.pop(0)
            else:
                self._legs[0] = Leg(leg.heading, leg.distance_mm - step)

    def _require_ready(self) -> None:
        _deny(not self.seated, "nobody sits at the wheel")
        _deny(not self.engine_running, "the engine does not run")
        _deny(bool(self.open_leaves), "something is open")
        _deny(self.upkeep.plug is Plug.IN, "the charging cable is in")
        _deny(self.driving, "the car drives already")

    def _set_off(self, legs: list[Leg]) -> None:
        self._legs = legs
        self._left_mm = sum(leg.distance_mm for leg in legs)


def _share(amount: float, full: float) -> int:
    # A hair's breadth is added so that 12.5 of 50 is 25 and not 24.999.
    return max(0, min(100, int(amount / full * 100 + 1e-9)))


def _deny(impossible: bool, why: str) -> None:
    if impossible:
        raise DeedError(why)
