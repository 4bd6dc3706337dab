"""What a line of the recorder says, and how it is written.

One JSON object a line, so that a person can read it with `zcat`. The first line of a
file is a frame: the whole state that the mind stood in. Every other line is a step: an
event, when it happened, and a fingerprint of what the mind decided. Fed again to the
mind from the frame on, each step must give that again (`gateway.recorder.replay`).
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final, get_args

import msgspec

from gateway.core.events import CommandReceived, ConfigurationTold, Event, Noted
from gateway.core.moment import Moment
from gateway.core.state import State
from gateway.core.turn import Decision
from gateway.recorder.redaction import Introduction
from protocol.codes import Lane
from protocol.command import OPCODE_OF
from protocol.event import TYPE_OF

RECORD_FORMAT: Final = 1
"""Revision of the lines; a reader refuses another."""

FINGERPRINT_SIZE: Final = 6
"""Bytes: two different decisions look the same once in 10^14 times."""

_NOT_COMPARED: Final = frozenset(
    {
        # Replaced in what is kept: see `gateway.recorder.redaction`.
        *("uid", "card", "cards", "authority", "sealed", "pin", "name", "note"),
        "destination",
        # A place, and what is said of one.
        *("latitude_e7", "longitude_e7", "words", "lines"),
    }
)
"""Fields of a decision that its fingerprint leaves out."""

_EVENTS: Final = {cls.__name__: cls for cls in get_args(Event)}
_COMMANDS: Final = {cls.__name__: cls for cls in OPCODE_OF}
_ENTRIES: Final = {cls.__name__: cls for cls in TYPE_OF}
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


class _AroundCommand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of `CommandReceived` beside the command."""

    msg_id: bytes
    request_hash: bytes
    key_id: bytes
    lane: Lane
    seq: int
    new_key: bytes


class RecordError(Exception):
    """A recording cannot be read from here on; nothing was changed."""

    retryable = False
    """The bytes stay what they are."""
    may_have_taken_effect = False
    """It is only read."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the mind stood; the steps after it lead on from here."""

    vehicle: str
    """Whose it is."""
    version: str
    """Of the program: another one may decide otherwise."""
    why: str
    """Why there is a frame here: start, file, gap, place."""
    state: State
    """All of it, as it may be kept."""


@dataclass(frozen=True, slots=True)
class KeptStep:
    """One event and the fingerprint of what was decided."""

    number: int
    """From 1 in each run of the agent."""
    now: Moment
    """When."""
    event: Event
    """What happened, as it may be kept."""
    introductions: tuple[Introduction, ...]
    """Cards that turned out to be known (`gateway.recorder.redaction`)."""
    fingerprint: bytes
    """Of the decision that the car made."""


Record = Frame | KeptStep


def fingerprint(decision: Decision) -> bytes:
    """Return what two equal decisions have in common, without anything secret."""
    found = {
        "state": _compared(msgspec.to_builtins(decision.state.essence())),
        "entries": [_named(entry) for entry in decision.entries],
        "actions": [_named(action) for action in decision.actions],
        "accepted": None if decision.accepted is None else decision.accepted.msg_id,
        "illegal": decision.illegal,
    }
    data = _ENCODER.encode(found)
    return hashlib.blake2b(data, digest_size=FINGERPRINT_SIZE).digest()


def _named(record: object) -> tuple[str, object]:
    return type(record).__name__, _compared(msgspec.to_builtins(record))


def _compared(found: object) -> object:
    if isinstance(found, dict):
        return {
            key: _compared(value)
            for key, value in found.items()
            if key not in _NOT_COMPARED
        }
    if isinstance(found, (list, tuple)):
        return [_compared(value) for value in found]
    return found


# -- lines ----------------------------------------------------------------------------


def build_line(record: Record) -> bytes:
    """Return one line, its end included."""
    document: dict[str, object]
    if isinstance(record, Frame):
        document = {
            "format": RECORD_FORMAT,
            "vehicle": record.vehicle,
            "version": record.version,
            "why": record.why,
            "state": record.state,
        }
    else:
        now = record.now
        document = {
            "n": record.number,
            "boot_ms": now.boot_ms,
            "wall_ms": now.wall_ms,
            "quality": now.quality,
            "trusted_ms": now.trusted_ms,
            "event": type(record.event).__name__,
            "with": _event_document(record.event),
            "cards": record.introductions,
            "decided": record.fingerprint.hex(),
        }
    return _ENCODER.encode(document) + b"\n"


def _event_document(event: Event) -> object:
    match event:
        case CommandReceived(command=command):
            names = _AroundCommand.__struct_fields__
            around = {name: getattr(event, name) for name in names}
            return {**around, "command": _tagged(command)}
        case Noted(entries=entries):
            return {"entries": [_tagged(entry) for entry in entries]}
        case ConfigurationTold(kind=kind, body=body, entries=entries):
            told = [_tagged(entry) for entry in entries]
            return {"kind": kind, "body": body, "entries": told}
        case _:
            return event


def _tagged(record: object) -> dict[str, object]:
    return {"is": type(record).__name__, "with": record}


def parse_line(line: bytes) -> Record:
    """Read one line.

    Raises:
        RecordError: not such a line, or of a program with other events.
    """
    try:
        found = msgspec.json.decode(line)
        if "format" in found:
            return _frame(found)
        return KeptStep(
            number=found["n"],
            now=msgspec.convert(
                {
                    name: found[name]
                    for name in ("boot_ms", "wall_ms", "quality", "trusted_ms")
                },
                Moment,
            ),
            event=_event(found["event"], found["with"]),
            introductions=msgspec.convert(
                found["cards"], tuple[tuple[bytes, bytes], ...]
            ),
            fingerprint=bytes.fromhex(found["decided"]),
        )
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise RecordError(
            f"a line of the recording cannot be read ({error}): it was cut off, or "
            "another version of the program wrote it; use that version"
        ) from None


def _frame(found: dict[str, Any]) -> Frame:
    if found["format"] != RECORD_FORMAT:
        raise RecordError(
            f"the recording has format {found['format']}, this program reads "
            f"{RECORD_FORMAT}: use the version that wrote it"
        )
    return Frame(
        vehicle=found["vehicle"],
        version=found["version"],
        why=found["why"],
        state=msgspec.convert(found["state"], State),
    )


def _event(name: str, found: dict[str, Any]) -> Event:
    kind = _EVENTS[name]
    if kind is Noted:
        return Noted(_entries(found["entries"]))
    if kind is ConfigurationTold:
        body = msgspec.convert(found["body"], bytes)
        return ConfigurationTold(found["kind"], body, _entries(found["entries"]))
    if kind is CommandReceived:
        told = found.pop("command")
        command: Any = msgspec.convert(told["with"], _COMMANDS[told["is"]])
        around = msgspec.convert(found, _AroundCommand)
        return CommandReceived(command=command, **msgspec.structs.asdict(around))
    event: Event = msgspec.convert(found, kind)
    return event


def _entries(found: list[dict[str, Any]]) -> tuple[Any, ...]:
    return tuple(
        msgspec.convert(entry["with"], _ENTRIES[entry["is"]]) for entry in found
    )
