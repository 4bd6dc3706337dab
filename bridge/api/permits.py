"""Which role each route needs, and what a service may order (K28)."""

import re
from http import HTTPStatus
from typing import Final

from starlette.types import Scope

from bridge.api.bodies import (
    CommandBody,
    EngineHoldBody,
    EngineReleaseBody,
    FlashHazardsBody,
    PingBody,
    RotateKeyBody,
)
from bridge.api.keys import Principal, Role
from bridge.api.problems import ProblemError

READING: Final = frozenset({"GET", "HEAD"})
"""Methods that order and change nothing."""

_OF_SERVICES: Final = re.compile(r"/v1/vehicles/[^/]*/commands|/v1/commands/[^/]*")
"""What of the rest a service may call; `require_within_rental` looks closer."""

AUDIT_PATH: Final = "/v1/audit"


def role_for(method: str, path: str) -> Role:
    """Return the least role that may call a route; of an unknown one the strictest."""
    if path == AUDIT_PATH:
        return Role.ADMIN
    if method in READING:
        return Role.VIEWER
    return Role.SERVICE if _OF_SERVICES.fullmatch(path) else Role.OPERATOR


def principal_in(scope: Scope) -> Principal:
    """Return who calls; the gate has looked at the key."""
    found: Principal = scope["principal"]
    return found


def require_within_rental(principal: Principal, body: CommandBody) -> None:
    """Let a service order what belongs to a rental, and a ping.

    Raises:
        ProblemError: it asked for something else.
    """
    if principal.role.includes(Role.OPERATOR) or isinstance(body, PingBody):
        return
    if isinstance(body, RotateKeyBody):
        raise forbidden(principal, "rotate_key is an operator's", field="kind")
    if body.rental_id is None and not isinstance(body, FlashHazardsBody):
        raise forbidden(
            principal, "orders without a rental are an operator's", field="rental_id"
        )
    if isinstance(body, EngineHoldBody | EngineReleaseBody) and (
        body.reason == "operator"
    ):
        raise forbidden(principal, "this reason is an operator's", field="reason")


def forbidden(principal: Principal, why: str, *, field: str = "") -> ProblemError:
    """Return the problem of somebody who may not do this."""
    return ProblemError(
        HTTPStatus.FORBIDDEN,
        "role-forbids",
        f"the role {principal.role} of this key does not allow it: {why}",
        errors=[{"field": field, "in": "body", "problem": why}] if field else (),
    )
