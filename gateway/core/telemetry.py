"""Telemetry samples from what the car knows, and when to take one.

While a rental runs a sample carries no position: where a customer drives is nobody's
business unless a policy says otherwise (K25). Stations and fleet services learn
distances from the odometer.
"""

from typing import Final

from gateway.core.reading import Position
from gateway.core.state import State
from protocol.codes import Bits, RentalMode
from protocol.telemetry import Sample

DRIVING_PERIOD_MS: Final = 10_000
"""One sample in ten seconds while driving (protocol-design.md 6)."""
RESTING_PERIOD_MS: Final = 60_000
"""One sample a minute otherwise: each one costs 12 V (protocol-design.md 6)."""


def sample_of(state: State, position: Position | None, *, age_ms: int) -> Sample:
    """Return one sample.

    Args:
        state: the state that is sampled.
        position: the newest fix, None for none.
        age_ms: how long before the frame is signed; at most 6,553 s fit.
    """
    reading = state.reading
    place = None if state.mode.in_rental else position
    return Sample(
        age_ds=min(age_ms // 100, 0xFFFF),
        latitude_e7=None if place is None else place.latitude_e7,
        longitude_e7=None if place is None else place.longitude_e7,
        accuracy_dm=None if place is None else place.accuracy_dm,
        heading_deg=None if place is None else place.heading_deg,
        speed_dkmh=None if reading is None else reading.speed_dkmh,
        odometer_m=None if reading is None else reading.odometer_m,
        energy_pct=None if reading is None else reading.energy_pct,
        range_km=None if reading is None else reading.range_km,
        washer_pct=None if reading is None else reading.washer_pct,
        supply_mv=None if reading is None else reading.supply_mv,
        bits=Bits(0) if reading is None else reading.bits,
        mode=state.mode,
        signal_pct=None,
    )


def period_ms(state: State) -> int:
    """Return the time between two samples in this state."""
    if state.mode is RentalMode.DRIVING:
        return DRIVING_PERIOD_MS
    return RESTING_PERIOD_MS
