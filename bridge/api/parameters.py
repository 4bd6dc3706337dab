"""What stands behind the question mark of an address, and nothing else.

A misspelt parameter that is passed over does harm: ``?retryof=`` orders a second time,
``?from=`` begins a stream now and loses what was. Feeds for others are left out: caches
are asked with parameters of their own, and cities may know more than we.
"""

from typing import Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

OURS: Final = "/v1/"
"""Where the rule holds."""


async def require_known_parameters(request: Request) -> None:
    """Let a request through whose parameters its route has.

    Raises:
        RequestValidationError: it has others; nothing was done.
    """
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or not route.path.startswith(OURS):
        return
    parts = [route.dependant]  # codespell:ignore - so FastAPI writes it
    known = set[str]()
    while parts:
        part = parts.pop()
        known.update(field.alias for field in part.query_params)
        parts.extend(part.dependencies)
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        raise RequestValidationError(
            [
                {
                    "type": "extra_forbidden",
                    "loc": ("query", name),
                    "msg": "This route has no such parameter",
                }
                for name in unknown
            ]
        )
