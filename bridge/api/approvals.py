"""Routes of orders that need a second person: asking, looking, deciding (K28)."""

import base64
from collections.abc import Sequence
from dataclasses import fields
from enum import IntEnum
from http import HTTPStatus
from typing import Annotated, Final, Literal

from fastapi import Body, FastAPI, Path, Query, Request, Response
from pydantic import (
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from bridge.api import forms
from bridge.api.bodies import CommandBody
from bridge.api.documents import Document
from bridge.api.permits import principal_in
from bridge.api.problems import ProblemError, respond
from bridge.api.registered import Registered
from bridge.approval_desk import ApprovalDesk
from bridge.approvals import (
    NOTE_LIMIT,
    VEHICLES_LIMIT,
    Approval,
    ApprovalImpossibleError,
    ApprovalNeededError,
    ApprovalState,
    ConsentNeededError,
    DecisionRefusedError,
    Wanted,
    WantedBody,
)
from bridge.consent import Consent, build_consent
from bridge.instants import rfc3339
from bridge.ports import RandomBytes
from bridge.registry import RegistryDirectory
from protocol.codes import ConfigKind
from protocol.command import ANY_VERSION, COMMAND_SCHEMA, parse_command
from protocol.identity import VehicleId
from protocol.snapshot import NO_RENTAL
from protocol.sync import CONFIG_LIMIT

PAGE_LIMIT: Final = 100
"""Approvals on one page."""

ApprovalId = Annotated[str, Path(pattern=forms.HEX_ID)]
# It is read at a terminal, by who decides: nothing in it may rewrite what stands there.
Note = Annotated[str, Field(max_length=NOTE_LIMIT, pattern=forms.PLAIN_TEXT)]
VehicleName = Annotated[str, Field(pattern=r"^[A-Z2-7]{25}[AEIMQUY4]$")]

_CAUSES: Final = {
    "immobilises": "it keeps a car from driving, outside the flow of a rental",
    "gives-up-entries": "it goes on behind entries that are missing",
    "many-vehicles": "it is for many vehicles at once",
    "many-by-caller": "this key reached as many vehicles as one may for a while",
    "many-in-all": "all keys together reached as many vehicles as they may for a while",
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ConfigurationBody(_Body):
    """A configuration, as `PUT .../configurations/{kind}` takes it."""

    kind: Literal["stations", "known_damage", "business_area", "grants", "policy"]
    body: Annotated[
        Base64Bytes,
        BeforeValidator(forms.require_base64),
        Field(min_length=1, max_length=-(-CONFIG_LIMIT // 3) * 4),
    ]

    def wanted(self) -> WantedBody:
        """Return it as it is kept."""
        return WantedBody(ConfigKind[self.kind.upper()], self.body)


class AskBody(_Body):
    """One order, or one configuration, for many vehicles."""

    vehicle_ids: Annotated[
        tuple[VehicleName, ...], Field(min_length=1, max_length=VEHICLES_LIMIT)
    ]
    order: CommandBody | None = None
    configuration: ConfigurationBody | None = None
    note: Note = ""
    defer_s: Annotated[int, Field(strict=True, ge=0, le=86_400)] = 0

    @model_validator(mode="after")
    def _wants_one_thing(self) -> "AskBody":
        if (self.order is None) is (self.configuration is None):
            raise ValueError("give either order or configuration")
        if self.configuration is not None and self.defer_s:
            raise ValueError("defer_s is of orders: a configuration waits by itself")
        return self


class DecisionBody(_Body):
    """What who decides says about it."""

    note: Note = ""


class SignatureBody(_Body):
    """What who approves signed with a key of their own."""

    decided_ms: Annotated[int, Field(strict=True, ge=0, le=2**53)]
    key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]


class ApprovalBody(DecisionBody):
    """An approval; signed, if the fleet's signer asks for that."""

    signature: SignatureBody | None = None


def add_approvals(
    app: FastAPI,
    desk: ApprovalDesk,
    registry: RegistryDirectory,
    random_bytes: RandomBytes,
) -> None:
    """Add the routes to the application."""
    registered = Registered(registry)
    app.add_exception_handler(ApprovalNeededError, _on_needed)
    app.add_exception_handler(ApprovalImpossibleError, _on_impossible)
    app.add_exception_handler(DecisionRefusedError, _on_decision_refused)
    app.add_exception_handler(ConsentNeededError, _on_consent_needed)

    @app.post("/v1/approvals", status_code=int(HTTPStatus.CREATED))
    async def ask(
        request: Request, response: Response, body: Annotated[AskBody, Body()]
    ) -> Document:
        """Ask a second person to let one order or configuration go to many vehicles."""
        vehicles = [
            registered(text, field=f"vehicle_ids.{place}")
            for place, text in enumerate(body.vehicle_ids)
        ]
        kept = await _ask(desk, request, vehicles, body, random_bytes)
        response.headers["Location"] = path_of(kept)
        return of_approval(kept)

    @app.get("/v1/approvals")
    async def list_approvals(
        state: ApprovalState | None = None,
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 50,
        before: Annotated[int, Query(ge=1, le=2**63 - 1)] = 2**63 - 1,
    ) -> Document:
        """List orders that wait for a second person or had one, the newest first."""
        found = await desk.list(state, before=before, limit=limit)
        return {
            "approvals": [of_approval(approval) for approval in found],
            "next": found[-1].row_id if len(found) == limit else None,
        }

    @app.get("/v1/approvals/{approval_id}")
    async def get_approval(approval_id: ApprovalId) -> Document:
        """Return how far an order is that needs a second person."""
        found = _known(await desk.find(bytes.fromhex(approval_id)))
        statement = base64.b64encode(desk.statement_of(found)).decode("ascii")
        return of_approval(found) | {"statement": statement or None}

    @app.post("/v1/approvals/{approval_id}/approve")
    async def approve(
        request: Request,
        approval_id: ApprovalId,
        body: Annotated[ApprovalBody | None, Body()] = None,
    ) -> Document:
        """Let an order go that somebody else gave."""
        return await decide(request, approval_id, body, is_approved=True)

    @app.post("/v1/approvals/{approval_id}/reject")
    async def reject(
        request: Request,
        approval_id: ApprovalId,
        body: Annotated[DecisionBody | None, Body()] = None,
    ) -> Document:
        """Stop an order that somebody else gave."""
        return await decide(request, approval_id, body, is_approved=False)

    async def consent_in(body: DecisionBody | None, approval_id: str) -> bytes:
        """Return what was signed; over what, the bridge and the signer look."""
        given = body.signature if isinstance(body, ApprovalBody) else None
        if given is None:
            return b""
        found = _known(await desk.find(bytes.fromhex(approval_id)))
        return _consent(desk.statement_of(found), given)

    async def decide(
        request: Request,
        approval_id: str,
        body: DecisionBody | None,
        *,
        is_approved: bool,
    ) -> Document:
        found = await desk.decide(
            bytes.fromhex(approval_id),
            by=principal_in(request.scope).name,
            is_approved=is_approved,
            reason="" if body is None else body.note,
            consent=await consent_in(body, approval_id),
            audit_row=request.scope.get("audit_row", 0),
        )
        return of_approval(_known(found))


async def _ask(
    desk: ApprovalDesk,
    request: Request,
    vehicle_ids: Sequence[VehicleId],
    body: AskBody,
    random_bytes: RandomBytes,
) -> Approval:
    caller = principal_in(request.scope).name
    audit_row = request.scope.get("audit_row", 0)
    if body.configuration is not None:
        wanted = body.configuration.wanted()
        return await desk.ask_configuration(
            caller, vehicle_ids, wanted, note=body.note, audit_row=audit_row
        )
    if body.order is None:
        raise TypeError("the body was checked to hold one of them")
    return await desk.ask(
        caller,
        vehicle_ids,
        body.order.to_order(random_bytes),
        note=body.note,
        defer_s=body.defer_s,
        audit_row=audit_row,
    )


def _consent(statement: bytes, given: SignatureBody) -> bytes:
    return build_consent(
        Consent(
            statement,
            given.decided_ms,
            bytes.fromhex(given.key_id),
            bytes.fromhex(given.signature),
        )
    )


def of_approval(approval: Approval) -> Document:
    """Return an approval with what is to be done and what became of it."""
    wanted = approval.wanted
    return {
        "id": approval.approval_id.hex(),
        "state": approval.state.value,
        "cause": approval.cause.value,
        "order": {"kind": wanted.kind, **_values(wanted)},
        "vehicle_ids": [str(vehicle_id) for vehicle_id in wanted.vehicle_ids],
        "asked_by": approval.asked_by,
        "asked": rfc3339(approval.asked_ms),
        "expires": rfc3339(approval.expires_ms),
        "note": approval.note,
        "decided_by": approval.decided_by,
        "decided": rfc3339(approval.decided_ms),
        "reason": approval.reason,
        "is_signed": bool(approval.consent),
        "is_carried_out": approval.is_carried_out,
        "outcomes": [
            {
                "vehicle_id": str(outcome.vehicle_id),
                "command_id": outcome.command_id.hex() or None,
                "problem": outcome.problem or None,
            }
            for outcome in approval.outcomes
        ],
    }


def _values(wanted: Wanted) -> Document:
    if wanted.configuration is not None:
        return {
            "configuration": wanted.configuration.kind.name.lower(),
            "length": len(wanted.configuration.body),
            "sha256": wanted.configuration.sha256.hex(),
        }
    if wanted.opcode is None:
        return {
            "gaps": [
                {
                    "vehicle_id": str(gap.vehicle_id),
                    "ledger_id": gap.ledger_id.hex(),
                    "first": gap.first,
                    "last": gap.last,
                }
                for gap in wanted.gaps
            ]
        }
    command = parse_command(wanted.opcode, COMMAND_SCHEMA, wanted.payload)
    values = {f.name: _value(getattr(command, f.name)) for f in fields(command)}
    rental_id = getattr(command, "rental_id", NO_RENTAL)
    if values.get("expected_version") == ANY_VERSION:
        values["expected_version"] = None
    return values | {"rental_id": None if rental_id == NO_RENTAL else rental_id.hex()}


def _value(value: object) -> object:
    if isinstance(value, IntEnum):
        return value.name.lower()
    return value.hex() if isinstance(value, bytes) else value


def _known(approval: Approval | None) -> Approval:
    if approval is None:
        raise ProblemError(
            HTTPStatus.NOT_FOUND, "unknown-approval", "no approval has this id"
        )
    return approval


def path_of(approval: Approval) -> str:
    """Return where an approval can be followed."""
    return f"/v1/approvals/{approval.approval_id.hex()}"


async def _on_needed(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ApprovalNeededError):
        raise error
    return respond(_problem_of(error.approval))


def _problem_of(found: Approval) -> ProblemError:
    name, path = found.approval_id.hex(), path_of(found)
    headers, members = {"Location": path}, {"approval": of_approval(found)}
    if found.state is ApprovalState.PENDING:
        return ProblemError(
            HTTPStatus.CONFLICT,
            "approval-required",
            f"nothing was sent: {_CAUSES[found.cause]}, so a second person must "
            f"approve it until {rfc3339(found.expires_ms)}; have somebody with the "
            f"role approver run 'freefloat bridge approvals approve {name}', then look "
            f"at {path} for the command",
            headers=headers,
            members=members,
        )
    if found.state is ApprovalState.REJECTED:
        return ProblemError(
            HTTPStatus.FORBIDDEN,
            "approval-rejected",
            f"nothing was sent: {found.decided_by} rejected it; talk to them before "
            "you order it again under another Idempotency-Key",
            headers=headers,
            members=members,
        )
    if found.is_under_way:
        return ProblemError(
            HTTPStatus.CONFLICT,
            "approval-under-way",
            f"{found.decided_by} approved it and it is given now; send the same "
            "request again to get the command",
            headers=headers | {"Retry-After": "1"},
            members=members,
        )
    is_expired = found.state is ApprovalState.EXPIRED
    was = "nobody approved it in time" if is_expired else "it could not be given then"
    return ProblemError(
        HTTPStatus.CONFLICT,
        "approval-over",
        f"nothing was sent: {was}; order it again under another Idempotency-Key if it "
        "is still wanted",
        headers=headers,
        members=members,
    )


async def _on_impossible(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ApprovalImpossibleError):
        raise error
    return respond(
        ProblemError(
            HTTPStatus.FORBIDDEN,
            "approval-impossible",
            f"nothing was sent: {_CAUSES[error.cause]}, so it needs a second person, "
            "and an order with PINs, cards or a span of time is never kept; use "
            "the fleet service's own key, which orders within rentals, or wait",
        )
    )


async def _on_consent_needed(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ConsentNeededError):
        raise error
    name = error.approval.approval_id.hex()
    return respond(
        ProblemError(
            HTTPStatus.FORBIDDEN,
            "approval-unsigned",
            f"nothing was decided: {error.why}, and this fleet's signer asks for the "
            f"approver's own signature; run 'freefloat bridge approvals approve {name} "
            "--sign-with KEY'",
        )
    )


async def _on_decision_refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, DecisionRefusedError):
        raise error
    if error.is_own:
        return respond(
            ProblemError(
                HTTPStatus.FORBIDDEN,
                "approval-by-asker",
                "who asked for it cannot decide about it; a second person must",
            )
        )
    found = error.approval
    by = found.decided_by or "nobody, in time"
    return respond(
        ProblemError(
            HTTPStatus.CONFLICT,
            "approval-decided",
            f"it is {found.state} already, by {by}; a decision is never changed: "
            "order anew what is still wanted",
        )
    )
