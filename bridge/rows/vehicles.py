"""Rows of vehicles, and of cars that fell silent."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from sqlalchemy import Connection, Select, and_, func, select

from bridge import cloud_event, schema
from bridge.ingest import VerifiedTelemetry, read
from bridge.instant import Instant
from bridge.kept_vehicles import kept_in
from bridge.presence import SILENCE_MS
from bridge.rows.locks import lock_vehicles
from bridge.rows.outbox import write_outbox
from bridge.rows.statements import chunks, upsert_many
from bridge.rows.steps import write_steps
from bridge.rows.telemetry import StoredSamples, told_since
from bridge.sampling import Told, sampled_again
from bridge.vehicle import VehicleState
from bridge.workspace import StepRow, rows_of, stand
from protocol.identity import VehicleId
from protocol.packed.frame import parse_frame

BEHIND_MS: Final = SILENCE_MS + 60_000
"""For how long a state is left unwritten at most (`tell_silence`), with a minute to
spare for a bridge that was slow, or a clock that was put right."""

_TABLE = schema.vehicles
_NEWEST_SAMPLE = select(func.max(schema.telemetry.c.received_ms))


def load_vehicles(
    connection: Connection, vehicle_ids: Iterable[VehicleId]
) -> dict[VehicleId, VehicleState]:
    """Return what is known of these vehicles; unknown ones are missing."""
    kept = kept_in(connection)
    found: dict[VehicleId, VehicleState] = {}
    missing: list[str] = []
    for vehicle_id in vehicle_ids:
        state = None if kept is None else kept.get(vehicle_id)
        if state is None:
            missing.append(str(vehicle_id))
        else:
            found[vehicle_id] = state
    for chunk in chunks(missing):
        query = select(_TABLE.c.vehicle_id, _TABLE.c.state).where(
            _TABLE.c.vehicle_id.in_(chunk)
        )
        for row in connection.execute(query):
            state = msgspec.json.decode(row.state, type=VehicleState)
            found[VehicleId.from_text(row.vehicle_id)] = state
    return found


def catch_up(connection: Connection) -> int:
    """Fold telemetry into states that were written before it came; return how many.

    For a store whose states were kept in memory by a bridge that did not stop in order.
    A second for 100,000 frames, of which there are as many as came in `BEHIND_MS`.

    Args:
        connection: inside a transaction that may write.
    """
    newest = connection.execute(_NEWEST_SAMPLE).scalar_one_or_none()
    if newest is None:
        return 0
    # Consumers were told of whatever was left unwritten (`KeptVehicles.may_wait`).
    before = load_vehicles(connection, online_vehicles(connection))
    after = dict(before)
    for one in told_since(connection, newest - BEHIND_MS):
        written = before.get(one.vehicle_id)
        if written is not None and one.received_ms >= written.presence.heard_ms:
            after[one.vehicle_id] = _folded(after[one.vehicle_id], one)
    behind = {one: state for one, state in after.items() if state != before[one]}
    write_vehicles(connection, behind)
    return len(behind)


def _folded(state: VehicleState, told: StoredSamples) -> VehicleState:
    frame = parse_frame(told.data)
    record = read(frame)
    if not isinstance(record, VerifiedTelemetry):
        return state
    at = Instant.written(told.received_ms)
    return sampled_again(state, Told.by(frame.header, record.telemetry, at=at))


def write_kept(connection: Connection) -> int:
    """Write every state that is kept and not written; return how many."""
    kept = kept_in(connection)
    states = {} if kept is None else kept.unwritten()
    write_vehicles(connection, states)
    return len(states)


def write_vehicles(
    connection: Connection, states: Mapping[VehicleId, VehicleState]
) -> None:
    """Write vehicles over what was known of them.

    Args:
        connection: inside a transaction.
        states: as they are now.
    """
    kept = kept_in(connection)
    if kept is not None:
        kept.stage(states)
    rows = [
        (
            str(vehicle_id),
            msgspec.json.encode(state),
            state.presence.heard_ms,
            state.presence.is_told_online,
        )
        for vehicle_id, state in states.items()
    ]
    if rows:
        upsert_many(connection, _TABLE, rows)


def online_vehicles(connection: Connection) -> list[VehicleId]:
    """Return the cars that consumers were told are online."""
    query = select(_TABLE.c.vehicle_id).where(schema.IS_TOLD_ONLINE)
    names = connection.execute(query).scalars()
    return [VehicleId.from_text(name) for name in names]


def silent_vehicles(now: int) -> Select[str]:
    """Return what finds the cars that were not written as heard of for a while."""
    is_silent = and_(schema.IS_TOLD_ONLINE, _TABLE.c.heard_ms < now - SILENCE_MS)
    return select(_TABLE.c.vehicle_id).where(is_silent)


def tell_silence(connection: Connection, fleet_id: bytes, now: int) -> bool:
    """Tell consumers of cars that fell silent; once each. Return whether any did."""
    query = silent_vehicles(now)
    silent = connection.execute(query).scalars().all()
    if not silent:
        return False
    lock_vehicles(connection, (VehicleId.from_text(name) for name in silent))
    # Another bridge may have heard of one, or told of it, before we had the lock.
    still = query.where(_TABLE.c.vehicle_id.in_(silent))
    names = connection.execute(still).scalars().all()
    loaded = load_vehicles(connection, (VehicleId.from_text(name) for name in names))
    states = {
        vehicle_id: state
        for vehicle_id, state in loaded.items()
        if not state.is_online(now=now)
    }
    # Heard of since they were written: they are looked at again in `SILENCE_MS`.
    changed = {one: loaded[one] for one in loaded.keys() - states.keys()}
    events = [
        cloud_event.presence(vehicle_id, state, fleet_id=fleet_id, now=now)
        for vehicle_id, state in states.items()
    ]
    write_outbox(connection, events, now=now)
    steps: list[StepRow] = []
    for vehicle_id, state in states.items():
        after, rows = rows_of(vehicle_id, state, stand(state, now=now))
        steps += rows
        presence = after.presence.told(is_online=False)
        changed[vehicle_id] = msgspec.structs.replace(after, presence=presence)
    write_vehicles(connection, changed)
    write_steps(connection, steps, now=now)
    return bool(events)
