"""What a frame of telemetry changes of a car: pure, so that it can be done again.

A car's written state may be older than the frames of its telemetry that are stored
(`bridge.kept_vehicles`); folding those into it by the same function makes up for it.
Folding a frame twice changes nothing: every field keeps the newest stamp.
"""

from typing import Final

from bridge.twin import values_of_sample
from bridge.vehicle import VehicleState
from protocol.frame import Header
from protocol.telemetry import Telemetry

SAMPLE_UNIT_MS: Final = 100
"""A sample's age is given in tenths of a second."""


def sampled(
    vehicle: VehicleState, header: Header, telemetry: Telemetry | None, *, now: int
) -> VehicleState:
    """Return a vehicle that was heard of by a frame of telemetry.

    Args:
        vehicle: as it was before.
        header: of the frame.
        telemetry: what it says; None when it is newer than this bridge.
        now: UTC ms when the frame was received.
    """
    vehicle = vehicle.heard(header, now=now)
    if telemetry is None:
        return vehicle
    for sample in telemetry.samples:
        vehicle = vehicle.observed(
            header,
            values_of_sample(sample),
            now=now,
            age_ms=sample.age_ds * SAMPLE_UNIT_MS,
        )
    return vehicle
