"""Routes of missing ledger entries: which there are, and going on without them."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Body, FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from bridge.api.approvals import Note, VehicleName, of_approval, path_of
from bridge.api.documents import Document
from bridge.api.permits import principal_in
from bridge.api.problems import ProblemError
from bridge.api.registered import Registered
from bridge.approval_desk import ApprovalDesk
from bridge.approvals import VEHICLES_LIMIT, MissingEntries
from bridge.errors import GapError
from bridge.gap_acceptance import KnownGap, find_gaps
from bridge.instants import rfc3339
from bridge.ports import WallClock
from bridge.registry import RegistryDirectory
from bridge.store import Store

Seq = Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class GapBody(_Body):
    """Missing entries of one ledger, as they are listed."""

    vehicle_id: VehicleName
    ledger_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    first: Seq
    last: Seq

    @model_validator(mode="after")
    def _is_a_range(self) -> "GapBody":
        if self.first > self.last:
            raise ValueError("first must not be above last")
        return self


class AcceptBody(_Body):
    """What is to be given up, and why."""

    gaps: Annotated[tuple[GapBody, ...], Field(min_length=1, max_length=VEHICLES_LIMIT)]
    reason: Annotated[Note, Field(min_length=1)]

    @model_validator(mode="after")
    def _names_each_vehicle_once(self) -> "AcceptBody":
        if len({gap.vehicle_id for gap in self.gaps}) < len(self.gaps):
            raise ValueError("gaps must name each vehicle once")
        return self


def add_gaps(
    app: FastAPI,
    *,
    store: Store,
    registry: RegistryDirectory,
    desk: ApprovalDesk,
    now: WallClock,
) -> None:
    """Add the routes to the application."""
    registered = Registered(registry)

    @app.get("/v1/gaps")
    async def list_gaps() -> Document:
        """List the oldest gap of each ledger that waits, the longest open ones first.

        A thousand at most; `count` says how many ledgers wait.
        """
        found, count = await store.read(lambda c: find_gaps(c, now=now()))
        return {"gaps": [_of_gap(gap) for gap in found], "count": count}

    @app.post("/v1/gaps/accept", status_code=int(HTTPStatus.CREATED))
    async def accept_gaps(
        request: Request, response: Response, body: Annotated[AcceptBody, Body()]
    ) -> Document:
        """Ask a second person to let ledgers go on without entries that are lost."""
        gaps = [
            MissingEntries(
                registered(gap.vehicle_id, field=f"gaps.{place}.vehicle_id"),
                bytes.fromhex(gap.ledger_id),
                gap.first,
                gap.last,
            )
            for place, gap in enumerate(body.gaps)
        ]
        try:
            kept = await desk.ask_gaps(
                principal_in(request.scope).name,
                gaps,
                note=body.reason,
                audit_row=request.scope.get("audit_row", 0),
            )
        except GapError as error:
            raise ProblemError(
                HTTPStatus.CONFLICT, "gap-not-lost", f"nothing was accepted: {error}"
            ) from error
        response.headers["Location"] = path_of(kept)
        return of_approval(kept)


def _of_gap(gap: KnownGap) -> Document:
    missing = gap.missing
    return {
        "vehicle_id": str(missing.vehicle_id),
        "ledger_id": missing.ledger_id.hex(),
        "first": missing.first,
        "last": missing.last,
        "since": rfc3339(gap.since_ms),
        "can_be_accepted": not gap.problem,
        "problem": gap.problem or None,
    }
