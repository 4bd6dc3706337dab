"""Ledger entries and alarms as CloudEvents 1.0 (JSON format).

The one place that knows how consumers see what happened. ``id`` is made from the
entry's place in its ledger (`protocol.entry.event_id`) and stays the same however often
the entry or the event is sent: consumers drop duplicates by it. Within one ``subject``
(a vehicle) events come in ledger order; ``sequence`` is that order, not ``time``.

``data`` is readable by itself: enumerations in lower case, ids in hex, units in the
names, null for "not measured". ``data.evidence`` holds the signed frame, so that a
consumer can keep proof that does not depend on the bridge.
"""

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Final

import msgspec

from bridge.approvals import Approval
from bridge.commands import CommandRecord
from bridge.ingest import VerifiedEntry
from bridge.instants import rfc3339
from bridge.orders import KINDS
from bridge.presence import LinkState
from bridge.twin import values_of_bits
from bridge.vehicle import VehicleState
from protocol.codes import Bits, EventType, Opcode
from protocol.entry import event_id
from protocol.event import TYPE_OF, EventBody, RentalEnded
from protocol.frame import Frame
from protocol.identity import VehicleId
from protocol.result import Result
from protocol.snapshot import Snapshot

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

TYPES: Final = {
    EventType.AGENT_STARTED: "freefloat.agent.started",
    EventType.RESERVATION_STARTED: "freefloat.reservation.started",
    EventType.RESERVATION_EXPIRED: "freefloat.reservation.expired",
    EventType.RESERVATION_CANCELLED: "freefloat.reservation.cancelled",
    EventType.ACCESS_GRANTED: "freefloat.access.granted",
    EventType.RENTAL_STARTED: "freefloat.rental.started",
    EventType.CARD_REFUSED: "freefloat.card.refused",
    EventType.PIN_BLOCKED: "freefloat.pin.blocked",
    EventType.PIN_ACCEPTED: "freefloat.pin.accepted",
    EventType.ENGINE_RELEASED: "freefloat.engine.released",
    EventType.ENGINE_STARTED: "freefloat.engine.started",
    EventType.ENGINE_STOPPED: "freefloat.engine.stopped",
    EventType.ENERGY_LOW: "freefloat.energy.low",
    EventType.PARKED: "freefloat.rental.parked",
    EventType.RESUMED: "freefloat.rental.resumed",
    EventType.REFUEL_STARTED: "freefloat.refuel.started",
    EventType.REFUEL_ENDED: "freefloat.refuel.ended",
    EventType.FUEL_PAID_BY_CARD: "freefloat.fuel.paid_by_card",
    EventType.RENTAL_ENDED: "freefloat.rental.ended",
    EventType.FAULT_RAISED: "freefloat.fault.raised",
    EventType.FAULT_CLEARED: "freefloat.fault.cleared",
    EventType.INSPECTION_DONE: "freefloat.inspection.done",
    EventType.DAMAGE_REPORTED: "freefloat.damage.reported",
    EventType.CLEANLINESS_RATED: "freefloat.cleanliness.rated",
    EventType.PAYMENT_REQUESTED: "freefloat.payment.requested",
    EventType.PAYMENT_DECIDED: "freefloat.payment.decided",
    EventType.HANDOVER_OFFERED: "freefloat.handover.offered",
    EventType.HANDOVER_ACCEPTED: "freefloat.handover.accepted",
    EventType.HANDOVER_DONE: "freefloat.handover.done",
    EventType.SERVICE_NEEDED: "freefloat.service.needed",
    EventType.SERVICE_CLEARED: "freefloat.service.cleared",
    EventType.TAMPER: "freefloat.tamper.detected",
    EventType.CONFIGURATION_ACTIVATED: "freefloat.configuration.activated",
    EventType.CONFIGURATION_REFUSED: "freefloat.configuration.refused",
    EventType.KEY_ROTATED: "freefloat.key.rotated",
    EventType.LEDGER_RESET: "freefloat.ledger.reset",
    EventType.TRUST_CHANGED: "freefloat.trust.changed",
    EventType.GRANT_CHANGED: "freefloat.grant.changed",
    EventType.SERVICE_MODE: "freefloat.service.mode",
    EventType.DIAGNOSED: "freefloat.diagnosis.told",
    EventType.HANDOVER_PLANNED: "freefloat.handover.planned",
}
"""The CloudEvents type of each event."""

RESULT_TYPE: Final = "freefloat.command.result"
"""A command's signed outcome."""

