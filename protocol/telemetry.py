"""Telemetry: batches of samples under one signature; may be thinned or lost.

A field that was not measured has a reserved number on the wire and reads None, never 0:
a tank at 0 % and a dead sensor are different things.
"""

from dataclasses import dataclass
from typing import Final

import construct as cs

from protocol.codes import KNOWN_BITS, Bits, RentalMode
from protocol.layout import (
    PERCENT,
    U8,
    U16,
    U32,
    Layout,
    code_of,
    flags_of,
    measured,
    measured_within,
    sequence_of,
)

SAMPLES_LIMIT: Final = 30
"""Samples of one frame: 30 of 30 bytes keep it within one TCP segment."""

_S32: Final = cs.Int32sb
_UNPLACED: Final = 0x7FFF_FFFF
_E7: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a car's sensors."""

    age_ds: int
    """How long before the frame was signed, in tenths of a second."""
    latitude_e7: int | None
    """Degrees times 10^7, WGS 84; None in a rental unless policy allows it (K25)."""
    longitude_e7: int | None
    """Degrees times 10^7, WGS 84."""
    accuracy_dm: int | None
    """Horizontal accuracy in tenths of a metre."""
    heading_deg: int | None
    """0 to 359, clockwise from north."""
    speed_dkmh: int | None
    """Tenths of km/h."""
    odometer_m: int | None
    """Distance ever driven, m."""
    energy_pct: int | None
    """Fuel or charge, 0 to 100."""
    range_km: int | None
    """Residual range."""
    washer_pct: int | None
    """Washer fluid, 0 to 100."""
    supply_mv: int | None
    """12 V supply."""
    bits: Bits
    """Locks, doors, engine."""
    mode: RentalMode
    """The rental axis."""
    signal_pct: int | None
    """Quality of the mobile network, 0 to 100."""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The payload of a TELEM frame."""

    samples: tuple[Sample, ...]
    """Oldest first."""


SAMPLE: Final = Layout(
    Sample,
    "age_ds" / U16,
    "latitude_e7" / measured_within(_S32, _UNPLACED, -90 * _E7, 90 * _E7),
    "longitude_e7" / measured_within(_S32, _UNPLACED, -180 * _E7, 180 * _E7),
    "accuracy_dm" / measured(U16, 0xFFFF),
    "heading_deg" / measured_within(U16, 0xFFFF, 0, 359),
    "speed_dkmh" / measured(U16, 0xFFFF),
    "odometer_m" / measured(U32, 0xFFFF_FFFF),
    "energy_pct" / PERCENT,
    "range_km" / measured(U16, 0xFFFF),
    "washer_pct" / PERCENT,
    "supply_mv" / measured(U16, 0xFFFF),
    "bits" / flags_of(U16, Bits, KNOWN_BITS),
    "mode" / code_of(U8, RentalMode),
    "signal_pct" / PERCENT,
)
"""30 bytes."""

TELEMETRY: Final = Layout(
    Telemetry, "samples" / sequence_of(SAMPLE.nested(), SAMPLES_LIMIT)
)
