"""What a frame of telemetry changes of a car: pure, so that it can be done again.

A car's written state may be older than the frames of its telemetry that are stored
(`bridge.kept_vehicles`); folding those into it by the same function makes up for it.
Folding a frame again changes nothing: every field keeps the newest stamp.
"""

from bridge.instant import Instant
from bridge.vehicle import VehicleState
from protocol.frame import Header
from protocol.telemetry import Telemetry


def sampled(
    vehicle: VehicleState,
    header: Header,
    telemetry: Telemetry | None,
    *,
    at: Instant,
    is_again: bool = False,
) -> VehicleState:
    """Return a vehicle that was heard of by a frame of telemetry.

    Args:
        vehicle: as it was before.
        header: of the frame.
        telemetry: what it says; None when it is newer than this bridge.
        at: when the frame was received.
        is_again: whether the vehicle may know this frame already.
    """
    if telemetry is None or not telemetry.samples:
        return vehicle.heard(header, at=at)
    for sample in telemetry.samples:
        vehicle = vehicle.sampled(header, sample, at=at, is_again=is_again)
    return vehicle
