"""Routes that keep cars in step: trust, configurations, entries sent again."""

from collections import Counter
from http import HTTPStatus
from typing import Annotated, Final, Protocol

from fastapi import Body, FastAPI, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bridge.api.documents import Document, of_configuration
from bridge.api.permits import principal_in
from bridge.api.problems import ProblemError
from bridge.api.registered import Registered, VehicleText
from bridge.approval_desk import ApprovalDesk
from bridge.approvals import WantedBody
from bridge.instants import rfc3339
from bridge.ports import WallClock
from bridge.registry import RegistryDirectory
from bridge.signer import HeldTrust
from bridge.store import Store
from bridge.vehicle import VehicleState
from protocol.codes import ConfigKind
from protocol.identity import VehicleId
from protocol.sync import CONFIG_LIMIT

LAGGARDS_LIMIT: Final = 1_000
"""Cars on one page; the counts are of all."""

LARGEST_SEQ: Final = 2**63 - 1

Kind = Annotated[
    str, Path(pattern="^(" + "|".join(k.name.lower() for k in ConfigKind) + ")$")
]


class Upkeep(Protocol):
    """Who looks after the cars."""

    def wanted(self, vehicle_ids: list[VehicleId]) -> None:
        """Look after these cars soon."""

    async def resend(
        self, vehicle_id: VehicleId, first: int, last: int, ledger_id: bytes | None
    ) -> bytes:
        """Ask a car for entries again; return the ledger's id."""


class ResendBody(BaseModel):
    """Which entries are wanted again."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    first: Annotated[int, Field(strict=True, ge=1, le=LARGEST_SEQ)]
    last: Annotated[int, Field(strict=True, ge=1, le=LARGEST_SEQ)]
    ledger_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> "ResendBody":
        if self.first > self.last:
            raise ValueError("first must not be above last")
        return self


def add_upkeep(
    app: FastAPI,
    *,
    store: Store,
    registry: RegistryDirectory,
    trust: HeldTrust,
    upkeep: Upkeep,
    desk: ApprovalDesk,
    now: WallClock,
) -> None:
    """Add the routes to the application."""
    registered = Registered(registry)
    _add_trust(app, store, registry, trust)
    _add_configurations(app, store, registered, upkeep=upkeep, desk=desk, now=now)

    @app.post("/v1/vehicles/{vehicle_id}/resend")
    async def post_resend(
        vehicle_id: VehicleText, body: Annotated[ResendBody, Body()]
    ) -> Document:
        """Ask a vehicle for ledger entries again; those it still holds come."""
        vehicle = registered(vehicle_id)
        ledger = None if body.ledger_id is None else bytes.fromhex(body.ledger_id)
        asked = await upkeep.resend(vehicle, body.first, body.last, ledger)
        return {
            "vehicle_id": str(vehicle),
            "ledger_id": asked.hex(),
            "first": body.first,
            "last": body.last,
            "sent": rfc3339(now()),
        }


def _add_trust(
    app: FastAPI, store: Store, registry: RegistryDirectory, trust: HeldTrust
) -> None:
    @app.get("/v1/trust")
    async def get_trust(
        limit: Annotated[int, Query(ge=1, le=LAGGARDS_LIMIT)] = LAGGARDS_LIMIT,
        after: Annotated[str | None, Query(pattern=r"^[A-Z2-7]{26}$")] = None,
    ) -> Document:
        """Return the newest trust bundle and which vehicles have not got it."""
        newest = trust().newest
        names = list(registry.current)
        states = await store.vehicles(names)
        versions = {
            name: states.get(name, VehicleState()).bundle_version for name in names
        }
        lagging = [
            name
            for name in names
            if versions[name] < newest.version and (after is None or str(name) > after)
        ]
        return {
            "version": newest.version,
            "issued": rfc3339(newest.issued_ms),
            "expires": rfc3339(newest.expires_ms),
            "revoked": [key_id.hex() for key_id in newest.revoked],
            "vehicles_by_version": {
                str(version): count
                for version, count in sorted(Counter(versions.values()).items())
            },
            "laggards": [
                {"vehicle_id": str(name), "version": versions[name]}
                for name in lagging[:limit]
            ],
            "next": str(lagging[limit - 1]) if len(lagging) > limit else None,
        }


def _add_configurations(
    app: FastAPI,
    store: Store,
    registered: Registered,
    *,
    upkeep: Upkeep,
    desk: ApprovalDesk,
    now: WallClock,
) -> None:
    @app.get("/v1/vehicles/{vehicle_id}/configurations")
    async def list_configurations(vehicle_id: VehicleText) -> Document:
        """Return what is wanted of a vehicle, and what it acts by."""
        vehicle = registered(vehicle_id)
        state = await store.vehicle(vehicle) or VehicleState()
        return {
            "configurations": [
                of_configuration(wanted, state)
                for wanted in await store.configurations(vehicle)
            ]
        }

    @app.put("/v1/vehicles/{vehicle_id}/configurations/{kind}")
    async def put_configuration(
        vehicle_id: VehicleText, kind: Kind, request: Request
    ) -> Document:
        """Want a body of a vehicle; it is brought to it as soon as it is there."""
        vehicle = registered(vehicle_id)
        body = await request.body()
        if not 1 <= len(body) <= CONFIG_LIMIT:
            problem = f"a configuration has 1 to {CONFIG_LIMIT} bytes, not {len(body)}"
            raise ProblemError(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "bad-configuration",
                problem,
                errors=[{"field": "body", "in": "body", "problem": problem}],
            )
        asked = WantedBody(ConfigKind[kind.upper()], body)
        caller, audit_row = principal_in(request.scope), request.scope["audit_row"]
        await desk.admit_configuration(caller.name, vehicle, asked, audit_row=audit_row)
        # Read first: a store that is lost after the write must not hide that.
        state = await store.vehicle(vehicle) or VehicleState()
        wanted = await store.put_configuration(vehicle, asked.kind, body, now=now())
        upkeep.wanted([vehicle])
        return of_configuration(wanted, state)
