"""What one batch found, and what it leaves behind: values only.

`bridge.rows.batches` loads a `Workspace`, `bridge.projection` folds records into it,
and `bridge.rows.batches` writes what changed, all in one transaction.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum, unique
from typing import Self

import msgspec

from bridge import cloud_event
from bridge.cloud_event import Json, OutboxEvent
from bridge.commands import CommandRecord
from bridge.ingest import Verified, VerifiedEntry, VerifiedTelemetry
from bridge.instant import Instant
from bridge.key_book import Rotation
from bridge.ledger import Ledger
from bridge.mds.standing import MdsStep, Told, heard, lost
from bridge.places import PlaceRecord
from bridge.presence import LinkState
from bridge.vehicle import VehicleState
from protocol.frame import Frame
from protocol.identity import VehicleId
from protocol.receipt import Reject
from protocol.topic import topic_of

LedgerKey = tuple[VehicleId, bytes]
"""Vehicle and ledger id."""

EntryKey = tuple[VehicleId, bytes, int]
"""Vehicle, ledger id and sequence: unique in the store."""


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
    PASSED = "passed"
    """It came after people had accepted that it is missing."""
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


@dataclass(frozen=True, slots=True)
class StepRow:
    """What a city is told of a vehicle, to be stored."""

    vehicle_id: VehicleId
    """Which one."""
    step: MdsStep
    """What."""
    ledger_id: bytes
    """8 bytes: the ledger of the entry that says so; zeros for none."""
    seq: int
    """The entry's sequence, or 0."""
    energy_pct: int | None
    """Fuel or charge as it was known then, 0 to 100."""
    is_electric: bool
    """Whether that is charge."""


@dataclass(slots=True)
class Workspace:
    """What a batch found, and what it leaves behind."""

    fleet_id: bytes
    """16 bytes."""
    fetch: Callable[[EntryKey], tuple[bytes, int | None]]
    """Returns a stored entry's frame, and why it was refused for good."""
    fresh_nonce: Callable[[], bytes]
    """Returns 16 bytes that nobody can know beforehand."""
    at: Instant
    """When it is absorbed: its UTC is the `now` of everything that is noted."""
    vehicles: dict[VehicleId, VehicleState] = field(default_factory=dict)
    """Every vehicle of the batch; changed ones are written back."""
    waiting: set[VehicleId] = field(default_factory=set)
    """Vehicles of which nothing but telemetry is in the batch, and whose state it
    changes in nothing that anybody waits for; they are not loaded."""
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
    places: dict[EntryKey, PlaceRecord] = field(default_factory=dict)
    """Places of the batch's entries, and what its ledgers await."""
    changed_places: dict[EntryKey, PlaceRecord] = field(default_factory=dict)
    """To write back."""
    rentals: dict[tuple[VehicleId, bytes], RentalRow] = field(default_factory=dict)
    """To write over what was known."""
    replaced: dict[VehicleId, tuple[bytes, int]] = field(default_factory=dict)
    """Vehicles whose ledger is another now, or went back: its id and head. Rentals that
    were open in what is lost are to be closed by hand."""
    rotations: list[Rotation] = field(default_factory=list)
    """Changes of keys that are stored with their entries."""
    configured: list[tuple[VehicleId, int, int, int | None]] = field(
        default_factory=list
    )
    """What cars signed about configurations: kind, version, and why not."""
    steps: list[StepRow] = field(default_factory=list)
    """What a city is told of the fleet, in this order."""
    greeted: set[VehicleId] = field(default_factory=set)
    """Vehicles that said HELLO, doubtful ones included."""
    receipts: dict[LedgerKey, list[Reject]] = field(default_factory=dict)
    """Ledgers that get a receipt, with what is refused for good."""
    changed_commands: dict[bytes, CommandRecord] = field(default_factory=dict)
    """To write back."""
    notes: list[str] = field(default_factory=list)
    """For each record, in order, what became of it; empty for nothing special."""


