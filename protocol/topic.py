"""MQTT topics: ``ff/v1/<vehicle>/up|down/<class>``.

A topic routes; it proves nothing. The vehicle in it must equal the vehicle in the
signed frame (reliability.md K6), and that is checked where frames are verified.
"""

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

_SEGMENTS: Final = 5


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


def parse_topic(topic: str) -> Route:
    """Read vehicle and class out of a topic.

    Raises:
        DecodeError: the topic is none of this protocol's.
    """
    segments = topic.split("/")
    if len(segments) != _SEGMENTS or "/".join(segments[:2]) != PREFIX:
        raise DecodeError(Code.BAD_PARAM, f"topic {topic[:80]!r} is not {PREFIX}/...")
    vehicle_id = VehicleId.from_text(segments[2])
    for frame_class in FrameClass:
        if topic == topic_of(vehicle_id, frame_class):
            return Route(vehicle_id, frame_class)
    raise DecodeError(
        Code.BAD_CLASS,
        f"topic {topic[:80]!r} names no direction and class that belong together",
    )
