"""Who may use the API, and a bound on what a request may weigh."""

import re
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.api.callers import Callers
from bridge.api.keys import ANYBODY, Principal, principal_of
from bridge.api.permits import (
    APPROVALS_PATH,
    READING,
    forbidden,
    principal_in,
    role_for,
)
from bridge.api.problems import ProblemError, respond
from bridge.api.tokens import NoRoleError, TokenError
from bridge.mds.documents import ROOT

BODY_LIMIT: Final = 16_384
"""Bytes of a request's body; the largest order has about 500."""

LARGE_BODY_LIMIT: Final = 262_145
"""Bytes of a configuration's body, and one more, so that its own route says no."""

MANY_BODY_LIMIT: Final = 49_152
"""Bytes of an order for many vehicles: a thousand ids take 29,000."""

_LARGE: Final = re.compile(r"/v1/vehicles/[A-Z2-7]{26}/configurations/[a-z_]+")

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class Gate:
    """Stands before the application: size first, then the key, then its share.

    Args:
        app: what stands behind; finds who calls as ``principal`` in its scope.
        callers: who may call; without keys and tokens everybody, which
            `bridge.bootstrap` allows on loopback only.
        open_paths: paths that need no key to be read.
        probed: paths that are answered to who reads them, however many requests are
            under way.
    """

    def __init__(
        self,
        app: ASGIApp,
        callers: Callers,
        open_paths: frozenset[str],
        probed: frozenset[str],
    ) -> None:
        self._app = app
        self._keys = callers.keys
        self._rates = callers.rates
        self._tokens = callers.tokens
        self._at_once = callers.at_once
        self._open_paths = open_paths
        self._probed = probed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            _require_plain(scope)
            _require_size(scope)
            principal = scope["principal"] = await self._admit(scope)
            is_probe = scope["path"] in self._probed and scope["method"] in READING
            if not is_probe:
                self._at_once.take(principal.name)
        except ProblemError as problem:
            await respond(problem)(scope, receive, send)
            return
        try:
            await self._app(scope, _bounded(receive, _limit_of(scope["path"])), send)
        finally:
            if not is_probe:
                self._at_once.give_back(principal.name)

    async def _admit(self, scope: Scope) -> Principal:
        """Return who calls.

        Raises:
            ProblemError: nobody that we know, or too often.
        """
        path: str = scope["path"]
        is_open = not self._keys and self._tokens is None
        # Whoever reads them; anything else would be written down, whosever it is.
        if is_open or (path in self._open_paths and scope["method"] in READING):
            return ANYBODY
        headers = dict(scope["headers"])
        given = headers.get(b"x-api-key", b"")
        bearer = _bearer_of(headers.get(b"authorization", b""))
        if not given and path.startswith(ROOT):
            # As MDS has it: an API key may come as a bearer token.
            given = bearer
        principal = principal_of(given, self._keys)
        if principal is None:
            principal = await self._admit_token(scope, bearer)
        is_order = scope["method"] not in READING
        self._rates.require_call(principal.name, principal.role, is_order=is_order)
        return principal

    async def _admit_token(self, scope: Scope, bearer: bytes) -> Principal:
        client = scope.get("client")
        address = client[0] if client else ""
        if self._tokens is None or not bearer:
            self._rates.require_attempt(address)
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "api-key-required",
                "send a key of this bridge in the header X-Api-Key"
                if self._tokens is None
                else "send a key in the header X-Api-Key, or a bearer token",
                headers={"WWW-Authenticate": "ApiKey"},
            )
        token = bearer.decode("ascii", "replace")
        principal = self._tokens.known(token)
        if principal is not None:
            return principal
        # Checking costs: who failed too often is not checked.
        self._rates.require_room(address)
        try:
            return await self._tokens.check(token)
        except NoRoleError as error:
            raise ProblemError(
                HTTPStatus.FORBIDDEN, "role-forbids", f"{error}; ask who gives roles"
            ) from None
        except TokenError as error:
            self._rates.require_attempt(address)
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "token-refused",
                f"{error}; get a new one of the provider",
                headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
            ) from None


def _bearer_of(header: bytes) -> bytes:
    scheme, _, token = header.partition(b" ")
    return token.strip() if scheme.lower() == b"bearer" else b""


class RoleCheck:
    """Stands before the routes: lets through whose role may call them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] == "http":
            principal = principal_in(scope)
            needed = role_for(scope["method"], scope["path"])
            if not principal.role.includes(needed):
                problem = forbidden(principal, f"it takes the role {needed}")
                await respond(problem)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _require_plain(scope: Scope) -> None:
    """Refuse a path that the routes and the roles could read differently.

    The router takes ``/v1/audit`` with a line feed behind it for ``/v1/audit``, which
    no rule about roles does.
    """
    if _CONTROL.search(scope["path"]) is None:
        return
    problem = "must have no control characters"
    raise ProblemError(
        HTTPStatus.BAD_REQUEST,
        "invalid-request",
        f"path: {problem}",
        title="invalid request",
        errors=[{"field": "path", "in": "path", "problem": problem}],
    )


def _require_size(scope: Scope) -> None:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    limit = _limit_of(scope["path"])
    if not length.isdigit() or len(length) > len(str(limit)) + 1:
        raise _too_large(limit)
    if int(length) > limit:
        raise _too_large(limit)


def _limit_of(path: str) -> int:
    if path == APPROVALS_PATH:
        return MANY_BODY_LIMIT
    return LARGE_BODY_LIMIT if _LARGE.fullmatch(path) else BODY_LIMIT


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "body-too-large",
        f"a body has at most {limit} bytes",
        errors=[
            {
                "field": "body",
                "in": "body",
                "problem": f"has more than {limit} bytes",
                "bound": {"max_length": limit},
            }
        ],
    )


def _bounded(receive: Receive, limit: int) -> Receive:
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            # A body without a length, in chunks.
            raise _too_large(limit)
        return message

    return bounded
