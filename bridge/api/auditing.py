"""Writes down every call that orders or changes something (K28).

Twice: before anything is done, so that nothing is done that is not written down, and
with what was answered. A row that nothing answers is a call whose outcome is not known.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import parse_qsl

from fastapi import FastAPI, Query
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.api.documents import Document
from bridge.api.permits import AUDIT_PATH, READING, principal_in
from bridge.api.problems import ProblemError, respond, store_unavailable
from bridge.audit import ASKED, TEXT_LIMIT, AuditEntry
from bridge.errors import StoreError
from bridge.explanation import document_of_row
from bridge.ports import WallClock
from bridge.store import Store
from bridge.store_threads import CHECK_S, LATE
from bridge.wire import LOG

PAGE_LIMIT: Final = 200
"""Rows on one page."""

_TOLD: Final = (
    *("kind", "rental_id", "reason", "mode", "first", "last", "position", "since"),
    *("action", "grant_id", "offer_id", "request_id", "payment_id", "decision"),
    *("request", "component", "lock_default", "amount_minor", "currency"),
)
"""Fields of bodies that are written down: none of them can hold a secret."""

BODY_S: Final = 30.0
"""How long a body may take: the largest is a configuration of 256 KB, at 9 kB/s."""

_ASKED_IN_QUERY: Final = ("defer_s", "retry_of")
"""What of an address says when, and in whose place, something is done."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_:.+-]{1,40}")
_PATH_LIMIT: Final = 200


class Auditor:
    """Stands between the gate, which knows who calls, and the application."""

    def __init__(self, app: ASGIApp, store: Store, now: WallClock) -> None:
        self._app = app
        self._store = store
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] in READING:
            await self._app(scope, receive, send)
            return
        try:
            body = await _read(receive)
            if body is None:
                return
            what = _what(scope, body)
            asked = await self._write_down(self._entry(scope, what, ASKED))
        except ProblemError as problem:
            await respond(problem)(scope, receive, send)
            return
        except StoreError as error:
            LOG.warning("= API: %s", error)
            await respond(store_unavailable())(scope, receive, send)
            return
        scope["audit_row"] = asked
        outcome = "not answered"

        async def seen(message: Message) -> None:
            nonlocal outcome
            if message["type"] == "http.response.start":
                outcome = _outcome(message)
            await send(message)

        try:
            await self._app(scope, _again(body, receive), seen)
        finally:
            entry = self._entry(scope, what, outcome, asked)
            try:
                await self._store.append_audit(entry)
            except StoreError as error:
                LOG.warning("= audit: the outcome of row %d is lost: %s", asked, error)

    async def _write_down(self, entry: AuditEntry) -> int:
        """Store the first row of a call, before anything is done.

        Raises:
            StoreError: it is not, or not in time; nobody waits behind a store that
                hangs. What is written later stands in the trail without an outcome.
        """
        if self._store.is_late:
            raise StoreError(LATE)
        try:
            async with asyncio.timeout(CHECK_S):
                return await self._store.append_audit(entry)
        except TimeoutError:
            raise StoreError(LATE) from None

    def _entry(
        self, scope: Scope, what: str, outcome: str, asked: int = 0
    ) -> AuditEntry:
        who = principal_in(scope)
        return AuditEntry(self._now(), who.name, str(who.role), what, outcome, asked)


def add_audit(app: FastAPI, store: Store) -> None:
    """Add the route that reads the trail."""

    @app.get(AUDIT_PATH)
    async def list_audit(
        after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 100,
    ) -> Document:
        """List who ordered or changed what, the oldest first, with its chain."""
        rows, head = await store.audit_after(after, limit)
        return {
            "rows": [document_of_row(row) for row in rows],
            "next": rows[-1].row_id if len(rows) == limit else None,
            "head": {"id": head.row_id, "row_hash": head.row_hash.hex()},
        }


async def _read(receive: Receive) -> bytes | None:
    """Read a body; None if the caller went away before its end.

    Raises:
        ProblemError: it is too large, or takes too long.
    """
    try:
        async with asyncio.timeout(BODY_S):
            return await _whole(receive)
    except TimeoutError:
        problem = f"must be whole within {BODY_S:g} s"
        raise ProblemError(
            HTTPStatus.REQUEST_TIMEOUT,
            "body-too-slow",
            f"body: {problem}; nothing was done",
            errors=[{"field": "body", "in": "body", "problem": problem}],
            headers={"Connection": "close"},
        ) from None


async def _whole(receive: Receive) -> bytes | None:
    parts = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    is_given = False

    async def again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _what(scope: Scope, body: bytes) -> str:
    path = scope["path"][:_PATH_LIMIT]
    parts = [scope["method"][:16], path]
    if "/configurations/" in path:
        parts.append(f"sha256={hashlib.sha256(body).hexdigest()}")
    else:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        parts += _told(query, _ASKED_IN_QUERY) + _fields(body)
    text = " ".join(parts)
    return "".join(c if " " <= c <= "~" else "?" for c in text)[:TEXT_LIMIT]


def _fields(body: bytes) -> list[str]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return []
    return _told(found, _TOLD) if isinstance(found, dict) else []


def _told(found: Mapping[str, object], names: Sequence[str]) -> list[str]:
    told = []
    for name in names:
        text = str(found[name]) if isinstance(found.get(name), str | int) else ""
        if _PLAIN.fullmatch(text):
            told.append(f"{name}={text}")
    return told


def _outcome(start: Message) -> str:
    location = dict(start.get("headers", ())).get(b"location", b"").decode("ascii")
    return f"{start['status']} {location}".strip()[:TEXT_LIMIT]
