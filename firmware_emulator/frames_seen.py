"""What crossed the air, in words: one line for each frame of a story."""

from dataclasses import dataclass, field

from protocol.codes import FrameClass, Opcode
from protocol.content import parse_content
from protocol.errors import ProtocolError
from protocol.frame import parse_frame
from protocol.place import EventPlace
from protocol.result import Result
from protocol.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class FrameNote:
    """One frame."""

    is_from_car: bool
    """Whether the car sent it."""
    frame_class: FrameClass | None
    """None for bytes that are no frame."""
    name: str
    """What it is: "RentalStarted", "RESERVE", "Result OK"."""
    told: object = field(default=None, compare=False, repr=False)
    """What can be looked at of a frame from the car: its body, of telemetry the newest
    sample, of an event's place the place; None for nothing."""

    def __str__(self) -> str:
        return f"{'>' if self.is_from_car else '<'} {self.name}"


def note_of(data: bytes, *, is_from_car: bool) -> FrameNote:
    """Return a frame's line, which says its name only, and what it holds."""
    try:
        frame = parse_frame(data)
    except ProtocolError:
        return FrameNote(is_from_car, None, "no frame")
    frame_class = FrameClass(frame.header.frame_class)
    if frame_class is FrameClass.CMD:
        return FrameNote(is_from_car, frame_class, _command(frame.header.type))
    try:
        body = parse_content(frame).body
    except ProtocolError:
        return FrameNote(is_from_car, frame_class, f"{frame_class.name} unreadable")
    name = type(body).__name__
    if isinstance(body, Result):
        name = f"Result {body.code.name}"
    return FrameNote(is_from_car, frame_class, name, _told(body))


def _told(body: object) -> object:
    if isinstance(body, Telemetry):
        return body.samples[-1] if body.samples else None
    return body.place if isinstance(body, EventPlace) else body


def _command(opcode: int) -> str:
    try:
        return Opcode(opcode).name
    except ValueError:
        return f"opcode 0x{opcode:04X}"
