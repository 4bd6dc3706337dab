"""What one batch of verified records does to the store: pure, and in one transaction.

A `Workspace` is what the store loaded for a batch; `absorb` folds one record into it
and notes what is to be written, told and receipted. Nothing here reads a clock, a
socket or a database, so a batch can be replayed in a test as it was.

Rule 1: a command's outcome counts as soon as its frame is verified; everything else
that a ledger says is told in ledger order, and waits while a gap is open.
Rule 2: fork, break and gap are told as alarms, never merged (I-27).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Final, Self, assert_never

from bridge import cloud_event, commands
from bridge.cloud_event import Json, OutboxEvent
from bridge.commands import CommandRecord
from bridge.ingest import (
    Rejection,
    Verified,
    VerifiedDeath,
    VerifiedEntry,
    VerifiedHello,
    VerifiedTelemetry,
    read,
)
from bridge.ledger import Ledger, Place, Placement, contradicts, place
from bridge.twin import rental_of, values_of_event, values_of_sample, values_of_snapshot
from bridge.vehicle import HelloJudgement, VehicleState
from protocol.codes import Code
from protocol.entry import entry_hash
from protocol.event import (
    FaultCleared,
    FaultRaised,
    RentalEnded,
    RentalStarted,
    ReservationCancelled,
    ReservationExpired,
    ReservationStarted,
)
from protocol.frame import Frame, parse_frame
from protocol.identity import VehicleId
from protocol.receipt import Reject
from protocol.result import Result
from protocol.snapshot import NO_RENTAL
from protocol.topic import topic_of

LedgerKey = tuple[VehicleId, bytes]
"""Vehicle and ledger id."""

EntryKey = tuple[VehicleId, bytes, int]
"""Vehicle, ledger id and sequence: unique in the store."""

SAMPLE_UNIT_MS: Final = 100
"""A sample's age is given in tenths of a second."""


_KNOWN: Final = frozenset(Placement) - {Placement.FORKED, Placement.CROWDED}
"""Placements after which the entry itself is stored."""


@dataclass(frozen=True, slots=True)
class FrameRow:
    """An entry to be stored."""

    key: EntryKey
    """Where it stands."""
    entry: VerifiedEntry
    """What it is."""


@unique
class LetterKind(StrEnum):
    """Why bytes are kept aside; `bridge.letters` says what can be done about it."""

    UNVERIFIED = "unverified"
    """Not proved to be of a vehicle of this fleet."""
    RETAINED = "retained"
    """A broker had kept it; never believed, whoever signed it (L9)."""
    FORK = "fork"
    """Another entry with this sequence is stored."""
    CROWDED = "crowded"
    """Too many entries are held beyond a gap."""
    REFUSED = "refused"
    """An entry whose body is wrong; the car was told by receipt."""
    REGRESSED = "regressed"
    """A HELLO that is older than the newest one."""
    FOREIGN = "foreign"
    """A result for other bytes than were signed."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Bytes that are kept and not believed, or kept beside what they contradict."""

    kind: LetterKind
    """Why, for programs."""
    topic: str
    """Where they came."""
    data: bytes
    """As received."""
    reason: str
    """Why, for people."""

    @classmethod
    def of(cls, kind: LetterKind, frame: Frame, reason: str) -> Self:
        """Return the letter of a verified frame."""
        header = frame.header
        topic = topic_of(header.vehicle_id, header.frame_class)
        return cls(kind, topic, frame.data, reason)


@dataclass(frozen=True, slots=True)
class RentalRow:
    """What is known of a rental."""

    vehicle_id: VehicleId
    """The car that says so."""
    rental_id: bytes
    """16 bytes."""
    state: str
    """reserved, running, ended, cancelled or expired."""
    seq: int
    """Sequence of the entry that says so."""
    ledger_id: bytes
    """8 bytes: its ledger."""
    report: dict[str, Json] | None
    """The report, once it has ended."""


