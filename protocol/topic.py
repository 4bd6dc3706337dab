"""MQTT topics: ``ff/v1/<vehicle>/up|down/<class>``.

A topic routes; it proves nothing. The vehicle in it must equal the vehicle in the
signed frame (reliability.md K6), and that is checked where frames are verified.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from protocol.codes import Code, FrameClass
from protocol.errors import DecodeError
from protocol.identity import VehicleId

PREFIX: Final = "ff/v1"

UP_CLASSES: Final = tuple(c for c in FrameClass if c.from_vehicle)
"""Classes that a vehicle publishes."""

DOWN_CLASSES: Final = tuple(c for c in FrameClass if not c.from_vehicle)
"""Classes that a vehicle subscribes to."""

ALL_UPLINKS: Final = f"{PREFIX}/+/up/#"
"""What a bridge subscribes to."""

EVERYTHING: Final = f"{PREFIX}/#"
"""What an engineer may watch."""

ROUTES_KEPT: Final = 65_536
"""Topics whose reading is kept: those that 20,000 cars publish to from day to day. A
topic that is none of ours is read again each time, and takes no place."""

_SEGMENTS: Final = 5

_CLASSES: Final = {
    ("up" if frame_class.from_vehicle else "down", frame_class.label): frame_class
    for frame_class in FrameClass
}
"""By direction and label, as they stand in a topic."""


class Route(NamedTuple):
    """What a topic says."""

    vehicle_id: VehicleId
    frame_class: FrameClass


def topic_of(vehicle_id: VehicleId, frame_class: FrameClass) -> str:
    """Return the topic for frames of one class to or from one vehicle."""
    direction = "up" if frame_class.from_vehicle else "down"
    return f"{PREFIX}/{vehicle_id}/{direction}/{frame_class.label}"


def downlinks_of(vehicle_id: VehicleId) -> str:
    """Return the one subscription of a vehicle."""
    return f"{PREFIX}/{vehicle_id}/down/+"


@lru_cache(maxsize=ROUTES_KEPT)
def parse_topic(topic: str) -> Route:
    """Read vehicle and class out of a topic; what was read is kept for the next time.

    Raises:
        DecodeError: the topic is none of this protocol's.
    """
    segments = topic.split("/")
    if len(segments) != _SEGMENTS or "/".join(segments[:2]) != PREFIX:
        raise DecodeError(Code.BAD_PARAM, f"topic {topic[:80]!r} is not {PREFIX}/...")
    vehicle_id = VehicleId.from_text(segments[2])
    frame_class = _CLASSES.get((segments[3], segments[4]))
    if frame_class is not None:
        return Route(vehicle_id, frame_class)
    raise DecodeError(
        Code.BAD_CLASS,
        f"topic {topic[:80]!r} names no direction and class that belong together",
    )
