"""Ledger rules: how an entry is sealed into the chain, and what a receipt frees.

The chain's head and the key come in as arguments; what comes out are bytes that never
change again, however often they are sent (protocol-design.md 3).
"""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.moment import Moment
from gateway.core.places import committed, place_of
from gateway.core.reading import Position
from protocol.codes import Code, FrameClass, FrameType
from protocol.entry import (
    GENESIS,
    LINK,
    EntryLink,
    entry_hash,
    event_id,
    split_entry,
)
from protocol.event import EVENT_SCHEMA, TYPE_OF, EventBody, build_event
from protocol.frame import Header, parse_frame
from protocol.identity import VehicleId
from protocol.keys import SigningKey
from protocol.place import EVENT_PLACE
from protocol.receipt import Receipt
from protocol.result import RESULT, Result
from protocol.signing import sign_frame

RESULT_SCHEMA = 1
"""Revision of the result's body."""


@dataclass(frozen=True, slots=True)
class Signatory:
    """In whose name, session and key frames are signed."""

    vehicle_id: VehicleId
    """This vehicle."""
    fleet_id: bytes
    """16 bytes: fleet and environment."""
    session_id: bytes
    """16 bytes: the session of now."""
    key: SigningKey
    """The car's signing key."""


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """The newest entry of a ledger."""

    ledger_id: bytes
    """8 bytes."""
    seq: int
    """Its sequence, 0 for an empty ledger."""
    hash: bytes
    """Its `entry_hash`, `GENESIS` for an empty ledger."""


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """A signed entry: bytes that never change again."""

    seq: int
    """Its place."""
    frame_class: FrameClass
    """EVENT or RESULT."""
    frame: bytes
    """The signed frame."""
    hash: bytes
    """Its `entry_hash`."""
    request_id: bytes | None
    """The command that it answers, for the journal; None for an event."""
    place: bytes | None = None
    """Where it happened: `protocol.place.EVENT_PLACE`, kept apart from the frame."""


def seal_entry(
    body: EventBody | Result,
    head: LedgerHead,
    signatory: Signatory,
    *,
    now: Moment,
    fix: tuple[Position, bytes] | None = None,
) -> tuple[SealedEntry, LedgerHead]:
    """Sign the next entry and return it with the new head.

    Args:
        body: what it says.
        head: the entry before.
        signatory: in whose name.
        now: when.
        fix: where the car is, and 16 random bytes to hide it; only with a body that
            tells where it happened.
    """
    seq = head.seq + 1
    place = None
    if fix is not None:
        position, salt = fix
        told = place_of(position, ledger_id=head.ledger_id, seq=seq, salt=salt)
        body = committed(body, told, signatory.vehicle_id)
        place = EVENT_PLACE.build(told)
    link = LINK.build(EntryLink(head.ledger_id, head.hash, now.quality))
    message_id = event_id(signatory.vehicle_id.raw, head.ledger_id, seq)
    if isinstance(body, Result):
        frame = sign_result(body, link, signatory, seq=seq, msg_id=message_id, now=now)
        frame_class, request_id = FrameClass.RESULT, body.request_id
    else:
        header = _header(
            signatory, FrameClass.EVENT, TYPE_OF[type(body)], EVENT_SCHEMA,
            seq=seq, msg_id=message_id, now=now,
        )  # fmt: skip
        frame = sign_frame(
            header,
            link + build_event(body),
            fleet_id=signatory.fleet_id,
            key=signatory.key,
        )
        frame_class, request_id = FrameClass.EVENT, None
    entry = SealedEntry(seq, frame_class, frame, entry_hash(frame), request_id, place)
    return entry, LedgerHead(head.ledger_id, seq, entry.hash)


def sign_refusal(
    result: Result, head: LedgerHead, signatory: Signatory, *, now: Moment
) -> bytes:
    """Sign a result that enters no ledger: sequence 0 and no previous hash."""
    link = LINK.build(EntryLink(head.ledger_id, GENESIS, now.quality))
    return sign_result(
        result, link, signatory, seq=0, msg_id=result.request_id, now=now
    )


