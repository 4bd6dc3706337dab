"""From bytes on a topic to a verified record, or to a rejection.

The attacker considered: whoever may publish to the broker, or is the broker. Verify
before anything else is believed (I-24), in this order: not retained, the topic's form,
the frame's layout, topic and frame name the same vehicle and class, direction, a
registered vehicle, its key, the suite, the signature over the received bytes. Only then
is the payload read.

Rule 1: nothing from outside raises here; a rejection is a value and keeps the bytes.
Rule 2: an entry of a newer car is verified and kept although its body is not understood
(protocol-design.md 1.5).
Rule 3: a signed entry whose body is wrong is verified, kept and refused for good.
"""

from dataclasses import dataclass, replace
from typing import Final

from bridge.key_book import EMPTY, KeyBook, Rotation
from bridge.registry import Registry
from bridge.verification import Claim, claim_of, verify_frame
from protocol.codes import Code, FrameClass, FrameType
from protocol.death import DEATH, Death
from protocol.entry import FIRST_SEQ, EntryLink, entry_hash
from protocol.errors import AuthenticationError, DecodeError
from protocol.event import EventBody
from protocol.frame import FRAME_LIMIT, Frame
from protocol.hello import Hello
from protocol.keys import VerifyKey
from protocol.packed.entry import split_entry
from protocol.packed.event import parse_event
from protocol.packed.frame import parse_frame
from protocol.packed.hello import parse_hello
from protocol.packed.place import EVENT_PLACE
from protocol.packed.result import RESULT
from protocol.packed.telemetry import parse_telemetry
from protocol.place import EventPlace
from protocol.result import Result
from protocol.rotation import verify_rotation
from protocol.telemetry import Telemetry
from protocol.topic import Route, parse_topic
from protocol.vehicle_event import KeyRotated

SCHEMA: Final = 1
"""Revision of results, hellos and telemetry that this bridge reads."""

NUMBER_LIMIT: Final = 2**63 - 1
"""Largest sequence or clock reading taken. The wire has 64 bits, SQL's BIGINT has 63: a
car that signs a larger one would otherwise make every batch with it fail (I-31)."""

# Members of an enumeration are properties in Python 3.11, which take their time.
_TELEM: Final = FrameClass.TELEM
_SAMPLES: Final = int(FrameType.TELEMETRY)

_UPWARD: Final = frozenset(one for one in FrameClass if one.from_vehicle)

_NEWER: Final = frozenset({Code.UNKNOWN_OPCODE, Code.UNSUPPORTED_SCHEMA})


@dataclass(frozen=True, slots=True)
class Rejection:
    """A message that is not believed; its bytes are kept as a dead letter."""

    code: Code
    """Why."""
    detail: str
    """One sentence about what did not hold."""
    topic: str
    """Where it came."""
    data: bytes
    """What came; cut at `FRAME_LIMIT` bytes, beyond which nothing is a frame."""
    frame: Frame | None
    """Its layout as far as it has one; nothing in it is proved."""


@dataclass(frozen=True, slots=True)
class VerifiedEntry:
    """An event or a result: an entry of a vehicle's ledger."""

    frame: Frame
    """As received."""
    link: EntryLink
    """Where it stands in the ledger."""
    entry_hash: bytes
    """32 bytes: how the next entry names it."""
    body: EventBody | Result | None
    """What it says; None when it is newer than this bridge, or wrong."""
    fault: Code | None
    """Why `body` is None."""
    rotation: Rotation | None = None
    """The change of key that it says, proved and taken."""

    @property
    def is_in_ledger(self) -> bool:
        """Whether it has a place in the ledger; a refusal with sequence 0 has none."""
        return self.frame.header.seq >= FIRST_SEQ

    @property
    def refused(self) -> Code | None:
        """Why this entry is refused for good, or None."""
        return None if self.fault in _NEWER else self.fault


@dataclass(frozen=True, slots=True)
class VerifiedHello:
    """What a car said first in its session."""

    frame: Frame
    """As received."""
    hello: Hello
    """What it says."""


@dataclass(frozen=True, slots=True)
class VerifiedTelemetry:
    """A batch of samples; may be lost, gets no receipt."""

    frame: Frame
    """As received."""
    telemetry: Telemetry | None
    """The samples; None when they are newer than this bridge."""


@dataclass(frozen=True, slots=True)
class VerifiedPlace:
    """Where a ledger entry happened; whether it fits is the ledger's to say."""

    frame: Frame
    """As received."""
    told: EventPlace
    """What it says."""


@dataclass(frozen=True, slots=True)
class VerifiedDeath:
    """The will that a car signed beforehand: its link broke."""

    frame: Frame
    """As received."""
    death: Death
    """How the connection ended."""


Verified = (
    VerifiedEntry | VerifiedHello | VerifiedTelemetry | VerifiedPlace | VerifiedDeath
)


