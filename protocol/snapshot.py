"""The state of a car at one instant, as every result and every hello carries it.

It is the built-in resynchronisation: whoever missed messages learns the present state
from the next one (protocol-design.md 1.4).
"""

from dataclasses import dataclass
from typing import Final

from protocol.codes import (
    KNOWN_BITS,
    Bits,
    Condition,
    EnergyKind,
    Light,
    RentalMode,
)
from protocol.identity import ID_SIZE
from protocol.layout import (
    ID,
    PERCENT,
    U8,
    U16,
    U32,
    Layout,
    code_of,
    flags_of,
    measured,
    reserved,
)

NO_RENTAL: Final = bytes(ID_SIZE)
"""The rental id of a car that nobody reserved or rents."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rental, condition and physical state together."""

    mode: RentalMode
    """The rental axis."""
    condition: Condition
    """The technical axis."""
    light: Light
    """What the indicator shows."""
    energy_kind: EnergyKind
    """What the levels are of."""
    state_version: int
    """u32, rises with every change of the car's state."""
    rental_id: bytes
    """16 bytes; zeros without a reservation or rental."""
    bits: Bits
    """Locks, doors, engine as the board reads them back."""
    energy_pct: int | None
    """Fuel or charge, 0 to 100."""
    washer_pct: int | None
    """Washer fluid, 0 to 100."""
    range_km: int | None
    """Residual range, km."""
    supply_mv: int | None
    """12 V supply, mV."""
    odometer_m: int | None
    """Distance ever driven, m."""


SNAPSHOT: Final = Layout(
    Snapshot,
    "mode" / code_of(U8, RentalMode),
    "condition" / code_of(U8, Condition),
    "light" / code_of(U8, Light),
    "energy_kind" / code_of(U8, EnergyKind),
    "state_version" / U32,
    "rental_id" / ID,
    "bits" / flags_of(U16, Bits, KNOWN_BITS),
    "energy_pct" / PERCENT,
    "washer_pct" / PERCENT,
    "range_km" / measured(U16, 0xFFFF),
    "supply_mv" / measured(U16, 0xFFFF),
    reserved(2),
    "odometer_m" / measured(U32, 0xFFFF_FFFF),
)
"""38 bytes."""
