"""Frames as text: one line for logs, demo and command line; plain data for JSON.

Rule 1: never fails, whatever the bytes; what is wrong is said on the line, with its
code. Rule 2: one line of bounded length. Rule 3: no secrets. Ids, digests and hashes
are shortened, sealed bytes are only counted; a card's digest gives its UID away to
whoever tries all of them, so it is shortened like the rest. What people wrote is
counted, and of a position it is only said that there is one (K25).
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from enum import IntEnum, IntFlag
from typing import Any, Final

from protocol.codes import EventType, FrameClass, FrameType, Lane, Opcode, SyncType
from protocol.command import ANY_VERSION
from protocol.content import TYPE_OF_CLASS, Body, Content, parse_content
from protocol.errors import DecodeError
from protocol.event import RentalEnded
from protocol.frame import FLAG_HISTORICAL, Frame, Header, parse_frame
from protocol.hello import NO_NONCE, Hello
from protocol.identity import VehicleId
from protocol.place import NO_PLACE, EventPlace
from protocol.receipt import Receipt
from protocol.rental_command import Grant
from protocol.result import Result
from protocol.snapshot import NO_RENTAL
from protocol.telemetry import Telemetry
from protocol.trust import BUNDLE, SignedBundle

LINE_LIMIT: Final = 190
"""Characters of a rendered line: the longest of the test vectors has 188."""


def render_bytes(data: bytes) -> str:
    """Return one line about bytes that should be a frame; never raises."""
    try:
        frame = parse_frame(data)
    except DecodeError as error:
        return _bounded(f"no frame: {error}")
    return render_frame(frame)


def render_frame(frame: Frame) -> str:
    """Return one line about a frame, whether or not its payload can be read.

    Whether the frame is authentic is not said: only who verified it knows.
    """
    try:
        told = render_content(parse_content(frame))
    except DecodeError as error:
        told = f"unreadable: {error}"
    return _bounded(f"{_head(frame)}  {told}")


def render_content(content: Content) -> str:
    """Return what a payload says, without its frame."""
    body = content.body
    told = _SENTENCES.get(type(body))
    return told(body) if told else ", ".join(_words(body))


def type_name(header: Header) -> str:
    """Return the name of a frame's type, or "unknown" for a newer sender's."""
    space: type[IntEnum] = FrameType
    if header.frame_class is FrameClass.CMD:
        space = Opcode
    elif header.frame_class is FrameClass.EVENT:
        space = EventType
    elif header.frame_class is FrameClass.SYNC:
        space = SyncType
    try:
        return space(header.type).name
    except ValueError:
        return "unknown"


def fields_of(record: object) -> dict[str, Any]:
    """Return a record as plain data for JSON.

    Bytes become hex, code members their names, bit fields lists of names, and None
    stays null: not measured.
    """
    # Every other record of this package is a dataclass; mypy knows no name for that.
    return {
        field.name: _plain(getattr(record, field.name))
        for field in fields(record)  # type: ignore[arg-type] # as said above
    }


def _plain(value: object) -> object:  # noqa: PLR0911 - one for each kind
    match value:
        case None | bool() | str():
            return value
        case bytes():
            return value.hex()
        case IntFlag():
            return _bit_names(value)
        case IntEnum():
            return value.name
        case int():
            return value
        case tuple():
            return [_plain(item) for item in value]
        case VehicleId():
            return {"raw": value.raw.hex()}
        case _:
            return fields_of(value)


def _bounded(text: str) -> str:
    return text if len(text) <= LINE_LIMIT else f"{text[: LINE_LIMIT - 2]}.."


def _head(frame: Frame) -> str:
    header = frame.header
    words = [header.frame_class.name]
    # The classes of one type need not say it.
    if header.type != TYPE_OF_CLASS.get(header.frame_class):
        words.append(f"0x{header.type:04X} {type_name(header)}")
    if header.frame_class is FrameClass.CMD:
        words.append(f"lane {_lane_name(header.lane)}")
    words.append(f"seq {_place(header)} {len(frame.data)} B")
    if header.flags & FLAG_HISTORICAL:
        words.append("historical")
    return " ".join(words)


def _place(header: Header) -> str:
    """Return a sequence; a boot and a count in it for classes that have no ledger."""
    boot, count = divmod(header.seq, 1 << 32)
    counted = header.frame_class in _COUNTED
    return f"{boot}:{count}" if counted and boot else str(header.seq)


_COUNTED: Final = frozenset({FrameClass.HELLO, FrameClass.TELEM, FrameClass.DEATH})


def _lane_name(lane: int) -> str:
    return Lane(lane).name if lane in set(Lane) else str(lane)


def _bit_names(bits: IntFlag) -> list[str]:
    return [str(bit.name) for bit in type(bits) if bit in bits]


def _short(data: bytes) -> str:
    return f"{data[:2].hex()}.."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _rental(rental_id: bytes) -> str:
    return "no rental" if rental_id == NO_RENTAL else f"rental {_short(rental_id)}"


_UNITS: Final[dict[str, Callable[[int], str]]] = {
    "_pct": lambda level: f"{level} %",
    "_ms": lambda ms: f"{ms / 1000:.1f} s",
    "_km": lambda km: f"{km} km",
    "_m": lambda m: f"{m / 1000:.1f} km",
}
"""How a number with a unit in its name reads."""


def _words(body: Body) -> Iterator[str]:
    """Say field by field what has no sentence of its own."""
    for field in fields(body):
        name, value = field.name, getattr(body, field.name)
        if name == "rental_id":
            yield _rental(value)
        elif name == "expected_version":
            if value != ANY_VERSION:
                yield f"if version {value}"
        elif name == "latitude_e7":
            yield "a position"
        elif name == "longitude_e7":
            pass
        else:
            yield _word(name, value)


def _word(name: str, value: object) -> str:  # noqa: PLR0911 - one for each kind
    unit = next((unit for unit in _UNITS if name.endswith(unit)), "")
    label = "by" if name == "means" else name.removesuffix(unit).replace("_", " ")
    match value:
        case None:
            return f"{label} not measured"
        case bool():
            return label if value else f"not {label}"
        case tuple():
            return _count(len(value), label.removesuffix("s"))
        case IntEnum():
            return f"{label} {value.name}"
        case int() if unit:
            return f"{label} {_UNITS[unit](value)}"
        case bytes():
            return _bytes_word(name, label, value)
        case str():
            return f"{label} of {_count(len(value), 'character')}"
        case _:
            return f"{label} {value}"


def _bytes_word(name: str, label: str, value: bytes) -> str:
    if name == "place_commitment" and value == NO_PLACE:
        return "no place"
    if name in {"sealed", "data"}:
        return f"{len(value)} B {name}"
    if name in {"language", "currency"}:
        return value.decode("ascii")
    if name == "firmware":
        return f"firmware {_version(value)}"
    return f"{label} {_short(value)}"


def _version(firmware: bytes) -> str:
    return ".".join(str(part) for part in firmware[:3])


def _number(value: int | None) -> str:
    return "?" if value is None else str(value)


def _distance(metres: int | None) -> str:
    return "distance not measured" if metres is None else f"{metres / 1000:.1f} km"


def _rental_ended(report: RentalEnded) -> str:
    return (
        f"{_rental(report.rental_id)} {report.driving_min} min driving, "
        f"{report.parking_min} min parking, {_distance(report.distance_m)}, "
        f"energy {_number(report.start_energy_pct)} -> "
        f"{_number(report.end_energy_pct)} %, "
        f"washer {_number(report.start_washer_pct)} -> "
        f"{_number(report.end_washer_pct)} %, by {report.reason.name}"
        f"{', durations estimated' if report.estimated else ''}"
    )


def _result(result: Result) -> str:
    state = result.snapshot
    return (
        f"{result.code.name} for {_short(result.request_id)}, "
        f"executed {result.executed.name}, retry {result.retry.name}, "
        f"now {state.mode.name} version {state.state_version}"
    )


def _hello(hello: Hello) -> str:
    return (
        f"firmware {_version(hello.firmware)}, bundle {hello.bundle_version}, "
        f"{_count(len(hello.capabilities), 'opcode')}, "
        f"{_count(len(hello.outcomes), 'outcome')}, "
        f"ledger {_short(hello.ledger_id)} head {hello.head_seq}, "
        f"unreceipted from {hello.oldest_unreceipted}, now {hello.snapshot.mode.name}"
        f"{'' if hello.nonce == NO_NONCE else f', nonce {_short(hello.nonce)}'}"
        f"{''.join(f', {name}' for name in _bit_names(hello.flags))}"
    )


def _trust(signed: SignedBundle) -> str:
    count = _count(len(signed.signatures), "signature")
    try:
        bundle = BUNDLE.parse(signed.body)
    except DecodeError as error:
        return f"{count} under no bundle: {error}"
    return (
        f"bundle {bundle.version}, {count}, {_count(len(bundle.keys), 'key')}, "
        f"{len(bundle.revoked)} revoked, {bundle.threshold} of "
        f"{_count(len(bundle.roots), 'root')}"
    )


def _receipt(receipt: Receipt) -> str:
    return (
        f"ledger {_short(receipt.ledger_id)} safe up to {receipt.upto}, "
        f"credit {receipt.credit}, {_count(len(receipt.gaps), 'gap')}, "
        f"{_count(len(receipt.rejects), 'reject')}"
    )


def _grant(grant: Grant) -> str:
    hours = (grant.not_after_wall_ms - grant.not_before_wall_ms) / 3_600_000
    return (
        f"{_rental(grant.rental_id)}, {grant.action.name} grant "
        f"{_short(grant.grant_id)} for card {_short(grant.card)}, "
        f"{' '.join(_bit_names(grant.rights)) or 'no right'} for {hours:.1f} h, "
        f"{len(grant.sealed)} B sealed"
    )


def _event_place(told: EventPlace) -> str:
    return f"place of entry {told.seq} of ledger {_short(told.ledger_id)}"


def _telemetry(telemetry: Telemetry) -> str:
    if not telemetry.samples:
        return "no samples"
    newest = telemetry.samples[-1]
    speed = "?" if newest.speed_dkmh is None else f"{newest.speed_dkmh / 10:.1f}"
    return (
        f"{_count(len(telemetry.samples), 'sample')}, newest {newest.mode.name} "
        f"{speed} km/h, "
        f"energy {_number(newest.energy_pct)} %, washer {_number(newest.washer_pct)} %"
    )


_SENTENCES: Final[dict[type[object], Callable[[Any], str]]] = {
    Grant: _grant,
    RentalEnded: _rental_ended,
    Result: _result,
    Hello: _hello,
    Receipt: _receipt,
    Telemetry: _telemetry,
    EventPlace: _event_place,
    SignedBundle: _trust,
}
"""Records that read better as a sentence than field by field."""