def sign_result(
    result: Result,
    link: bytes,
    signatory: Signatory,
    *,
    seq: int,
    msg_id: bytes,
    now: Moment,
) -> bytes:
    """Sign a RESULT frame."""
    header = _header(
        signatory, FrameClass.RESULT, FrameType.RESULT, RESULT_SCHEMA,
        seq=seq, msg_id=msg_id, now=now,
    )  # fmt: skip
    return sign_frame(
        header,
        link + RESULT.build(result),
        fleet_id=signatory.fleet_id,
        key=signatory.key,
    )


def _header(
    signatory: Signatory,
    frame_class: FrameClass,
    frame_type: int,
    schema: int,
    *,
    seq: int,
    msg_id: bytes,
    now: Moment,
) -> Header:
    return Header(
        suite=signatory.key.suite,
        frame_class=frame_class,
        flags=0,
        type=frame_type,
        schema=schema,
        lane=0,
        vehicle_id=signatory.vehicle_id,
        key_id=signatory.key.key_id,
        session_id=signatory.session_id,
        seq=seq,
        mono_ms=now.boot_ms,
        wall_ms=now.wall_ms,
        msg_id=msg_id,
    )


def sign_report(
    frame_class: FrameClass,
    frame_type: FrameType,
    payload: bytes,
    signatory: Signatory,
    *,
    seq: int,
    msg_id: bytes,
    now: Moment,
    flags: int = 0,
) -> bytes:
    """Sign a frame that is no ledger entry: HELLO or TELEM.

    Args:
        frame_class: HELLO or TELEM.
        frame_type: its type.
        payload: encoded.
        signatory: in whose name.
        seq: hello counter or batch number.
        msg_id: 16 bytes, random.
        now: when.
        flags: `protocol.frame.FLAG_HISTORICAL` for a stored sample.
    """
    header = Header(
        suite=signatory.key.suite,
        frame_class=frame_class,
        flags=flags,
        type=frame_type,
        schema=1,
        lane=0,
        vehicle_id=signatory.vehicle_id,
        key_id=signatory.key.key_id,
        session_id=signatory.session_id,
        seq=seq,
        mono_ms=now.boot_ms,
        wall_ms=now.wall_ms,
        msg_id=msg_id,
    )
    return sign_frame(header, payload, fleet_id=signatory.fleet_id, key=signatory.key)


@dataclass(frozen=True, slots=True)
class Freed:
    """What a receipt allows."""

    upto: int
    """Entries up to this one may go."""
    rejected: tuple[tuple[int, Code], ...]
    """Entries that the fleet will never take: keep them aside."""


def ledger_of(entry: SealedEntry) -> bytes:
    """Return the id of the ledger that an entry names, 8 bytes."""
    link, _ = split_entry(parse_frame(entry.frame).payload)
    return link.ledger_id


def judge_receipt(
    receipt: Receipt,
    head: LedgerHead,
    *,
    receipted: int,
    hash_at: Callable[[int], bytes | None],
) -> Freed | None:
    """Return what a verified receipt frees, or None when it does not match.

    A receipt counts only for this ledger, for entries that exist and for the very hash
    that this car holds at that sequence (I-22). An older one frees nothing more and
    harms nothing.

    Args:
        receipt: the payload of a verified RECEIPT frame.
        head: the newest entry.
        receipted: up to where receipts have been given before.
        hash_at: the hash of a stored entry, None when it is not stored.
    """
    if receipt.ledger_id != head.ledger_id or receipt.upto > head.seq:
        return None
    if receipt.upto > receipted and hash_at(receipt.upto) != receipt.head_hash:
        return None
    rejected = tuple(
        (reject.seq, reject.code)
        for reject in receipt.rejects
        if receipted < reject.seq <= head.seq
    )
    return Freed(max(receipt.upto, receipted), rejected)