UNKNOWN_TYPE: Final = "freefloat.event.unknown"
"""An entry of a car that is newer than this bridge."""

REFUSED_TYPE: Final = "freefloat.entry.refused"
"""A signed entry whose body is wrong; kept, and refused for good."""

FORKED_TYPE: Final = "freefloat.ledger.forked"
"""Two entries with one sequence, or a ledger that went back (I-27)."""

BROKEN_TYPE: Final = "freefloat.ledger.broken"
"""An entry that does not name the one before it; the ledger waits for people."""

REPLACED_TYPE: Final = "freefloat.ledger.replaced"
"""A car began another ledger: what the old one held and had not sent is lost."""

ONLINE_TYPE: Final = "freefloat.vehicle.online"
"""A car said hello, or was heard again after a silence."""

OFFLINE_TYPE: Final = "freefloat.vehicle.offline"
"""A car's link broke, it stopped, or nothing was heard of it for three minutes."""

ALERT_TYPE: Final = "freefloat.vehicle.alert"
"""Something about a car that somebody should look at began or ended."""

TO_CLOSE_TYPE: Final = "freefloat.rental.to_close"
"""A rental was open in a ledger that is lost: nobody but a person can end it."""

FOREIGN_TYPE: Final = "freefloat.command.foreign_result"
"""A signed result for other bytes than were signed under that id."""

COMPOUND_TYPE: Final = "freefloat.command.compound_ended"
"""A compound order's end, which its parts gave it."""

OLD_KEY_TYPE: Final = "freefloat.key.old_used"
"""A frame is signed by a key that its vehicle has given up."""

CONTRADICTED_TYPE: Final = "freefloat.place.contradicted"
"""A place that does not fit the commitment of its entry; it is not kept."""

GAP_TYPE: Final = "freefloat.ledger.gap"
GAP_ACCEPTED_TYPE: Final = "freefloat.ledger.gap_accepted"
"""Entries have been missing for too long."""

APPROVAL_TYPE: Final = "freefloat.approval.changed"
"""An order began to wait for a second person, or was decided."""


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """One event on its way to the sinks."""

    event_id: str
    """UUID text; unique in the outbox."""
    vehicle_id: VehicleId
    """Orders it: in order within one vehicle."""
    type: str
    """CloudEvents type."""
    body: bytes
    """The CloudEvent in JSON; every delivery sends exactly these bytes."""


def from_entry(
    entry: VerifiedEntry,
    *,
    fleet_id: bytes,
    observed_ms: int | None,
    received_ms: int,
    is_reread: bool = False,
) -> OutboxEvent:
    """Return the event that tells of a ledger entry.

    Args:
        entry: verified, and next in its ledger.
        fleet_id: names the source.
        observed_ms: when it happened, UTC ms as well as the bridge knows.
        received_ms: when the bridge received it, UTC ms.
        is_reread: whether it was told as refused before: it needs an id of its own,
            because consumers drop what they have.
    """
    header, link = entry.frame.header, entry.link
    raw_id = event_id(header.vehicle_id.raw, link.ledger_id, header.seq)
    if is_reread:
        raw_id = _as_uuid8(hashlib.sha256(b"ff-reread-v1\0" + raw_id).digest())
    data: dict[str, Json] = {
        "vehicle_id": str(header.vehicle_id),
        **data_of(entry.body),
        "car_time": rfc3339(header.wall_ms),
        "clock_quality": link.clock_quality.name.lower(),
        "received": rfc3339(received_ms),
        "evidence": evidence_of(entry.frame, link.ledger_id, header.seq),
    }
    if entry.body is None:
        data["type_code"] = header.type
        data["schema"] = header.schema
        data["fault"] = None if entry.fault is None else entry.fault.name.lower()
    return _event(
        raw_id,
        header.vehicle_id,
        type_of(entry),
        data,
        fleet_id=fleet_id,
        time_ms=observed_ms,
        sequence=header.seq,
        ledger_id=link.ledger_id,
    )


def alarm(
    event_type: str,
    vehicle_id: VehicleId,
    *,
    ledger_id: bytes,
    seq: int,
    detail: str,
    evidence: bytes,
    fleet_id: bytes,
    now: int,
) -> OutboxEvent:
    """Return an alarm about a ledger; the same fact gives the same id."""
    place = vehicle_id.raw + ledger_id + seq.to_bytes(8, "big") + evidence
    digest = hashlib.sha256(b"ff-alarm-v1\0" + event_type.encode() + b"\0" + place)
    data: dict[str, Json] = {
        "vehicle_id": str(vehicle_id),
        "ledger_id": ledger_id.hex(),
        "seq": seq,
        "detail": detail,
        "frame": base64.b64encode(evidence).decode() if evidence else None,
    }
    return _event(
        _as_uuid8(digest.digest()),
        vehicle_id,
        event_type,
        data,
        fleet_id=fleet_id,
        time_ms=now,
        sequence=seq,
        ledger_id=ledger_id,
    )


