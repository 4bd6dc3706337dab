"""Rows of vehicles, and of cars that fell silent."""

from collections.abc import Iterable, Mapping

import msgspec
from sqlalchemy import Connection, select

from bridge import cloud_event, schema
from bridge.presence import SILENCE_MS
from bridge.rows.locks import lock_vehicles
from bridge.rows.outbox import write_outbox
from bridge.rows.statements import chunks, upsert
from bridge.rows.steps import write_steps
from bridge.vehicle import VehicleState
from bridge.workspace import StepRow, rows_of, stand
from protocol.identity import VehicleId

_TABLE = schema.vehicles


def load_vehicles(
    connection: Connection, vehicle_ids: Iterable[VehicleId]
) -> dict[VehicleId, VehicleState]:
    """Return what is known of these vehicles; unknown ones are missing."""
    found = {}
    for chunk in chunks(str(vehicle_id) for vehicle_id in vehicle_ids):
        query = select(_TABLE).where(_TABLE.c.vehicle_id.in_(chunk))
        for row in connection.execute(query):
            state = msgspec.json.decode(row.state, type=VehicleState)
            found[VehicleId.from_text(row.vehicle_id)] = state
    return found


def write_vehicles(
    connection: Connection, states: Mapping[VehicleId, VehicleState]
) -> None:
    """Write vehicles over what was known of them."""
    rows = [
        {
            "vehicle_id": str(vehicle_id),
            "state": msgspec.json.encode(state),
            "heard_ms": state.presence.heard_ms,
            "is_told_online": state.presence.is_told_online,
        }
        for vehicle_id, state in states.items()
    ]
    if rows:
        connection.execute(upsert(connection, _TABLE), rows)


def online_vehicles(connection: Connection) -> list[VehicleId]:
    """Return the cars that consumers were told are online."""
    query = select(_TABLE.c.vehicle_id).where(_TABLE.c.is_told_online)
    names = connection.execute(query).scalars()
    return [VehicleId.from_text(name) for name in names]


def tell_silence(connection: Connection, fleet_id: bytes, now: int) -> bool:
    """Tell consumers of cars that fell silent; once each. Return whether any did."""
    is_silent = _TABLE.c.is_told_online & (_TABLE.c.heard_ms < now - SILENCE_MS)
    query = select(_TABLE.c.vehicle_id).where(is_silent)
    silent = connection.execute(query).scalars().all()
    lock_vehicles(connection, (VehicleId.from_text(name) for name in silent))
    # Another bridge may have heard of one, or told of it, before we had the lock.
    still = query.where(_TABLE.c.vehicle_id.in_(silent))
    names = connection.execute(still).scalars().all()
    states = load_vehicles(connection, (VehicleId.from_text(name) for name in names))
    events = [
        cloud_event.presence(vehicle_id, state, fleet_id=fleet_id, now=now)
        for vehicle_id, state in states.items()
    ]
    write_outbox(connection, events, now=now)
    changed: dict[VehicleId, VehicleState] = {}
    steps: list[StepRow] = []
    for vehicle_id, state in states.items():
        after, rows = rows_of(vehicle_id, state, stand(state, now=now))
        steps += rows
        presence = after.presence.told(is_online=False)
        changed[vehicle_id] = msgspec.structs.replace(after, presence=presence)
    write_vehicles(connection, changed)
    write_steps(connection, steps, now=now)
    return bool(events)
