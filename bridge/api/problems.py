"""Every error of the API as a problem document (RFC 9457).

Rule 1: a problem names the field, the kind of value and the bound; it never repeats a
value, because the value may be a PIN.
Rule 2: bad input is a 4xx. A 500 is a defect of the bridge and says nothing about it
but that; the log has the rest.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from bridge.api import forms
from bridge.api.strict_json import REPEATED, is_json
from bridge.errors import (
    OrderRefusedError,
    Refusal,
    StoreError,
    UndecidedError,
)
from bridge.mds.documents import ROOT
from bridge.orders import KINDS
from bridge.wire import LOG

MEDIA_TYPE: Final = "application/problem+json"

ERRORS_LIMIT: Final = 16
"""Field errors that one document lists."""

NAME_LIMIT: Final = 64
"""Characters of a field's name: an unknown field's name is the caller's."""

STATUS_OF: Final = {
    Refusal.UNKNOWN_VEHICLE: HTTPStatus.NOT_FOUND,
    Refusal.OFFLINE: HTTPStatus.CONFLICT,
    Refusal.IN_DOUBT: HTTPStatus.CONFLICT,
    Refusal.UNSUPPORTED: HTTPStatus.CONFLICT,
    Refusal.NO_CLOCK: HTTPStatus.CONFLICT,
    Refusal.RENTAL_OPEN: HTTPStatus.CONFLICT,
    Refusal.NOT_PROVED: HTTPStatus.CONFLICT,
    Refusal.TOO_LATE: HTTPStatus.CONFLICT,
    Refusal.KEY_REUSED: HTTPStatus.CONFLICT,
    Refusal.BAD_VALUE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Refusal.FORBIDDEN: HTTPStatus.FORBIDDEN,
    Refusal.SIGNER_LIMIT: HTTPStatus.TOO_MANY_REQUESTS,
    Refusal.NO_SIGNER: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The HTTP status of each refusal."""

_TITLES: Final = {
    Refusal.UNKNOWN_VEHICLE: "unknown vehicle",
    Refusal.OFFLINE: "vehicle offline",
    Refusal.IN_DOUBT: "vehicle in doubt",
    Refusal.UNSUPPORTED: "vehicle does not support this",
    Refusal.NO_CLOCK: "vehicle's clock is not known",
    Refusal.RENTAL_OPEN: "a lost rental is open",
    Refusal.NOT_PROVED: "earlier command not proved undone",
    Refusal.TOO_LATE: "too late to cancel",
    Refusal.KEY_REUSED: "idempotency key reused",
    Refusal.BAD_VALUE: "value not allowed",
    Refusal.FORBIDDEN: "signer refuses",
    Refusal.SIGNER_LIMIT: "signer's cap reached",
    Refusal.NO_SIGNER: "no signer now",
}

_BOUNDS: Final = (
    "ge",
    "gt",
    "le",
    "lt",
    "min_length",
    "max_length",
    "pattern",
    "expected",
    "expected_tags",
)
"""What pydantic calls the bounds that a value broke; none of them is the value."""


_IN: Final = {"Idempotency-Key": "header", "defer_s": "query", "retry_of": "query"}
"""Where a field of a refusal stands; all others stand in the body."""

_TAGS: Final = frozenset(("union_tag_invalid", "union_tag_not_found"))
"""The field that says which kind of body it is has no kind that there is."""

_KINDS: Final = frozenset(KINDS.values())


class ProblemError(Exception):
    """Ends a request with a problem document."""

    def __init__(
        self,
        status: HTTPStatus,
        kind: str,
        detail: str,
        *,
        title: str = "",
        errors: Sequence[Mapping[str, object]] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        """Keep what the document says; `members` are those of its type alone."""
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.title = title or kind.replace("-", " ")
        self.errors = errors
        self.headers = headers
        self.members = members or {}


def store_unavailable() -> ProblemError:
    """Return the problem of a bridge that cannot store."""
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "store-unavailable",
        "the bridge cannot store now; nothing was sent, try again",
        headers={"Retry-After": "1"},
    )


def outcome_unknown(error: UndecidedError) -> ProblemError:
    """Return the problem of a bridge that does not know whether it has stored."""
    detail = (
        "the store fell silent while the bridge wrote: it may have taken effect, or "
        "may yet; send the same request again"
    )
    if not error.command_id:
        return ProblemError(
            HTTPStatus.SERVICE_UNAVAILABLE, "outcome-unknown", f"{detail} to know"
        )
    path = f"/v1/commands/{error.command_id.hex()}"
    return ProblemError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "outcome-unknown",
        f"{detail} with the same Idempotency-Key; without one, look at {path} first",
        headers={"Location": path},
    )


def respond(problem: ProblemError) -> Response:
    """Return the response of a problem."""
    document: dict[str, object] = {
        "type": f"urn:freefloat:problem:{problem.kind}",
        "title": problem.title,
        "status": int(problem.status),
        "detail": problem.detail,
    }
    if problem.errors:
        document["errors"] = list(problem.errors)[:ERRORS_LIMIT]
    document |= problem.members
    # ASCII only: the name of an unknown field may hold half a surrogate pair, which
    # UTF-8 cannot write.
    return Response(
        json.dumps(document, ensure_ascii=True),
        status_code=int(problem.status),
        media_type=MEDIA_TYPE,
        headers=dict(problem.headers or {}),
    )


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(OrderRefusedError, _on_refused)
    app.add_exception_handler(StoreError, _on_store)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_defect)


async def _on_problem(_request: Request, error: Exception) -> Response:
    if not isinstance(error, ProblemError):
        raise error
    return respond(error)


async def _on_refused(_request: Request, error: Exception) -> Response:
    if not isinstance(error, OrderRefusedError):
        raise error
    where = _IN.get(error.field or "", "body")
    found = {"field": error.field, "in": where, "problem": str(error)}
    errors = [found] if error.field else []
    return respond(
        ProblemError(
            STATUS_OF[error.refusal],
            error.refusal,
            str(error),
            title=_TITLES[error.refusal],
            errors=errors,
            members={"capability": error.capability} if error.capability else None,
            headers={"Retry-After": str(error.retry_after_s)}
            if error.retry_after_s
            else None,
        )
    )


async def _on_invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    if _is_of_another_kind(request, error):
        return respond(_another_kind())
    errors = [_field_error(found) for found in error.errors()]
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    # MDS wants 400 where an hour is missing or is none.
    is_city = request.url.path.startswith(ROOT)
    if is_city or any(found["type"] == "json_invalid" for found in error.errors()):
        status = HTTPStatus.BAD_REQUEST
    first = errors[0]
    return respond(
        ProblemError(
            status,
            "invalid-request",
            f"{first['field']}: {first['problem']}",
            title="invalid request",
            errors=errors,
        )
    )


def _is_of_another_kind(request: Request, error: RequestValidationError) -> bool:
    """Return whether a body was not read, for its header says that it is no JSON."""
    return not is_json(request) and any(
        found["loc"] == ("body",) and found["type"] != "missing"
        for found in error.errors()
    )


def _another_kind() -> ProblemError:
    problem = "must be application/json"
    return ProblemError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        f"content-type: {problem}",
        errors=[{"field": "content-type", "in": "header", "problem": problem}],
    )


async def _on_store(_request: Request, error: Exception) -> Response:
    LOG.warning("= API: %s", error)
    if isinstance(error, UndecidedError):
        return respond(outcome_unknown(error))
    return respond(store_unavailable())


async def _on_http(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    status = HTTPStatus(error.status_code)
    if status is HTTPStatus.BAD_REQUEST:
        # FastAPI's word for a body that is no UTF-8, or nested without an end.
        problem = "the body cannot be read as JSON"
        return respond(
            ProblemError(
                status,
                "invalid-request",
                f"body: {problem}",
                errors=[{"field": "body", "in": "body", "problem": problem}],
            )
        )
    kind = status.phrase.lower().replace(" ", "-")
    # Starlette's and FastAPI's details are sentences of their own, never the input.
    return respond(ProblemError(status, kind, str(error.detail), headers=error.headers))


async def _on_defect(_request: Request, error: Exception) -> Response:
    LOG.error("= API: a defect", exc_info=error)
    return respond(
        ProblemError(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "internal",
            "a defect of the bridge; its log says more",
        )
    )


def _field_error(found: Mapping[str, Any]) -> dict[str, object]:
    context: Mapping[str, object] = found.get("ctx") or {}
    bounds = {
        name: context[name]
        if isinstance(context[name], int | float | str)
        else str(context[name])
        for name in _BOUNDS
        if name in context
    }
    where = [str(part)[:NAME_LIMIT] for part in found["loc"]]
    # The first part is body, query, path or header. In a body the kind of order
    # follows, which is not a part of the document that came.
    path = where[1:]
    if found["type"] == "json_invalid":
        # A place in the text follows, which is no field.
        path = []
    if found["type"] in _TAGS:
        path = [*path, str(context["discriminator"]).strip("'")]
    is_of_text = found["type"] == REPEATED
    if where[0] == "body" and path and path[0] in _KINDS and not is_of_text:
        path = path[1:]
    field = ".".join(path) or where[0]
    return {
        "field": field,
        "in": where[0],
        "problem": _sentence(str(found["type"]), str(found["msg"]), context),
        **({"bound": bounds} if bounds else {}),
    }


def _sentence(kind: str, message: str, context: Mapping[str, object]) -> str:
    if kind == "union_tag_invalid":
        # pydantic's own message repeats the tag that came.
        return "is none of the kinds of order"
    if kind == "union_tag_not_found":
        return "field required"
    if kind == "json_invalid":
        return str(context.get("told", "the body is not JSON"))
    if kind == "value_error":
        # A sentence of ours, behind pydantic's words that it is one.
        return message.removeprefix("Value error, ")
    if kind == "string_pattern_mismatch":
        return forms.SENTENCES.get(str(context.get("pattern")), _decapitalised(message))
    return _decapitalised(message)


def _decapitalised(message: str) -> str:
    return message[:1].lower() + message[1:]