def presence(
    vehicle_id: VehicleId, vehicle: VehicleState, *, fleet_id: bytes, now: int
) -> OutboxEvent:
    """Return the event that tells that a car came or went.

    Its link is no ledger entry: `sequence` is 0, and each change has an id of its own.
    """
    known, state = vehicle.presence, vehicle.presence.state(now=now)
    kind = ONLINE_TYPE if state is LinkState.ONLINE else OFFLINE_TYPE
    data: dict[str, Json] = {
        "vehicle_id": str(vehicle_id),
        "link": state.value,
        "since": rfc3339(known.since_ms(now=now)),
        "last_seen": rfc3339(known.heard_ms or None),
        "session_id": vehicle.session_id.hex(),
    }
    return _change(vehicle_id, vehicle, kind, data, fleet_id=fleet_id, now=now)


def alert(
    vehicle_id: VehicleId,
    vehicle: VehicleState,
    name: str,
    detail: str,
    *,
    fleet_id: bytes,
    now: int,
) -> OutboxEvent:
    """Return the event that tells that an alert of a car began or ended."""
    data: dict[str, Json] = {
        "vehicle_id": str(vehicle_id),
        "alert": name,
        "is_raised": bool(detail),
        "detail": detail or None,
        "session_id": vehicle.session_id.hex(),
    }
    return _change(vehicle_id, vehicle, ALERT_TYPE, data, fleet_id=fleet_id, now=now)


def to_close(
    vehicle_id: VehicleId,
    rental_id: bytes,
    ledger_id: bytes,
    *,
    fleet_id: bytes,
    now: int,
) -> OutboxEvent:
    """Return the event that tells that a rental must be closed by hand; once each."""
    digest = hashlib.sha256(b"ff-to-close-v1\0" + vehicle_id.raw + rental_id)
    data: dict[str, Json] = {
        "vehicle_id": str(vehicle_id),
        "rental_id": rental_id.hex(),
        "lost_ledger_id": ledger_id.hex(),
    }
    return _event(
        _as_uuid8(digest.digest()),
        vehicle_id,
        TO_CLOSE_TYPE,
        data,
        fleet_id=fleet_id,
        time_ms=now,
        sequence=0,
        ledger_id=ledger_id,
    )


def approval(found: Approval, *, fleet_id: bytes, now: int) -> OutboxEvent:
    """Return the event that tells how far an approval is; once for each state.

    It is an event of its first vehicle, for events are in order within one.
    """
    wanted = found.wanted
    what = found.approval_id + found.state.encode()
    data: dict[str, Json] = {
        "approval_id": found.approval_id.hex(),
        "state": found.state.value,
        "cause": found.cause.value,
        "kind": wanted.kind,
        "vehicle_ids": [str(vehicle_id) for vehicle_id in wanted.vehicle_ids],
        "asked_by": found.asked_by,
        "decided_by": found.decided_by,
        "expires": rfc3339(found.expires_ms),
    }
    return _event(
        _as_uuid8(hashlib.sha256(b"ff-approval-v1\0" + what).digest()),
        wanted.vehicle_ids[0],
        APPROVAL_TYPE,
        data,
        fleet_id=fleet_id,
        time_ms=now,
        sequence=0,
        ledger_id=bytes(8),
    )


def compound_ended(
    compound: CommandRecord,
    parts: Mapping[bytes, CommandRecord],
    *,
    fleet_id: bytes,
    now: int,
) -> OutboxEvent:
    """Return the event that tells how a compound ended; once each.

    The proofs are in the events of the parts' own results.
    """
    digest = hashlib.sha256(b"ff-compound-v1\0" + compound.command_id)
    data: dict[str, Json] = {
        "vehicle_id": str(compound.vehicle_id),
        "command_id": compound.command_id.hex(),
        "kind": compound.kind,
        "rental_id": compound.rental_id.hex(),
        "state": compound.state.value,
        "code": _value(compound.code),
        "executed": _value(compound.executed),
        "parts": [
            {
                "command_id": part.command_id.hex(),
                "kind": KINDS[Opcode(part.opcode)],
                "state": None if known is None else known.state.value,
                "code": None if known is None else _value(known.code),
            }
            for part in compound.parts
            for known in [parts.get(part.command_id)]
        ],
    }
    return _event(
        _as_uuid8(digest.digest()),
        compound.vehicle_id,
        COMPOUND_TYPE,
        data,
        fleet_id=fleet_id,
        time_ms=now,
        sequence=0,
        ledger_id=compound.ledger_id,
    )


