"""Events by HTTP POST: CloudEvents 1.0 (structured JSON), signed by Standard Webhooks.

``webhook-id`` is the event's own id and the same at every attempt, so that a consumer
drops what it has. ``webhook-timestamp`` and ``webhook-signature`` are made for each
attempt (https://www.standardwebhooks.com). Any 2xx means taken; everything else,
redirects included, means not taken.
"""

import asyncio
import contextlib
from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import aiohttp
from standardwebhooks.webhooks import Webhook

from bridge.errors import SettingsError, SinkError
from bridge.foreign_tls import foreign_client_context
from bridge.ports import WallClock
from bridge.rows.outbox import OutboxRow
from bridge.sinks.ports import TraceParent
from bridge.wire import LOG

CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"

PARALLEL: Final = 8
"""Requests at one time: enough for a consumer 100 ms away to take 80 events/s."""

ANSWER_LIMIT: Final = 4096
"""Bytes of an answer that are read, so that its connection can be used again."""

SECRETS_LIMIT: Final = 2
"""Secrets at one time: the new one and the one that it replaces."""

PREFIX: Final = "whsec_"
"""Before each secret."""

SECRET_BYTES: Final = range(24, 65)
"""Bytes of a secret (Standard Webhooks, "Signature scheme")."""

Secrets = Callable[[], tuple[str, ...]]
"""Returns the secrets as they are now, the newest first."""

_PERMANENT: Final = frozenset(range(400, 500)) - {
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
    # A consumer whose route or key is being changed answers these for a while.
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
}


class WebhookSink:
    """Posts events to one URL."""

    parallel = PARALLEL

    def __init__(
        self,
        name: str,
        url: str,
        secrets: Secrets,
        *,
        timeout_s: float,
        now: WallClock,
        trace_parent: TraceParent | None = None,
    ) -> None:
        """Take the secrets by a call, since they are replaced while we run.

        Raises:
            SettingsError: they cannot be used now.
        """
        self._name = name
        self._url = url
        self._timeout_s = timeout_s
        self._now = now
        self._trace_parent = trace_parent
        self._secrets = secrets
        self._webhooks = self._read()
        self._session: aiohttp.ClientSession | None = None

    @property
    def name(self) -> str:
        """Names its cursor."""
        return self._name

    async def open(self) -> None:
        """Make a connection pool of its own, so that no other sink waits for it."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout_s),
            connector=aiohttp.TCPConnector(
                limit=PARALLEL, ssl=foreign_client_context()
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Nobody looks at what a consumer answers, so nobody unpacks it either.
            auto_decompress=False,
        )

    async def deliver(self, row: OutboxRow) -> None:
        """Post one event."""
        if self._session is None:
            raise SinkError(f"sink {self._name} is not open")
        at_s = self._now() // 1000
        at, text = datetime.fromtimestamp(at_s, UTC), row.body.decode()
        # Several signatures, so that a consumer may hold the old secret or the new one
        # while it is replaced (Standard Webhooks, "Key rotation").
        signature = " ".join(
            webhook.sign(row.event_id, at, text) for webhook in self._current()
        )
        headers = {
            "Content-Type": CONTENT_TYPE,
            "webhook-id": row.event_id,
            "webhook-timestamp": str(at_s),
            "webhook-signature": signature,
        }
        if self._trace_parent is not None:
            headers["traceparent"] = self._trace_parent(row, self._name)
        try:
            async with self._session.post(
                self._url, data=row.body, headers=headers, allow_redirects=False
            ) as answer:
                status = answer.status
                # The head says it all: a body that is cut, or never comes, takes no
                # event back that the consumer has.
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
                    await answer.content.read(ANSWER_LIMIT)
                retry_after_s = _seconds(answer.headers.get("Retry-After", ""), at_s)
        except TimeoutError:
            raise SinkError(
                f"no answer from {self._url} within {self._timeout_s:g} s"
            ) from None
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise SinkError(f"{self._url}: {error}") from error
        if not 200 <= status < 300:  # noqa: PLR2004 - the range is HTTP's "success"
            raise SinkError(
                f"{self._url} answered {status}",
                is_permanent=status in _PERMANENT,
                retry_after_s=retry_after_s,
            )

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _current(self) -> tuple[Webhook, ...]:
        """Return what signs now; a file that was damaged meanwhile changes nothing."""
        try:
            self._webhooks = self._read()
        except SettingsError as error:
            LOG.warning("= %s; the secret known so far signs", error)
        return self._webhooks

    def _read(self) -> tuple[Webhook, ...]:
        lines = self._secrets()
        if not 1 <= len(lines) <= SECRETS_LIMIT:
            raise SettingsError(
                f"sink {self._name}: {len(lines)} webhook secrets, not 1 or 2",
                advice="write one secret a line: the new one, and the old one as long "
                "as the consumer may still hold it",
            )
        if not all(map(_is_secret, lines)):
            raise SettingsError(
                f"sink {self._name}: a webhook secret is not `whsec_` and 24 to 64 "
                "bytes in base64",
                advice="write whsec_ and what `openssl rand -base64 32` makes",
            )
        return tuple(Webhook(line) for line in lines)


def _is_secret(line: str) -> bool:
    """Return whether a line is a secret as Standard Webhooks has it.

    Its library takes nearly every word for one, and drops what is no base64 in it: a
    file that holds something else would sign by a few bytes that somebody guesses.
    """
    if not line.startswith(PREFIX):
        return False
    try:
        secret = b64decode(line.removeprefix(PREFIX), validate=True)
    except ValueError:
        return False
    return len(secret) in SECRET_BYTES


def _seconds(text: str, now_s: int) -> float:
    """Return a Retry-After (RFC 9110, 10.2.3) in seconds from now; 0 for none.

    However long it is: the relay has a limit (`bridge.relay.RETRY_AFTER_LIMIT_S`).
    """
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        # A year or an hour may have more digits than an integer of C.
        return 0.0
    # A date without a zone is no date of HTTP, and is read as UTC all the same.
    return max(at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now_s, 0.0)
