"""What one batch of verified records does to the store: pure, and in one transaction.

A `Workspace` is what the store loaded for a batch; `absorb` folds one record into it
and notes what is to be written, told and receipted. Nothing here reads a clock, a
socket or a database, so a batch can be replayed in a test as it was.

Rule 1: a command's outcome counts as soon as its frame is verified; everything else
that a ledger says is told in ledger order, and waits while a gap is open.
Rule 2: fork, break and gap are told as alarms, never merged (I-27).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, assert_never

from bridge import cloud_event, commands
from bridge.greeting import absorb_hello
from bridge.ingest import (
    NUMBER_LIMIT,
    Rejection,
    Verified,
    VerifiedDeath,
    VerifiedEntry,
    VerifiedHello,
    VerifiedPlace,
    VerifiedTelemetry,
    read,
)
from bridge.ledger import Ledger, Place, Placed, Placement, pass_over, place
from bridge.mds.standing import happened
from bridge.presence import LinkState
from bridge.sampling import sampled
from bridge.twin import values_of_event, values_of_snapshot
from bridge.vehicle import VehicleState
from bridge.whereabouts import absorb_place, note_arrival
from bridge.workspace import (
    DeadLetter,
    EntryKey,
    FrameRow,
    LedgerKey,
    LetterKind,
    RentalRow,
    Workspace,
    change,
    hear,
    note_steps,
    raise_alarm,
    tell_presence,
)
from protocol.codes import Code, DeathReason
from protocol.event import (
    FaultCleared,
    FaultRaised,
    RentalEnded,
    RentalStarted,
    ReservationCancelled,
    ReservationExpired,
    ReservationStarted,
)
from protocol.frame import parse_frame
from protocol.receipt import Gap, Reject
from protocol.result import Result
from protocol.snapshot import NO_RENTAL
from protocol.vehicle_event import (
    ConfigurationActivated,
    ConfigurationRefused,
    LedgerReset,
)

NO_LEDGER: Final = bytes(8)
"""The ledger of an alarm about none."""


_KNOWN: Final = frozenset(Placement) - {
    *(Placement.FORKED, Placement.CROWDED, Placement.PASSED),
}
"""Placements after which the entry itself is stored."""


def absorb(space: Workspace, record: Verified | Rejection) -> None:
    """Fold one record into the batch.

    Args:
        space: changed in place.
        record: as `bridge.ingest.verify` returned it.
    """
    now = space.at.utc_ms
    if isinstance(record, VerifiedTelemetry):
        # First, since it is most of what a fleet says.
        space.notes.append(_absorb_telemetry(space, record, now))
        return
    match record:
        case Rejection():
            reason = f"{record.code.name}: {record.detail}"
            kind = LetterKind.UNVERIFIED
            if record.code is Code.RETAINED:
                kind = LetterKind.RETAINED
            space.dead.append(DeadLetter(kind, record.topic, record.data, reason))
            _alarm_old_key(space, record, now)
            note = record.code.name
        case VerifiedHello():
            note = absorb_hello(space, record, now)
        case VerifiedPlace():
            note = absorb_place(space, record, now)
        case VerifiedDeath():
            note = _absorb_death(space, record, now)
        case VerifiedEntry():
            note = _absorb_entry(space, record, now)
        case _:
            assert_never(record)
    if not isinstance(record, Rejection):
        tell_presence(space, record.frame.header.vehicle_id, now)
    space.notes.append(note)


def note_published(space: Workspace, sent: Mapping[bytes, int]) -> None:
    """Note sendings that were not written yet; `sent` maps command ids to UTC ms."""
    for command_id, at_ms in sent.items():
        record = space.commands.get(command_id)
        if record is not None:
            change(space, commands.published(record, now=at_ms))


def _alarm_old_key(space: Workspace, record: Rejection, now: int) -> None:
    """Tell that somebody signed with a key that its vehicle gave up (FF-ENR-16)."""
    if record.code is not Code.REVOKED or record.frame is None:
        return
    vehicle_id = record.frame.header.vehicle_id
    place_of = (vehicle_id, NO_LEDGER, 0)
    kind, data = cloud_event.OLD_KEY_TYPE, record.data
    raise_alarm(space, kind, place_of, record.detail, now=now, evidence=data)


def _absorb_death(space: Workspace, record: VerifiedDeath, now: int) -> str:
    header = record.frame.header
    before = space.vehicles.get(header.vehicle_id, VehicleState())
    is_stop = record.death.reason is DeathReason.STOPPED
    ended = LinkState.STOPPED if is_stop else LinkState.LOST
    after = before.died(header, ended, now=now)
    if after is None:
        return "stale: it is of an earlier connection"
    space.vehicles[header.vehicle_id] = after
    return ""


def _absorb_telemetry(space: Workspace, record: VerifiedTelemetry, now: int) -> str:
    header = record.frame.header
    vehicle_id = header.vehicle_id
    space.telemetry.append(record)
    if vehicle_id not in space.waiting:
        before = space.vehicles.get(vehicle_id, VehicleState())
        after = sampled(before, header, record.telemetry, at=space.at)
        space.vehicles[vehicle_id] = after
        tell_presence(space, vehicle_id, now)
    return "newer than this bridge" if record.telemetry is None else ""


def _absorb_entry(space: Workspace, record: VerifiedEntry, now: int) -> str:
    header = record.frame.header
    vehicle = hear(space, record)
    note = ""
    if isinstance(record.body, Result):
        note = _settle(space, record, record.body, now)
        values = values_of_snapshot(record.body.snapshot)
        space.vehicles[header.vehicle_id] = vehicle.observed(
            header, values, at=space.at
        )
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
            return _repeat(space, entry_key, record, now)
        case Placement.FORKED | Placement.CROWDED | Placement.PASSED:
            return _set_aside(space, entry_key, record, placed.placement, now)
        case Placement.NEXT | Placement.HELD | Placement.BROKEN:
            _store(space, entry_key, record)
            note_arrival(space, entry_key, record, now)
    _go_on(space, key, placed, record, now)
    return note if placed.placement is Placement.NEXT else placed.placement.value


def _go_on(
    space: Workspace,
    key: LedgerKey,
    placed: Placed,
    record: VerifiedEntry | None,
    now: int,
) -> None:
    """Tell what a ledger released; `record` is the entry that came, if one did."""
    if placed.broken_at is not None:
        detail = f"entry {placed.broken_at} does not name the entry before it"
        broken = (*key, placed.broken_at)
        raise_alarm(space, cloud_event.BROKEN_TYPE, broken, detail, now=now)
    for seq in placed.released:
        is_own = record is not None and seq == record.frame.header.seq
        own = record if record and is_own else _stored(space, (*key, seq))
        _tell(space, own, now)
        space.released.append((*key, seq))


def absorb_gap(space: Workspace, key: LedgerKey, gap: Gap, detail: str) -> bool:
    """Tell that entries are missing for good, then what was held behind them.

    Args:
        space: changed in place.
        key: whose ledger.
        gap: what is missing.
        detail: who accepted it, and why.

    Returns:
        Whether that is the ledger's oldest gap; if not, nothing changed.
    """
    placed = pass_over(space.ledgers.get(key, Ledger()), gap)
    if placed is None:
        return False
    space.ledgers[key] = placed.ledger
    now, kind = space.at.utc_ms, cloud_event.GAP_ACCEPTED_TYPE
    raise_alarm(space, kind, (*key, gap.first), detail, now=now)
    _go_on(space, key, placed, None, now)
    return True


def _store(space: Workspace, key: EntryKey, record: VerifiedEntry) -> None:
    space.frames.append(FrameRow(key, record))
    space.known[key] = record.entry_hash
    if record.rotation is not None:
        space.rotations.append(record.rotation)
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
    elif placement is Placement.PASSED:
        letter, kind = LetterKind.PASSED, cloud_event.GAP_ACCEPTED_TYPE
    space.dead.append(DeadLetter.of(letter, record.frame, reason))
    detail = f"entry {key[2]}: {reason}"
    raise_alarm(space, kind, key, detail, now=now, evidence=record.frame.data)
    return reason


def _repeat(space: Workspace, key: EntryKey, record: VerifiedEntry, now: int) -> str:
    note_arrival(space, key, record, now)
    if key in space.refused and record.refused is None:
        return _reread(space, key, record, now)
    return Placement.DUPLICATE.value


def _reread(space: Workspace, key: EntryKey, record: VerifiedEntry, now: int) -> str:
    """Tell an entry that was refused for good and is understood now."""
    space.refused.discard(key)
    space.reread.append(key)
    if record.rotation is not None:
        space.rotations.append(record.rotation)
    _tell(space, record, now, is_reread=True)
    return "refused before, understood now"


def _stored(space: Workspace, key: EntryKey) -> VerifiedEntry:
    for row in space.frames:
        if row.key == key:
            return row.entry
    data, refused = space.fetch(key)
    entry = read(parse_frame(data))
    if not isinstance(entry, VerifiedEntry):
        raise TypeError(f"stored frame {key[2]} is no ledger entry")
    if refused is not None:
        # Refused for what stands beside it, such as a key that another car has.
        return replace(entry, body=None, fault=Code(refused))
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
        place_of = (header.vehicle_id, record.link.ledger_id, header.seq)
        detail = f"result for command {result.request_id.hex()} {reason}"
        kind, frame = cloud_event.FOREIGN_TYPE, record.frame.data
        raise_alarm(space, kind, place_of, detail, now=now, evidence=frame)
        return reason
    if after is not command:
        change(space, after)
    return ""


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
    observed_ms = vehicle.utc_of(header, at=space.at)
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
        if vehicle.standing.backlog_seq:
            vehicle = _stand(space, vehicle, entry, observed_ms, now)
            space.vehicles[header.vehicle_id] = vehicle
        return
    vehicle = vehicle.observed(header, values_of_event(body), at=space.at)
    match body:
        case ConfigurationActivated():
            vehicle = vehicle.configured(body.kind, body.version)
            space.configured.append((header.vehicle_id, body.kind, body.version, None))
        case ConfigurationRefused():
            refused = (header.vehicle_id, body.kind, body.version, int(body.code))
            space.configured.append(refused)
        case LedgerReset():
            space.replaced[header.vehicle_id] = (entry.link.ledger_id, NUMBER_LIMIT)
        case _:
            pass
    if entry.link.ledger_id in vehicle.lost_ledgers:
        # A last word of a ledger that was replaced meanwhile.
        space.replaced[header.vehicle_id] = (vehicle.ledger_id, NUMBER_LIMIT)
    if isinstance(body, FaultRaised | FaultCleared):
        vehicle = vehicle.with_fault(
            body.kind.name.lower(), is_raised=isinstance(body, FaultRaised)
        )
    vehicle = _stand(space, vehicle, entry, observed_ms, now)
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


def _stand(
    space: Workspace,
    vehicle: VehicleState,
    entry: VerifiedEntry,
    observed_ms: int | None,
    now: int,
) -> VehicleState:
    """Note what an entry means to a city; return the vehicle as it stands then."""
    header = entry.frame.header
    told = happened(
        vehicle.standing,
        None if isinstance(entry.body, Result) else entry.body,
        seq=header.seq,
        at_ms=now if observed_ms is None else min(observed_ms, now),
        is_fit=not vehicle.faults,
        is_electric=vehicle.is_electric,
    )
    return note_steps(
        space,
        header.vehicle_id,
        vehicle,
        told,
        ledger_id=entry.link.ledger_id,
        seq=header.seq,
    )
