"""What a car tells of the ways of its frames: spans beside those of the bridge.

They hang below spans whose ids follow from the frame (`transport.span`), so the car
need not be told of a trace, and no byte on the wire is there for one. Only what the car
knows better than the bridge is told: when a command came out of the broker, when the
broker took an entry, and when the car held the signed receipt.

Harmless: nothing here waits, raises or keeps more than `ENTRIES_LIMIT` entries and
`COMMANDS_LIMIT` commands. A car that does not know the time tells nothing. No frame is
believed for being traced: a span is made of entries of this car alone.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.core.moment import Moment
from gateway.ports import Clock
from protocol.codes import Code, FrameClass
from protocol.content import parse_content
from protocol.errors import ProtocolError
from protocol.frame import Frame, parse_frame
from protocol.identity import VehicleId
from protocol.result import Result
from transport.collector import Tracer
from transport.span import CAR, COMMAND, ENTRY, UPLINK, Attribute, Span

CARRY_OUT: Final = "car.carry_out"
"""From the command's arrival until the car signed its result; below `CAR`."""
PUBLISH: Final = "car.publish"
"""From the entry's hand-over to the link until the broker took it; below `UPLINK`."""
RECEIPT: Final = "car.receipt"
"""From the first hand-over until the car held a receipt for it; below the root."""

COMMANDS_LIMIT: Final = 256
ENTRIES_LIMIT: Final = 1_024

_TRACED: Final = frozenset({FrameClass.EVENT, FrameClass.RESULT})
_DONE: Final = (Code.OK, Code.ALREADY_IN_STATE)


@dataclass(slots=True)
class _Entry:
    """An entry on its way."""

    event_id: bytes
    """Its own: another ledger has the same numbers."""
    trace_id: bytes
    root: str
    key: str
    """Of its spans: empty where the trace is the entry's own."""
    begun_ms: int
    """Boot clock of the first hand-over."""
    attempts: int = 0


class Journeys:
    """Makes a car's spans; `MqttUplink` tells it what passes.

    Args:
        tracer: takes them.
        vehicle_id: this car.
        clock: time.
        trusted_ms: UTC ms of a moment, None while nobody who is trusted has told it.
    """

    def __init__(
        self,
        tracer: Tracer,
        vehicle_id: VehicleId,
        *,
        clock: Clock,
        trusted_ms: Callable[[Moment], int | None],
    ) -> None:
        self._tracer = tracer
        self._about: dict[str, Attribute] = {"freefloat.vehicle_id": str(vehicle_id)}
        self._clock = clock
        self._trusted_ms = trusted_ms
        self._commands: OrderedDict[bytes, int] = OrderedDict()
        self._entries: OrderedDict[int, _Entry] = OrderedDict()

    def arrived(self, frame_class: FrameClass, data: bytes) -> None:
        """Note a frame that the broker handed out; it need not be genuine."""
        frame = _parsed(data) if frame_class is FrameClass.CMD else None
        if frame is None:
            return
        # Of a repeated one the first counts.
        self._commands.setdefault(frame.header.msg_id, self._clock.now().boot_ms)
        if len(self._commands) > COMMANDS_LIMIT:
            self._commands.popitem(last=False)

    def handed_over(self, frame_class: FrameClass, data: bytes) -> None:
        """Note a frame that is given to the link."""
        if (frame := _traced(frame_class, data)) is None:
            return
        header, now_ms = frame.header, self._clock.now().boot_ms
        if self._entry_of(frame) is not None:
            return
        entry = _Entry(header.msg_id, header.msg_id, ENTRY, "", now_ms)
        if (result := _result_in(frame)) is not None:
            self._tell_end(result, header.mono_ms, now_ms)
            entry = _Entry(
                header.msg_id, result.request_id, COMMAND, str(header.seq), now_ms
            )
        # A refusal is in no ledger and has no number.
        if header.seq:
            self._entries[header.seq] = entry
            if len(self._entries) > ENTRIES_LIMIT:
                self._entries.popitem(last=False)

    def published(
        self, frame_class: FrameClass, data: bytes, *, begun_ms: int, is_taken: bool
    ) -> None:
        """Tell of a frame that the broker took, or of an attempt that failed.

        Args:
            frame_class: its class.
            data: the frame.
            begun_ms: boot clock, when it was given to the link.
            is_taken: whether the broker acknowledged it.
        """
        if (frame := _traced(frame_class, data)) is None:
            return
        if (entry := self._entry_of(frame)) is None:
            return
        entry.attempts += 1
        seq = frame.header.seq
        self._tell(
            entry.trace_id,
            PUBLISH,
            begun_ms,
            self._clock.now().boot_ms,
            parent=UPLINK,
            parent_key=entry.key,
            key=f"{seq} {entry.attempts}",
            is_error=not is_taken,
            about={"freefloat.seq": seq, "freefloat.attempt": entry.attempts},
        )

    def receipted(self, upto: int) -> None:
        """Tell of the entries that a genuine receipt covers."""
        now_ms = self._clock.now().boot_ms
        for seq in [seq for seq in self._entries if seq <= upto]:
            entry = self._entries.pop(seq)
            self._tell(
                entry.trace_id,
                RECEIPT,
                entry.begun_ms,
                now_ms,
                parent=entry.root,
                key=entry.key,
                about={"freefloat.seq": seq, "freefloat.attempts": entry.attempts},
            )

    def _entry_of(self, frame: Frame) -> _Entry | None:
        entry = self._entries.get(frame.header.seq)
        return entry if entry and entry.event_id == frame.header.msg_id else None

    def _tell_end(self, result: Result, signed_ms: int, now_ms: int) -> None:
        """Tell of the command that a result ends."""
        came_ms = self._commands.pop(result.request_id, None)
        # An answer to bytes that came again was signed before they came.
        if came_ms is None or not came_ms <= signed_ms <= now_ms:
            return
        self._tell(
            result.request_id,
            CARRY_OUT,
            came_ms,
            signed_ms,
            parent=CAR,
            is_error=result.code not in _DONE,
            about={"freefloat.code": result.code.name.lower()},
        )

    def _tell(
        self,
        trace_id: bytes,
        name: str,
        start_ms: int,
        end_ms: int,
        *,
        parent: str,
        parent_key: str = "",
        key: str = "",
        is_error: bool = False,
        about: dict[str, Attribute],
    ) -> None:
        now = self._clock.now()
        trusted_ms = self._trusted_ms(now)
        if trusted_ms is None:
            return
        utc_ms = trusted_ms - now.boot_ms
        self._tracer.record(
            [
                Span(
                    trace_id,
                    name,
                    utc_ms + start_ms,
                    utc_ms + end_ms,
                    parent,
                    key,
                    is_error=is_error,
                    attributes={**self._about, **about},
                    parent_key=parent_key,
                )
            ]
        )


def _traced(frame_class: FrameClass, data: bytes) -> Frame | None:
    """Return a frame of a class that is traced."""
    return _parsed(data) if frame_class in _TRACED else None


def _result_in(frame: Frame) -> Result | None:
    if frame.header.frame_class is not FrameClass.RESULT:
        return None
    try:
        body = parse_content(frame).body
    except ProtocolError:
        return None
    return body if isinstance(body, Result) else None


def _parsed(data: bytes) -> Frame | None:
    try:
        return parse_frame(data)
    except ProtocolError:
        return None
