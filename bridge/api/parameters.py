"""What stands behind the question mark of an address, once and nothing else.

A misspelt parameter that is passed over does harm: ``?retryof=`` orders a second time,
``?from=`` begins a stream now and loses what was. Feeds for others are left out: caches
are asked with parameters of their own, and cities may know more than we. One that is
given twice has two meanings, of which the caller and a proxy may see different ones.
"""

from collections import Counter
from typing import Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from bridge.api.strict_json import of_repeated

OURS: Final = "/v1/"
"""Where the rule holds."""

ONCE: Final = ("Idempotency-Key", "Last-Event-ID")
"""Headers of ours that say what is meant."""


async def require_known_parameters(request: Request) -> None:
    """Let a request through whose parameters its route has, each given once.

    Raises:
        RequestValidationError: it has others, or one twice; nothing was done.
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
    given = Counter(name for name, _ in request.query_params.multi_items())
    wrong = [
        {
            "type": "extra_forbidden",
            "loc": ("query", name),
            "msg": "This route has no such parameter",
        }
        for name in sorted(given.keys() - known)
    ]
    wrong += [of_repeated("query", name) for name in sorted(given) if given[name] > 1]
    wrong += [
        of_repeated("header", name)
        for name in ONCE
        if len(request.headers.getlist(name)) > 1
    ]
    if wrong:
        raise RequestValidationError(wrong)
