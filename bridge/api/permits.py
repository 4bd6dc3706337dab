"""Which role each route needs, and what a service may order (K28)."""

import re
from http import HTTPStatus
from typing import Final

from starlette.types import Scope

from bridge.api.bodies import (
    CommandBody,
    EngineHoldBody,
    EngineReleaseBody,
    PingBody,
)
from bridge.api.body import CarBody
from bridge.api.keys import Principal, Role
from bridge.api.problems import ProblemError
from bridge.api.rental_bodies import GrantBody
from bridge.api.upkeep_bodies import (
    ExplainBody,
    RebootBody,
    RestartBody,
    RotateKeyBody,
    ServiceBody,
    SnapshotBody,
)
from bridge.approvals import immobilises
from bridge.commands import CommandRecord
from bridge.mds.documents import ROOT
from protocol.codes import Opcode
from protocol.command import COMMAND_SCHEMA, parse_command
from protocol.snapshot import NO_RENTAL

READING: Final = frozenset({"GET", "HEAD"})
"""Methods that order and change nothing."""

_OF_SERVICES: Final = re.compile(r"/v1/vehicles/[^/]*/commands|/v1/commands/[^/]*")
"""What of the rest a service may call; `require_within_rental` and
`require_may_take_back` look closer."""

_MOVES_NOTHING: Final = (PingBody, SnapshotBody)
"""Orders that every caller may give who may order at all."""

_OF_OPERATORS: Final = (
    ServiceBody,
    RestartBody,
    RebootBody,
    RotateKeyBody,
    ExplainBody,
)
"""Orders about the car itself: no rental is a reason for them."""

AUDIT_PATH: Final = "/v1/audit"

APPROVALS_PATH: Final = "/v1/approvals"

_EXPLANATION: Final = re.compile(r"/v1/commands/[^/]*/explain")
"""It names who asked, which is nobody's business who only looks."""

_DECISION: Final = re.compile(r"/v1/approvals/[^/]*/(approve|reject)")


def role_for(method: str, path: str) -> Role:
    """Return the least role that may call a route; of an unknown one the strictest."""
    if path == AUDIT_PATH:
        return Role.ADMIN
    if _EXPLANATION.fullmatch(path):
        return Role.OPERATOR
    if method in READING:
        return Role.AGENCY if path.startswith(ROOT) else Role.VIEWER
    if _DECISION.fullmatch(path):
        return Role.APPROVER
    return Role.SERVICE if _OF_SERVICES.fullmatch(path) else Role.OPERATOR


def principal_in(scope: Scope) -> Principal:
    """Return who calls; the gate has looked at the key."""
    found: Principal = scope["principal"]
    return found


def require_within_rental(principal: Principal, body: CommandBody) -> None:
    """Let a service order what belongs to a rental, and what moves nothing.

    Raises:
        ProblemError: it asked for something else.
    """
    if principal.role.includes(Role.OPERATOR) or isinstance(body, _MOVES_NOTHING):
        return
    if isinstance(body, _OF_OPERATORS):
        raise forbidden(principal, f"{body.kind} is an operator's", field="kind")
    # Zeros mean no rental too; so does the order that is made of them.
    is_of_none = body.rental_id is None or body.rental_id == NO_RENTAL.hex()
    if is_of_none and not isinstance(body, CarBody):
        raise forbidden(
            principal, "orders without a rental are an operator's", field="rental_id"
        )
    if isinstance(body, EngineHoldBody | EngineReleaseBody) and (
        body.reason == "operator"
    ):
        raise forbidden(principal, "this reason is an operator's", field="reason")
    if isinstance(body, GrantBody) and "service" in body.rights:
        raise forbidden(principal, "this right is an operator's", field="rights")


def require_may_take_back(principal: Principal, record: CommandRecord) -> None:
    """Let a service take back what a service may order, and nothing else.

    Raises:
        ProblemError: an operator gave it, or a second person let it go.
    """
    if principal.role.includes(Role.OPERATOR):
        return
    is_held = False
    if record.intent:
        order = parse_command(Opcode(record.opcode), COMMAND_SCHEMA, record.intent)
        is_held = immobilises(order)
    if record.origin.approval_id or record.rental_id == NO_RENTAL or is_held:
        raise forbidden(principal, "an operator's order is taken back by operators")


def forbidden(principal: Principal, why: str, *, field: str = "") -> ProblemError:
    """Return the problem of somebody who may not do this."""
    return ProblemError(
        HTTPStatus.FORBIDDEN,
        "role-forbids",
        f"the role {principal.role} of this key does not allow it: {why}",
        errors=[{"field": field, "in": "body", "problem": why}] if field else (),
    )
