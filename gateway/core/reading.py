"""What the board reads from the car, and what it means for safety."""

from dataclasses import dataclass, field
from typing import Final

from protocol.board.message import Plug, Tyres
from protocol.codes import Bits, EnergyKind

STALE_MS: Final = 2_000
"""A reading older than this says nothing about standing still (I-2)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One report of the board: physical state, read back and not assumed."""

    locked: bool
    """Whether the bolts of all doors are closed."""
    door_open: bool
    """Whether any leaf is open."""
    boot_open: bool
    """Whether the boot is open."""
    window_open: bool
    """Whether any window is open."""
    engine_running: bool
    """Whether the engine (or an electric car's drive) runs."""
    engine_released: bool
    """Whether the engine may be started."""
    ignition_on: bool
    """Whether the ignition is on."""
    lights_on: bool
    """Whether the headlights are on."""
    hazards_on: bool
    """Whether the hazard lights blink."""
    key_present: bool
    """Whether the key is in its holder; True in a car without one."""
    fuel_card_present: bool
    """Whether the fuel card is in its holder; True in a car without one."""
    energy_kind: EnergyKind
    """What the level is of."""
    speed_dkmh: int | None
    """Tenths of km/h; None when unknown."""
    odometer_m: int | None
    """Distance ever driven, m."""
    energy_pct: int | None
    """Fuel or charge, 0 to 100."""
    washer_pct: int | None
    """Washer fluid, 0 to 100."""
    range_km: int | None
    """Residual range."""
    supply_mv: int | None
    """12 V supply."""
    plug: Plug = Plug.UNKNOWN
    """Whether the charging cable is in (H13)."""
    tyres: Tyres = Tyres.UNKNOWN
    """Which tyres are on."""
    tread_dmm: int | None = None
    """The shallowest tread, tenths of a millimetre."""
    oil_pct: int | None = None
    """Life of the oil that is left, 0 to 100."""
    brake_pct: int | None = None
    """Thickness of the thinnest brake pad that is left, 0 to 100."""
    service_km: int | None = None
    """To the next periodic service, 0 when it is due."""
    service_days: int | None = None
    """To the next periodic service, 0 when it is due."""
    trouble_codes: tuple[int, ...] | None = None
    """Diagnostic trouble codes (SAE J2012), up to 8; None when nobody reads them."""

    @property
    def moving(self) -> bool:
        """Whether the car moves; an unknown speed counts as moving (I-2)."""
        return self.speed_dkmh is None or self.speed_dkmh > 0

    @property
    def bits(self) -> Bits:
        """The same as flags of the wire."""
        pairs = (
            (Bits.LOCKED, self.locked),
            (Bits.DOOR_OPEN, self.door_open),
            (Bits.BOOT_OPEN, self.boot_open),
            (Bits.WINDOW_OPEN, self.window_open),
            (Bits.ENGINE_RUNNING, self.engine_running),
            (Bits.ENGINE_RELEASED, self.engine_released),
            (Bits.IGNITION_ON, self.ignition_on),
            (Bits.MOVING, self.moving),
            (Bits.LIGHTS_ON, self.lights_on),
            (Bits.KEY_PRESENT, self.key_present),
            (Bits.FUEL_CARD_PRESENT, self.fuel_card_present),
            (Bits.HAZARDS_ON, self.hazards_on),
        )
        bits = Bits(0)
        for bit, is_set in pairs:
            if is_set:
                bits |= bit
        return bits


@dataclass(frozen=True, slots=True)
class Position:
    """A fix of the positioning receiver."""

    latitude_e7: int
    """Degrees times 10^7, WGS 84."""
    longitude_e7: int
    """Degrees times 10^7, WGS 84."""
    accuracy_dm: int
    """Horizontal accuracy in tenths of a metre."""
    heading_deg: int | None
    """0 to 359, clockwise from north."""
    age_ms: int = field(default=0, compare=False)
    """How long ago it was taken; the same place later is the same place."""