@dataclass(slots=True)
class Workspace:
    """What a batch found, and what it leaves behind."""

    fleet_id: bytes
    """16 bytes."""
    fetch: Callable[[EntryKey], bytes]
    """Returns a stored entry's frame."""
    vehicles: dict[VehicleId, VehicleState] = field(default_factory=dict)
    """Every vehicle of the batch; changed ones are written back."""
    ledgers: dict[LedgerKey, Ledger] = field(default_factory=dict)
    """Every ledger of the batch; changed ones are written back."""
    known: dict[EntryKey, bytes] = field(default_factory=dict)
    """Hashes of entries that are stored already."""
    refused: set[EntryKey] = field(default_factory=set)
    """Those of them that were refused for good."""
    commands: dict[bytes, CommandRecord] = field(default_factory=dict)
    """Commands that results name, and the open ones of cars that said HELLO."""

    frames: list[FrameRow] = field(default_factory=list)
    """To store."""
    released: list[EntryKey] = field(default_factory=list)
    """Told now; some were stored by this batch and some before."""
    reread: list[EntryKey] = field(default_factory=list)
    """Refused before and understood now."""
    outbox: list[OutboxEvent] = field(default_factory=list)
    """To tell, in this order."""
    dead: list[DeadLetter] = field(default_factory=list)
    """To keep aside."""
    telemetry: list[VerifiedTelemetry] = field(default_factory=list)
    """To keep for a while."""
    rentals: dict[tuple[VehicleId, bytes], RentalRow] = field(default_factory=dict)
    """To write over what was known."""
    receipts: dict[LedgerKey, list[Reject]] = field(default_factory=dict)
    """Ledgers that get a receipt, with what is refused for good."""
    changed_commands: dict[bytes, CommandRecord] = field(default_factory=dict)
    """To write back."""
    notes: list[str] = field(default_factory=list)
    """For each record, in order, what became of it; empty for nothing special."""


def absorb(space: Workspace, record: Verified | Rejection, *, now: int) -> None:
    """Fold one record into the batch.

    Args:
        space: changed in place.
        record: as `bridge.ingest.verify` returned it.
        now: UTC ms when it was received.
    """
    match record:
        case Rejection():
            reason = f"{record.code.name}: {record.detail}"
            kind = LetterKind.UNVERIFIED
            if record.code is Code.RETAINED:
                kind = LetterKind.RETAINED
            space.dead.append(DeadLetter(kind, record.topic, record.data, reason))
            note = record.code.name
        case VerifiedHello():
            note = _absorb_hello(space, record, now)
        case VerifiedTelemetry():
            note = _absorb_telemetry(space, record, now)
        case VerifiedDeath():
            _update(space, record, now, died=True)
            note = ""
        case VerifiedEntry():
            note = _absorb_entry(space, record, now)
        case _:
            assert_never(record)
    space.notes.append(note)


def note_published(space: Workspace, sent: Mapping[bytes, int]) -> None:
    """Note sendings that were not written yet; `sent` maps command ids to UTC ms."""
    for command_id, at_ms in sent.items():
        record = space.commands.get(command_id)
        if record is not None:
            _change(space, commands.published(record, now=at_ms))


def _update(
    space: Workspace, record: Verified, now: int, *, died: bool = False
) -> VehicleState:
    header = record.frame.header
    vehicle = space.vehicles.get(header.vehicle_id, VehicleState())
    vehicle = vehicle.died(header) if died else vehicle.heard(header, now=now)
    space.vehicles[header.vehicle_id] = vehicle
    return vehicle


def _absorb_hello(space: Workspace, record: VerifiedHello, now: int) -> str:
    header, hello = record.frame.header, record.hello
    vehicle_id = header.vehicle_id
    before = space.vehicles.get(vehicle_id, VehicleState())
    digest = entry_hash(record.frame.data)
    judgement = before.judge(header, hello.ledger_id, digest)
    if judgement is HelloJudgement.REGRESSED:
        reason = "HELLO whose session went back"
        letter = DeadLetter.of(LetterKind.REGRESSED, record.frame, reason)
        space.dead.append(letter)
        return judgement.value
    if judgement is HelloJudgement.SAME:
        return judgement.value
    after = before.greeted(header, hello, digest, now=now).heard(header, now=now)
    values = values_of_snapshot(hello.snapshot)
    space.vehicles[vehicle_id] = after.observed(header, values, now=now)
    listed = [
        space.commands[outcome.msg_id].expires_ms
        for outcome in hello.outcomes
        if outcome.msg_id in space.commands
    ]
    for command in list(space.commands.values()):
        if command.vehicle_id == vehicle_id:
            settled = commands.greeted(
                command,
                hello,
                header,
                lists_older=min(listed, default=now) < command.requested_ms,
                now=now,
            )
            if settled is not command:
                _change(space, settled)
    key = (vehicle_id, hello.ledger_id)
    if before.ledger_id and before.ledger_id != hello.ledger_id:
        _alarm_replaced(space, before, key, now)
    # The receipt tells the car at once how far it need not send again.
    space.receipts.setdefault(key, [])
    return _compare_head(space, record, key, now)


