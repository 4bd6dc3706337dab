"""Where a car tells that it is: never on the way of a customer (K25)."""

from typing import TYPE_CHECKING, Final

from protocol.codes import FrameClass, FrameType
from protocol.errors import DecodeError
from protocol.event import Parked, RentalEnded, RentalStarted
from protocol.frame import parse_frame
from protocol.place import EVENT_PLACE
from protocol.rental_event import DamageReported, PaymentRequested
from protocol.telemetry import TELEMETRY
from tests.gateway.oracle import read
from tests.simulation.trace import Trace
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.oracle import Watched

BILLED: Final = (
    RentalStarted,
    Parked,
    RentalEnded,
    PaymentRequested,
    DamageReported,
)
"""What money or a claim depends on."""


def judge_position(watched: "Watched", payload: bytes, trace: Trace) -> None:
    """Judge one frame as its car published it.

    Raises:
        Violation: it tells a position that is nobody's business.
    """
    try:
        frame = parse_frame(payload)
    except DecodeError:
        return
    if frame.header.frame_class is not FrameClass.TELEM:
        return
    name = watched.car.name
    if frame.header.type == FrameType.PLACE:
        seq = EVENT_PLACE.parse(frame.payload).seq
        body = read(watched.told.frames[seq]).body
        if not isinstance(body, BILLED):
            raise Violation(f"K25: {name} tells where a {type(body).__name__} was")
        trace.count("places told")
        return
    for sample in TELEMETRY.parse(frame.payload).samples:
        if sample.latitude_e7 is None and sample.longitude_e7 is None:
            continue
        if sample.mode.in_rental:
            raise Violation(f"K25: {name} tells where its customer drives")
        trace.count("positions told")
