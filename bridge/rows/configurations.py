"""Rows of the configurations that are wanted of cars."""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum, unique
from typing import Any

from sqlalchemy import Connection, Row, select, update

from bridge import schema
from bridge.rows.statements import upsert
from bridge.workspace import Workspace
from protocol.codes import ConfigKind
from protocol.identity import VehicleId

_TABLE = schema.configurations


@unique
class ConfigState(StrEnum):
    """How far a wanted configuration is."""

    WANTED = "wanted"
    """The car has not said that it acts by it."""
    ACTIVE = "active"
    """The car signed that it acts by it."""
    REFUSED = "refused"
    """The car signed that it does not take it; put another one."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is wanted of one car, for one kind."""

    vehicle_id: VehicleId
    """Which car."""
    kind: ConfigKind
    """What it is about."""
    version: int
    """Rises with each body."""
    sha256: bytes
    """32 bytes: of the body."""
    body: bytes
    """The whole."""
    state: ConfigState
    """How far it is."""
    code: int | None
    """Why the car refused it."""
    changed_ms: int
    """UTC ms of the last change."""
    approval_id: bytes = b""
    """The approval that let it go last; empty for none."""


def put_configuration(
    connection: Connection,
    vehicle_id: VehicleId,
    kind: ConfigKind,
    body: bytes,
    *,
    at_least: int,
    now: int,
    approval_id: bytes = b"",
) -> Configuration:
    """Want a body of a car; the same body as before changes but its approval.

    Args:
        connection: inside a transaction.
        vehicle_id: which car.
        kind: what it is about.
        body: the whole, within the protocol's bounds.
        at_least: the lowest version that is new to the car.
        now: UTC ms.
        approval_id: what lets it go; empty for nothing.
    """
    digest = hashlib.sha256(body).digest()
    known = find_configuration(connection, vehicle_id, kind)
    if (
        known is not None
        and known.sha256 == digest
        and known.version >= at_least - 1
        and known.state is not ConfigState.REFUSED
    ):
        return _approved(connection, known, approval_id)
    version = max(at_least, 1 if known is None else known.version + 1)
    connection.execute(
        upsert(connection, _TABLE).values(
            vehicle_id=str(vehicle_id),
            kind=int(kind),
            version=version,
            sha256=digest,
            body=body,
            state=ConfigState.WANTED.value,
            code=None,
            changed_ms=now,
            approval_id=approval_id or None,
        )
    )
    return Configuration(
        vehicle_id,
        kind,
        version,
        digest,
        body,
        ConfigState.WANTED,
        None,
        now,
        approval_id,
    )


def _approved(
    connection: Connection, known: Configuration, approval_id: bytes
) -> Configuration:
    """Let a newer approval stand for what is wanted already."""
    if not approval_id or approval_id == known.approval_id:
        return known
    connection.execute(
        update(_TABLE)
        .where(
            _TABLE.c.vehicle_id == str(known.vehicle_id),
            _TABLE.c.kind == int(known.kind),
        )
        .values(approval_id=approval_id)
    )
    return replace(known, approval_id=approval_id)


def find_configuration(
    connection: Connection, vehicle_id: VehicleId, kind: ConfigKind
) -> Configuration | None:
    """Return what is wanted of a car for one kind, or None."""
    query = select(_TABLE).where(
        _TABLE.c.vehicle_id == str(vehicle_id), _TABLE.c.kind == int(kind)
    )
    row = connection.execute(query).one_or_none()
    return None if row is None else _configuration(row)


def find_configurations(
    connection: Connection, vehicle_id: VehicleId, state: ConfigState | None = None
) -> list[Configuration]:
    """Return what is wanted of a car, by kind; only what is in `state` if given."""
    query = (
        select(_TABLE)
        .where(_TABLE.c.vehicle_id == str(vehicle_id))
        .order_by(_TABLE.c.kind)
    )
    if state is not None:
        query = query.where(_TABLE.c.state == state.value)
    return [_configuration(row) for row in connection.execute(query)]


def settle_configurations(
    connection: Connection, space: Workspace, *, now: int
) -> None:
    """Note what cars signed about versions; a newer wanted one is not touched.

    A car that lost its ledger lost its bodies with it, as both lie on one disk: those
    that it does not name any more are wanted again.
    """
    said = list(space.configured)
    for vehicle_id in space.greeted:
        state = space.vehicles.get(vehicle_id)
        if state is not None:
            said += [(vehicle_id, *config, None) for config in state.configs]
    for vehicle_id, kind, version, code in said:
        found = ConfigState.ACTIVE if code is None else ConfigState.REFUSED
        connection.execute(
            update(_TABLE)
            .where(
                _TABLE.c.vehicle_id == str(vehicle_id),
                _TABLE.c.kind == kind,
                _TABLE.c.version == version,
                _TABLE.c.state != found.value,
            )
            .values(state=found.value, code=code, changed_ms=now)
        )
    for vehicle_id in space.replaced:
        state = space.vehicles.get(vehicle_id)
        for known in find_configurations(connection, vehicle_id, ConfigState.ACTIVE):
            if state is not None and known.version > state.config_version(known.kind):
                connection.execute(
                    update(_TABLE)
                    .where(
                        _TABLE.c.vehicle_id == str(vehicle_id),
                        _TABLE.c.kind == int(known.kind),
                    )
                    .values(state=ConfigState.WANTED.value, changed_ms=now)
                )


def _configuration(row: Row[Any]) -> Configuration:
    return Configuration(
        VehicleId.from_text(row.vehicle_id),
        ConfigKind(row.kind),
        row.version,
        row.sha256,
        row.body,
        ConfigState(row.state),
        row.code,
        row.changed_ms,
        row.approval_id or b"",
    )