def _alarm_replaced(
    space: Workspace, before: VehicleState, key: LedgerKey, now: int
) -> None:
    """Tell that a car lost its ledger, and what it was in as far as is known."""
    detail = (
        f"the car began this ledger in place of {before.ledger_id.hex()}; what it had "
        "not sent of that one is lost"
    )
    rental = rental_of(before.twin)
    if rental is not None:
        detail += f"; rental {rental} was open: close it by hand"
    _alarm(space, cloud_event.REPLACED_TYPE, (*key, 0), detail, now=now)


def _compare_head(
    space: Workspace, record: VerifiedHello, key: LedgerKey, now: int
) -> str:
    hello = record.hello
    wrong = contradicts(
        space.ledgers.get(key, Ledger()),
        hello.head_seq,
        hello.head_hash,
        known_hash=space.known.get((*key, hello.head_seq)),
    )
    if wrong is None:
        return ""
    _alarm(space, cloud_event.FORKED_TYPE, (*key, hello.head_seq), wrong, now=now)
    return wrong


def _absorb_telemetry(space: Workspace, record: VerifiedTelemetry, now: int) -> str:
    vehicle = _update(space, record, now)
    space.telemetry.append(record)
    if record.telemetry is None:
        return "newer than this bridge"
    header = record.frame.header
    for sample in record.telemetry.samples:
        vehicle = vehicle.observed(
            header,
            values_of_sample(sample),
            now=now,
            age_ms=sample.age_ds * SAMPLE_UNIT_MS,
        )
    space.vehicles[header.vehicle_id] = vehicle
    return ""


def _absorb_entry(space: Workspace, record: VerifiedEntry, now: int) -> str:
    header = record.frame.header
    vehicle = _update(space, record, now)
    note = ""
    if isinstance(record.body, Result):
        note = _settle(space, record, record.body, now)
        values = values_of_snapshot(record.body.snapshot)
        space.vehicles[header.vehicle_id] = vehicle.observed(header, values, now=now)
    if not record.is_in_ledger:
        return note
    key = (header.vehicle_id, record.link.ledger_id)
    entry_key = (*key, header.seq)
    placed = place(
        space.ledgers.get(key, Ledger()),
        Place(header.seq, record.entry_hash, record.link.prev_hash),
        known_hash=space.known.get(entry_key),
    )
    space.ledgers[key] = placed.ledger
    rejects = space.receipts.setdefault(key, [])
    if record.refused is not None and placed.placement in _KNOWN:
        # Also when it comes again: the receipt that said so may have been lost.
        rejects.append(Reject(header.seq, record.refused))
    match placed.placement:
        case Placement.DUPLICATE:
            if entry_key in space.refused and record.refused is None:
                return _reread(space, entry_key, record, now)
            return placed.placement.value
        case Placement.FORKED | Placement.CROWDED:
            return _set_aside(space, entry_key, record, placed.placement, now)
        case Placement.NEXT | Placement.HELD | Placement.BROKEN:
            _store(space, entry_key, record)
    if placed.broken_at is not None:
        detail = f"entry {placed.broken_at} does not name the entry before it"
        broken = (*key, placed.broken_at)
        _alarm(space, cloud_event.BROKEN_TYPE, broken, detail, now=now)
    for seq in placed.released:
        own = record if seq == header.seq else _stored(space, (*key, seq))
        _tell(space, own, now)
        space.released.append((*key, seq))
    return note if placed.placement is Placement.NEXT else placed.placement.value


def _store(space: Workspace, key: EntryKey, record: VerifiedEntry) -> None:
    space.frames.append(FrameRow(key, record))
    space.known[key] = record.entry_hash
    if record.refused is not None:
        space.refused.add(key)
        reason = f"{record.refused.name}: refused for good"
        space.dead.append(DeadLetter.of(LetterKind.REFUSED, record.frame, reason))