def verify(
    topic: str,
    data: bytes,
    *,
    retain: bool,
    registry: Registry,
    fleet_id: bytes,
    keys: KeyBook = EMPTY,
) -> Verified | Rejection:
    """Verify one message and read it.

    Args:
        topic: where it was published.
        data: what was published.
        retain: whether the broker had kept it from before.
        registry: who may sign.
        fleet_id: 16 bytes, part of what is signed.
        keys: which vehicles sign with another key since.

    Returns:
        A verified record, or why there is none. Never raises, whatever came.
    """
    routed = route(topic, data, retain=retain)
    if isinstance(routed, Rejection):
        return routed
    return prove(routed, topic, registry=registry, fleet_id=fleet_id, keys=keys)


def route(topic: str, data: bytes, *, retain: bool) -> Frame | Rejection:
    """Read the layout of a message: all of `verify` that needs no key.

    Returns:
        The frame, in which nothing is proved, or why it is none. Never raises.
    """
    frame: Frame | None = None
    try:
        _require_fresh(retain=retain)
        way = parse_topic(topic)
        frame = parse_frame(data)
        _require_route(frame, way)
    except DecodeError as error:
        return Rejection(error.code, error.detail, topic, data[:FRAME_LIMIT], frame)
    return frame


def prove(
    frame: Frame,
    topic: str,
    *,
    registry: Registry,
    fleet_id: bytes,
    keys: KeyBook,
    proved: Claim | None = None,
) -> Verified | Rejection:
    """Do the rest of `verify` with what `route` returned.

    Args:
        frame: as `route` returned it.
        topic: where it was published.
        registry: as for `verify`.
        fleet_id: as for `verify`.
        keys: as for `verify`.
        proved: what `claim` returned for this frame, if that signature holds.
    """
    try:
        key = _key_of(frame, registry, keys)
        verify_frame(frame, fleet_id=fleet_id, key=key, proved=proved)
        verified = read(frame)
        _require_valid_key(verified, registry, keys, key)
    except (DecodeError, AuthenticationError) as error:
        data = frame.data[:FRAME_LIMIT]
        return Rejection(error.code, error.detail, topic, data, frame)
    if isinstance(verified, VerifiedEntry):
        return _with_rotation(verified, registry, keys, key, fleet_id=fleet_id)
    return verified


def claim(
    frame: Frame, *, registry: Registry, fleet_id: bytes, keys: KeyBook
) -> Claim | None:
    """Return the signature that `prove` will look at; None if it needs none."""
    try:
        key = _key_of(frame, registry, keys)
    except AuthenticationError:
        return None
    return claim_of(frame, fleet_id=fleet_id, key=key)


def _require_fresh(*, retain: bool) -> None:
    if retain:
        # L9: a retained message comes again at every connect; no car retains.
        raise DecodeError(Code.RETAINED, "a retained message")


def _require_route(frame: Frame, route: Route) -> None:
    header = frame.header
    said, routed = header.frame_class, route.frame_class
    if (
        said is routed
        and said in _UPWARD
        and header.vehicle_id.raw == (route.vehicle_id.raw)
    ):
        return
    if not (said.from_vehicle and routed.from_vehicle):
        raise DecodeError(
            Code.WRONG_DIRECTION, f"a {said.label} frame on a {routed.label} topic"
        )
    if said is not routed:
        raise DecodeError(
            Code.BAD_CLASS, f"a {said.label} frame on a {routed.label} topic"
        )
    raise DecodeError(
        Code.WRONG_VEHICLE,
        f"a frame of {header.vehicle_id} on a topic of {route.vehicle_id}",
    )


def _key_of(frame: Frame, registry: Registry, keys: KeyBook) -> VerifyKey:
    """Return the vehicle's key that a frame names, an old one perhaps."""
    vehicle_id = frame.header.vehicle_id
    record = registry.get(vehicle_id)
    if record is None:
        raise AuthenticationError(
            Code.UNKNOWN_KEY, f"vehicle {vehicle_id} is not registered"
        )
    owners = keys.owners
    owner = owners.get(record.signing_key.key_id) if owners else None
    if owner is not None and owner != vehicle_id:
        raise AuthenticationError(
            Code.UNKNOWN_KEY, f"the key of {vehicle_id} is one that {owner} rotated to"
        )
    key = record.signing_key
    if frame.header.key_id != key.key_id:
        key = keys.named(vehicle_id, key, frame.header.key_id)
    return key


def _require_valid_key(
    verified: Verified, registry: Registry, keys: KeyBook, key: VerifyKey
) -> None:
    """Refuse a key that was not, or is no more, valid for this frame."""
    if not keys.rotations:
        return
    header = verified.frame.header
    record = registry.get(header.vehicle_id)
    if record is None or header.vehicle_id not in keys.rotations:
        return
    valid = keys.newest(header.vehicle_id, record.signing_key)
    if isinstance(verified, VerifiedEntry) and verified.is_in_ledger:
        ledger_id = verified.link.ledger_id
        valid = keys.at(header.vehicle_id, record.signing_key, ledger_id, header.seq)
    if key.raw != valid.raw:
        raise AuthenticationError(
            Code.REVOKED,
            f"key {key.key_id.hex()} of {header.vehicle_id} is not the one that is "
            f"valid here, {valid.key_id.hex()}",
        )


