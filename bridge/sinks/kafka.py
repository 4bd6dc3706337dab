"""Events into a topic of Kafka, by librdkafka's idempotent producer.

The key is the vehicle's id, so all its events are in one partition and in order; the
relay sends the next one of a vehicle when the brokers have the one before. Within one
producer's life a retry of librdkafka doubles nothing; what a restart sends again has
the same ``ce_id``, by which consumers drop it (CloudEvents Kafka binding 1.0.2,
structured mode).
"""

import asyncio
import contextlib
import threading
from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from bridge.errors import SettingsError, SinkError
from bridge.foreign_tls import SUITES
from bridge.rows.outbox import OutboxRow
from bridge.settings import KafkaSettings
from bridge.sinks.ports import TraceParent
from bridge.wire import LOG

PARALLEL: Final = 256
"""Events under way at one time, each of another vehicle: librdkafka makes batches."""

LINGER_MS: Final = 5
"""How long it waits for more of a batch."""

POLL_S: Final = 0.1
"""How long the thread that brings answers waits for one."""

FLUSH_S: Final = 5.0
"""How long a stop waits for what is under way; the rest is sent again later."""

_OURS: Final[dict[str, str | int | bool]] = {
    "enable.idempotence": True,
    "acks": "all",
    "linger.ms": LINGER_MS,
    "client.id": "freefloat-bridge",
    # As `bridge.foreign_tls` has it for all other consumers (K3); librdkafka by itself
    # offers CBC and RSA key exchange too. Without effect where TLS is not spoken.
    "ssl.cipher.suites": SUITES,
    "enable.ssl.certificate.verification": True,
    "ssl.endpoint.identification.algorithm": "https",
}
"""What no options file may change: it is what "delivered" means, and to whom."""


class KafkaSink:
    """Produces events into one topic."""

    parallel = PARALLEL

    def __init__(
        self,
        settings: KafkaSettings,
        options: Mapping[str, str | int | bool],
        trace_parent: TraceParent | None = None,
    ) -> None:
        """Take librdkafka's own settings beside ours.

        Raises:
            SettingsError: one of them is ours, or librdkafka does not know it.
        """
        clash = sorted(_OURS.keys() & options.keys())
        if clash:
            raise SettingsError(
                f"sink {settings.name}: options_file sets {clash[0]}",
                advice="leave it out: events would be lost, doubled, or read by others",
            )
        self._settings = settings
        self._trace_parent = trace_parent
        self._options: dict[str, str | int | bool] = {
            **options,
            **_OURS,
            "bootstrap.servers": settings.servers,
            "message.timeout.ms": round(settings.timeout_s * 1000),
        }
        self._producer: Producer | None = None
        self._polling: threading.Thread | None = None
        self._ended: Producer | None = None
        """The last one that Kafka ended for good."""
        self._stop = threading.Event()

    @property
    def name(self) -> str:
        """Names its cursor."""
        return self._settings.name

    async def open(self) -> None:
        """Make a producer; the brokers may come later.

        Raises:
            SettingsError: librdkafka does not know an option.
        """
        try:
            self._producer = self._make()
        except KafkaException as error:
            raise SettingsError(
                f"sink {self.name}: {error.args[0].str()}",
                advice="see librdkafka's CONFIGURATION.md for its options",
            ) from error
        self._stop.clear()
        self._polling = threading.Thread(
            target=self._poll, name=f"kafka-{self.name}", daemon=True
        )
        self._polling.start()

    async def deliver(self, row: OutboxRow) -> None:
        """Produce one event and wait until the brokers have it."""
        producer = self._producer
        if producer is None:
            raise SinkError(f"sink {self.name} is not open")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[KafkaError | None] = loop.create_future()

        def settle(error: KafkaError | None) -> None:
            if not answer.done():
                answer.set_result(error)

        def delivered(error: KafkaError | None, _message: Message) -> None:
            # Called in the polling thread; at the very end the loop may be gone.
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, error)

        try:
            producer.produce(
                self._settings.topic,
                key=str(row.vehicle_id).encode(),
                value=row.body,
                headers=self._headers(row),
                on_delivery=delivered,
            )
        except (KafkaException, BufferError) as error:
            raise SinkError(f"{self._settings.servers}: {error}") from error
        failure = await answer
        if failure is not None:
            if failure.fatal():
                self._ended = producer
            raise SinkError(
                f"topic {self._settings.topic} at {self._settings.servers}: "
                f"{failure.str()}"
            )

    async def close(self) -> None:
        """Let what is under way end, for a few seconds."""
        if self._producer is not None:
            await asyncio.to_thread(_flush, self._producer)
        self._stop.set()
        if self._polling is not None:
            await asyncio.to_thread(self._polling.join)
        self._producer = self._polling = None

    def _headers(self, row: OutboxRow) -> list[tuple[str, str | bytes | None]]:
        headers: list[tuple[str, str | bytes | None]] = [
            ("content-type", b"application/cloudevents+json; charset=utf-8"),
            ("ce_id", row.event_id.encode()),
        ]
        if self._trace_parent is not None:
            parent = self._trace_parent(row, self.name)
            headers.append(("traceparent", parent.encode()))
        return headers

    def _make(self) -> Producer:
        return Producer(self._options, logger=LOG)

    def _poll(self) -> None:
        while not self._stop.is_set():
            producer = self._producer
            if producer is None:
                return
            try:
                producer.poll(POLL_S)
            except KafkaException as error:
                # What concerns no one event; librdkafka mends all of it by itself but
                # an error that is fatal, which it raises here or gives with an event.
                LOG.warning("= sink %s: %s", self.name, error)
                if error.args[0].fatal():
                    self._ended = producer
            if self._ended is producer:
                self._renew(producer)

    def _renew(self, failed: Producer) -> None:
        """Make a new producer after an error that ended the old one for good.

        Whatever is under way with the old one gets its answer: that it has failed.
        """
        try:
            self._producer = self._make()
        except KafkaException as error:
            LOG.warning("= sink %s: no new producer: %s", self.name, error)
            self._stop.wait(POLL_S)
            return
        LOG.warning("= sink %s: Kafka ended our producer; this is a new one", self.name)
        failed.purge()
        _flush(failed)


def _flush(producer: Producer) -> None:
    """Let what is under way be answered, for `FLUSH_S` at most; blocks."""
    # A producer that has ended says so at each of these calls, beside the answers.
    with contextlib.suppress(KafkaException):
        producer.flush(FLUSH_S)
