"""Events into a stream of NATS JetStream, once each within its window of repeats.

The subject is ``<prefix>.<vehicle>.<type>`` with the dots of the type made dashes, so
that a consumer can ask for one vehicle or one kind of event. ``Nats-Msg-Id`` is the
event's own id: the server drops what comes again within the stream's duplicate window,
and consumers drop by ``id`` what comes again after it. ``Nats-Expected-Stream`` keeps a
stream that somebody else made for the same subjects from taking the events.
"""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Final

import nats
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.errors import APIError, NoStreamResponseError

from bridge.errors import SettingsError, SinkError
from bridge.foreign_tls import foreign_client_context
from bridge.rows.outbox import OutboxRow
from bridge.settings import JetStreamSettings
from bridge.sinks.ports import TraceParent
from bridge.wire import LOG

PARALLEL: Final = 64
"""Events under way at one time, each of another vehicle."""

CONNECT_TIMEOUT_S: Final = 5

CONTENT_TYPE: Final = "application/cloudevents+json"


class JetStreamSink:
    """Publishes events into one stream."""

    parallel = PARALLEL

    def __init__(
        self, settings: JetStreamSettings, trace_parent: TraceParent | None = None
    ) -> None:
        self._settings = settings
        self._trace_parent = trace_parent
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None
        self._connecting = asyncio.Lock()

    @property
    def name(self) -> str:
        """Names its cursor."""
        return self._settings.name

    async def open(self) -> None:
        """Check what can be checked without the server, which may come later.

        Raises:
            SettingsError: the trust anchors cannot be read.
        """
        self._tls()

    async def deliver(self, row: OutboxRow) -> None:
        """Publish one event and wait until the stream has it."""
        stream = await self._connected()
        kind = row.type.replace(".", "-")
        headers = {
            Header.MSG_ID.value: row.event_id,
            Header.EXPECTED_STREAM.value: self._settings.stream,
            "Content-Type": CONTENT_TYPE,
        }
        if self._trace_parent is not None:
            headers["traceparent"] = self._trace_parent(row, self.name)
        try:
            await stream.publish(
                f"{self._settings.subject}.{row.vehicle_id}.{kind}",
                row.body,
                timeout=self._settings.timeout_s,
                headers=headers,
            )
        except NoStreamResponseError as error:
            raise SinkError(
                f"no stream at {self._settings.url} takes {self._settings.subject}.>: "
                f"make {self._settings.stream}, or see whether JetStream is on"
            ) from error
        except (NatsError, APIError, OSError, TimeoutError) as error:
            raise SinkError(
                f"stream {self._settings.stream} at {self._settings.url}: "
                f"{_said(error)}"
            ) from error
        except (ValueError, TypeError) as error:
            # Whoever listens on the subject may answer before the stream does, and
            # nats-py takes every answer for a stream's.
            raise SinkError(
                f"stream {self._settings.stream} at {self._settings.url}: something "
                "else answers in its place"
            ) from error

    async def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            with contextlib.suppress(NatsError, OSError, TimeoutError):
                await self._client.close()
            self._client = self._stream = None

    async def _connected(self) -> JetStreamContext:
        async with self._connecting:
            if self._client is not None and self._client.is_closed:
                self._client = self._stream = None
            if self._stream is None:
                self._client = await self._connect()
                self._stream = self._client.jetstream()
            return self._stream

    async def _connect(self) -> Client:
        settings = self._settings
        try:
            return await nats.connect(
                settings.url,
                name=f"freefloat-bridge {settings.name}",
                tls=self._tls(),
                user_credentials=settings.credentials_file,
                connect_timeout=CONNECT_TIMEOUT_S,
                # The relay tries again, with its own back-off and breaker; what is
                # published while there is no connection must not wait unseen.
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                pending_size=0,
                ping_interval=10,
                max_outstanding_pings=2,
                error_cb=self._complain,
            )
        except (NatsError, OSError, TimeoutError) as error:
            raise SinkError(f"{settings.url}: {_said(error)}") from error

    async def _complain(self, error: Exception) -> None:
        LOG.info("= sink %s: %s", self.name, _said(error))

    def _tls(self) -> ssl.SSLContext | None:
        anchors = self._settings.trust_anchors
        if not self._settings.url.startswith("tls:"):
            return None
        try:
            return foreign_client_context(anchors=anchors)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"sink {self.name}: {Path(anchors or '')} cannot be used: {error}",
                advice="name a file of PEM certificates in trust_anchors",
            ) from error


def _said(error: Exception) -> str:
    """Return what an error says; many of this library say nothing but their name."""
    return str(error) or type(error).__name__