def change(space: Workspace, record: CommandRecord) -> None:
    """Note a changed command."""
    space.commands[record.command_id] = record
    space.changed_commands[record.command_id] = record


def raise_alarm(
    space: Workspace,
    kind: str,
    key: EntryKey,
    detail: str,
    *,
    now: int,
    evidence: bytes = b"",
) -> None:
    """Tell consumers what somebody has to look at; once for the same fact."""
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


def set_alert(
    space: Workspace, vehicle_id: VehicleId, name: str, detail: str, *, now: int
) -> None:
    """Raise an alert of a car (or end it, with no detail); told once each."""
    vehicle = space.vehicles.get(vehicle_id, VehicleState())
    is_raised = bool(detail)
    if (name in vehicle.alerts) is is_raised:
        return
    others = tuple(known for known in vehicle.alerts if known != name)
    after = msgspec.structs.replace(
        vehicle, alerts=(*others, name) if is_raised else others
    )
    space.vehicles[vehicle_id] = after
    space.outbox.append(
        cloud_event.alert(
            vehicle_id, after, name, detail, fleet_id=space.fleet_id, now=now
        )
    )


def hear(space: Workspace, record: Verified) -> VehicleState:
    """Note that a vehicle was heard; return it as it is then."""
    header = record.frame.header
    vehicle = space.vehicles.get(header.vehicle_id, VehicleState())
    vehicle = vehicle.heard(header, at=space.at)
    space.vehicles[header.vehicle_id] = vehicle
    return vehicle


def tell_presence(space: Workspace, vehicle_id: VehicleId, now: int) -> None:
    """Tell consumers that a car came or went, if they think otherwise."""
    vehicle = space.vehicles.get(vehicle_id)
    if vehicle is None:
        return
    is_online = vehicle.is_online(now=now)
    if is_online is vehicle.presence.is_told_online:
        return
    event = cloud_event.presence(vehicle_id, vehicle, fleet_id=space.fleet_id, now=now)
    space.outbox.append(event)
    vehicle = note_steps(space, vehicle_id, vehicle, stand(vehicle, now=now))
    told = vehicle.presence.told(is_online=is_online)
    space.vehicles[vehicle_id] = msgspec.structs.replace(vehicle, presence=told)


def stand(vehicle: VehicleState, *, now: int) -> Told:
    """Return where a vehicle stands for a city now that its link came or went."""
    known = vehicle.presence
    match known.state(now=now):
        case LinkState.ONLINE:
            is_fit = not vehicle.faults
            return heard(vehicle.standing, at_ms=now, is_fit=is_fit)
        case LinkState.LOST | LinkState.STOPPED:
            return lost(vehicle.standing, at_ms=known.death_ms)
        case LinkState.SILENT | LinkState.UNKNOWN:
            # Since then nobody knows of it; that it is silent was clear later.
            return lost(vehicle.standing, at_ms=known.heard_ms)


def rows_of(
    vehicle_id: VehicleId,
    vehicle: VehicleState,
    told: Told,
    *,
    ledger_id: bytes = bytes(8),
    seq: int = 0,
) -> tuple[VehicleState, list[StepRow]]:
    """Return the vehicle as it stands then, and what is to be stored of it."""
    standing, steps = told
    if not steps and standing == vehicle.standing:
        return vehicle, []
    rows: list[StepRow] = []
    if steps:
        energy_pct, is_electric = vehicle.energy_pct, vehicle.is_electric
        rows = [
            StepRow(vehicle_id, step, ledger_id, seq, energy_pct, is_electric)
            for step in steps
        ]
    return msgspec.structs.replace(vehicle, standing=standing), rows


def note_steps(
    space: Workspace,
    vehicle_id: VehicleId,
    vehicle: VehicleState,
    told: Told,
    *,
    ledger_id: bytes = bytes(8),
    seq: int = 0,
) -> VehicleState:
    """Note what a city is told; return the vehicle as it stands then."""
    vehicle, rows = rows_of(vehicle_id, vehicle, told, ledger_id=ledger_id, seq=seq)
    space.steps += rows
    return vehicle