def _set_aside(
    space: Workspace,
    key: EntryKey,
    record: VerifiedEntry,
    placement: Placement,
    now: int,
) -> str:
    """Keep an entry beside what it contradicts, and tell of it (I-27)."""
    reason = placement.value
    letter, kind = LetterKind.FORK, cloud_event.FORKED_TYPE
    if placement is Placement.CROWDED:
        letter, kind = LetterKind.CROWDED, cloud_event.GAP_TYPE
    space.dead.append(DeadLetter.of(letter, record.frame, reason))
    detail = f"entry {key[2]}: {reason}"
    _alarm(space, kind, key, detail, now=now, evidence=record.frame.data)
    return reason


def _reread(space: Workspace, key: EntryKey, record: VerifiedEntry, now: int) -> str:
    """Tell an entry that was refused for good and is understood now."""
    space.refused.discard(key)
    space.reread.append(key)
    _tell(space, record, now, is_reread=True)
    return "refused before, understood now"


def _stored(space: Workspace, key: EntryKey) -> VerifiedEntry:
    for row in space.frames:
        if row.key == key:
            return row.entry
    entry = read(parse_frame(space.fetch(key)))
    if not isinstance(entry, VerifiedEntry):
        raise TypeError(f"stored frame {key[2]} is no ledger entry")
    return entry


def _settle(space: Workspace, record: VerifiedEntry, result: Result, now: int) -> str:
    command = space.commands.get(result.request_id)
    header = record.frame.header
    if command is None:
        return "answers no command of ours"
    if command.vehicle_id != header.vehicle_id:
        return "answers a command to another car"
    after = commands.answered(
        command, result, record.frame.data, in_ledger=record.is_in_ledger, now=now
    )
    if after is None:
        reason = "answers other bytes than ours"
        space.dead.append(DeadLetter.of(LetterKind.FOREIGN, record.frame, reason))
        return reason
    if after is not command:
        _change(space, after)
    return ""


def _change(space: Workspace, record: CommandRecord) -> None:
    space.commands[record.command_id] = record
    space.changed_commands[record.command_id] = record


def _alarm(
    space: Workspace,
    kind: str,
    key: EntryKey,
    detail: str,
    *,
    now: int,
    evidence: bytes = b"",
) -> None:
    vehicle_id, ledger_id, seq = key
    space.outbox.append(
        cloud_event.alarm(
            kind,
            vehicle_id,
            ledger_id=ledger_id,
            seq=seq,
            detail=detail,
            evidence=evidence,
            fleet_id=space.fleet_id,
            now=now,
        )
    )


_RENTAL_STATES: Final[dict[type[object], str]] = {
    ReservationStarted: "reserved",
    ReservationExpired: "expired",
    ReservationCancelled: "cancelled",
    RentalStarted: "running",
    RentalEnded: "ended",
}


def _tell(
    space: Workspace, entry: VerifiedEntry, now: int, *, is_reread: bool = False
) -> None:
    header = entry.frame.header
    vehicle = space.vehicles.get(header.vehicle_id, VehicleState())
    observed_ms = vehicle.utc_of(header, now=now)
    space.outbox.append(
        cloud_event.from_entry(
            entry,
            fleet_id=space.fleet_id,
            observed_ms=observed_ms,
            received_ms=now,
            is_reread=is_reread,
        )
    )
    body = entry.body
    if body is None or isinstance(body, Result):
        return
    vehicle = vehicle.observed(header, values_of_event(body), now=now)
    if isinstance(body, FaultRaised | FaultCleared):
        vehicle = vehicle.with_fault(
            body.kind.name.lower(), is_raised=isinstance(body, FaultRaised)
        )
    space.vehicles[header.vehicle_id] = vehicle
    state = _RENTAL_STATES.get(type(body))
    rental_id: bytes = getattr(body, "rental_id", NO_RENTAL)
    if state is not None and rental_id != NO_RENTAL:
        report = cloud_event.data_of(body) if isinstance(body, RentalEnded) else None
        space.rentals[header.vehicle_id, rental_id] = RentalRow(
            header.vehicle_id,
            rental_id,
            state,
            header.seq,
            entry.link.ledger_id,
            report,
        )