def _with_rotation(
    entry: VerifiedEntry,
    registry: Registry,
    keys: KeyBook,
    old_key: VerifyKey,
    *,
    fleet_id: bytes,
) -> VerifiedEntry:
    """Return a KEY_ROTATED entry with its new key, or refused for good (FF-ENR-14)."""
    if not isinstance(entry.body, KeyRotated):
        return entry
    header, ledger_id = entry.frame.header, entry.link.ledger_id
    try:
        new_key = verify_rotation(
            entry.body,
            fleet_id=fleet_id,
            vehicle_id=header.vehicle_id,
            old_key=old_key,
            ledger_id=ledger_id,
            seq=header.seq,
        )
        rotation = Rotation(header.vehicle_id, ledger_id, header.seq, old_key, new_key)
        if rotation not in keys.rotations.get(header.vehicle_id, ()):
            keys.require_own(rotation, registry)
    except AuthenticationError:
        return replace(entry, body=None, fault=Code.BAD_PARAM)
    return replace(entry, rotation=rotation)


def read(frame: Frame) -> Verified:  # noqa: PLR0911 - one for each class
    """Read the payload of a frame whose signature holds.

    Raises:
        DecodeError: the payload is not one that this class allows.
    """
    header = frame.header
    if header.seq > NUMBER_LIMIT or header.mono_ms > NUMBER_LIMIT:
        raise DecodeError(
            Code.BAD_PARAM,
            f"seq {header.seq} or mono_ms {header.mono_ms} above {NUMBER_LIMIT}",
        )
    if header.frame_class is _TELEM and header.type == _SAMPLES:
        # First, since it is most of what a fleet says.
        if header.schema != SCHEMA:
            return VerifiedTelemetry(frame, None)
        return VerifiedTelemetry(frame, parse_telemetry(frame.payload))
    match header.frame_class:
        case FrameClass.EVENT:
            return _read_event(frame)
        case FrameClass.RESULT:
            return _read_result(frame)
        case FrameClass.HELLO:
            _require_form(frame, FrameType.HELLO)
            return VerifiedHello(frame, parse_hello(frame.payload))
        case FrameClass.TELEM if header.type == FrameType.PLACE:
            return _read_place(frame)
        case FrameClass.TELEM:
            return VerifiedTelemetry(frame, None)
        case FrameClass.DEATH:
            _require_form(frame, FrameType.DEATH)
            return VerifiedDeath(frame, DEATH.parse(frame.payload))
        case _:
            raise DecodeError(
                Code.WRONG_DIRECTION, f"a {header.frame_class.label} frame from a car"
            )


def _require_form(frame: Frame, wanted: FrameType) -> None:
    header = frame.header
    if header.type != wanted:
        raise DecodeError(
            Code.BAD_PARAM,
            f"type 0x{header.type:04X} in a {header.frame_class.label}",
        )
    if header.schema != SCHEMA:
        raise DecodeError(
            Code.UNSUPPORTED_SCHEMA,
            f"{header.frame_class.label} schema {header.schema}, this reads {SCHEMA}",
        )


def _read_place(frame: Frame) -> VerifiedPlace:
    _require_form(frame, FrameType.PLACE)
    told = EVENT_PLACE.parse(frame.payload)
    if not FIRST_SEQ <= told.seq <= NUMBER_LIMIT:
        raise DecodeError(Code.BAD_PARAM, f"a place of entry {told.seq}")
    return VerifiedPlace(frame, told)


def _read_event(frame: Frame) -> VerifiedEntry:
    header = frame.header
    link, body = split_entry(frame.payload)
    if header.seq < FIRST_SEQ:
        raise DecodeError(Code.BAD_PARAM, "an event with sequence 0")
    try:
        parsed = parse_event(header.type, header.schema, body)
    except DecodeError as error:
        return VerifiedEntry(frame, link, entry_hash(frame.data), None, error.code)
    return VerifiedEntry(frame, link, entry_hash(frame.data), parsed, None)


def _read_result(frame: Frame) -> VerifiedEntry:
    header = frame.header
    link, body = split_entry(frame.payload)
    digest = entry_hash(frame.data)
    try:
        _require_form(frame, FrameType.RESULT)
        parsed = RESULT.parse(body)
    except DecodeError as error:
        if header.seq < FIRST_SEQ:
            raise
        return VerifiedEntry(frame, link, digest, None, error.code)
    return VerifiedEntry(frame, link, digest, parsed, None)