def _change(
    vehicle_id: VehicleId,
    vehicle: VehicleState,
    kind: str,
    data: Mapping[str, Json],
    *,
    fleet_id: bytes,
    now: int,
) -> OutboxEvent:
    """Return an event about the car itself, which no ledger orders.

    Its id holds the time: a car may come and go again.
    """
    what = msgspec.json.encode(data) + vehicle.ledger_id
    digest = hashlib.sha256(
        b"ff-change-v1\0" + kind.encode() + b"\0" + what + now.to_bytes(8, "big")
    )
    return _event(
        _as_uuid8(digest.digest()),
        vehicle_id,
        kind,
        data,
        fleet_id=fleet_id,
        time_ms=now,
        sequence=0,
        ledger_id=vehicle.ledger_id,
    )


def type_of(entry: VerifiedEntry) -> str:
    """Return the CloudEvents type of an entry."""
    if entry.refused is not None:
        return REFUSED_TYPE
    if isinstance(entry.body, Result):
        return RESULT_TYPE
    if entry.body is None:
        return UNKNOWN_TYPE
    return TYPES[EventType(entry.frame.header.type)]


def data_of(body: EventBody | Result | None) -> dict[str, Json]:
    """Return what an entry says, readable; empty for one that is not understood."""
    if body is None:
        return {}
    data = _read(body)
    if isinstance(body, RentalEnded):
        data["started"] = rfc3339(body.started_wall_ms)
        data["ended"] = rfc3339(body.ended_wall_ms)
    return data


def evidence_of(frame: Frame, ledger_id: bytes, seq: int) -> dict[str, Json]:
    """Return the proof of an entry: its place, its signed bytes, its receipt."""
    return {
        "ledger_id": ledger_id.hex(),
        "seq": seq,
        "key_id": frame.header.key_id.hex(),
        "frame": base64.b64encode(frame.data).decode(),
        # An event exists only in the transaction that makes its entry durable, and the
        # receipt is signed right behind it.
        "receipt": "due",
    }


def _read(record: EventBody | Result | Snapshot) -> dict[str, Json]:
    return {name: _value(getattr(record, name)) for name in _FIELDS[type(record)]}


_FIELDS: Final = {
    kind: tuple(field.name for field in fields(kind))
    for kind in (*TYPE_OF, Result, Snapshot)
}
"""The names of what each of them says."""


_AS_IT_IS: Final = frozenset({bool, int, float, str, type(None)})


def _value(value: object) -> Json:
    if type(value) in _AS_IT_IS:
        return value  # type: ignore[return-value] # one of those
    match value:
        case Bits():
            return dict(values_of_bits(value))
        case IntEnum():
            return value.name.lower()
        case bytes():
            return value.hex()
        case tuple():
            return [_value(item) for item in value]
        case Snapshot():
            return _read(value)
        case _:
            raise TypeError(f"no JSON for {type(value).__name__}")


def _as_uuid8(digest: bytes) -> bytes:
    raw = bytearray(digest[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def _event(
    raw_id: bytes,
    vehicle_id: VehicleId,
    event_type: str,
    data: Mapping[str, Json],
    *,
    fleet_id: bytes,
    time_ms: int | None,
    sequence: int,
    ledger_id: bytes,
) -> OutboxEvent:
    name, raw = str(vehicle_id), raw_id.hex()
    identity = f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": identity,
        "source": f"urn:freefloat:fleet:{fleet_id.hex()}",
        "type": event_type,
        "subject": name,
        "time": rfc3339(time_ms),
        "datacontenttype": "application/json",
        # Extensions: https://github.com/cloudevents/spec/blob/main/cloudevents/
        # extensions/{sequence,partitioning}.md; the ledger tells sequences apart.
        "sequence": f"{sequence:020}",
        "partitionkey": name,
        "ledger": ledger_id.hex(),
        "data": data,
    }
    if event["time"] is None:
        del event["time"]
    return OutboxEvent(identity, vehicle_id, event_type, msgspec.json.encode(event))
