"""Where a bridge's and a car's spans go: nowhere, or to a collector of OpenTelemetry.

The library is an extra of its own, `tracing`, and imported only where the settings name
a collector. A tracer harms nobody: `record` hands spans to a queue of bounded length
and returns. A collector that is down or slow costs spans and one line in the log, and
no frame, order or event waits for it.
"""

import asyncio
import importlib
import logging
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final, Protocol

import msgspec

from transport.errors import CollectorSetupError
from transport.span import Span

QUEUE: Final = 4_096
"""Spans that wait for the collector; more are dropped."""

BATCH: Final = 512
"""Spans sent at once."""

EVERY_S: Final = 2.0
"""Between two batches."""

_NANOSECONDS: Final = 1_000_000
"""In one millisecond."""


_LOG: Final = logging.getLogger(__name__)


class TracingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Traces of commands and ledger entries; off without this section."""

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s@]+$", max_length=2_048)]
    """Where a collector takes OTLP over HTTP, such as
    http://127.0.0.1:4318/v1/traces."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0
    """How long one attempt may take."""


class Tracer(Protocol):
    """Takes spans."""

    def record(self, spans: Iterable[Span]) -> None:
        """Take spans that are over; never raises, never waits."""


class _Told:
    """An exporter that says once that the collector takes nothing, and when it does.

    The library calls it from a thread of its own.
    """

    def __init__(self, exporter: Any, *, success: object, url: str) -> None:  # noqa: ANN401 - an extra's
        self._exporter, self._success, self._url = exporter, success, url
        self._is_down = False

    def export(self, spans: Sequence[object]) -> object:
        """Send spans; return what the exporter returned."""
        result = self._exporter.export(spans)
        is_down = result is not self._success
        if is_down and not self._is_down:
            _LOG.warning(
                "= the collector at %s takes no traces; nothing else is affected: "
                "look whether it runs, and at `url` in [tracing]",
                self._url,
            )
        if self._is_down and not is_down:
            _LOG.info("= the collector at %s takes traces again", self._url)
        self._is_down = is_down
        return result

    def shutdown(self) -> None:
        """End it."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Send what waits."""
        return bool(self._exporter.force_flush(timeout_millis))


class CollectorTracer:
    """Sends spans to a collector by OTLP over HTTP, in a thread of its own.

    Args:
        settings: where to.
        service: what kind of program this is.
        instance: which one of them.

    Raises:
        CollectorSetupError: the extra is not installed.
    """

    def __init__(
        self, settings: TracingSettings, *, service: str, instance: str
    ) -> None:
        try:
            trace = importlib.import_module("opentelemetry.trace")
            sdk = importlib.import_module("opentelemetry.sdk.trace")
            export = importlib.import_module("opentelemetry.sdk.trace.export")
            resources = importlib.import_module("opentelemetry.sdk.resources")
            otlp = importlib.import_module(
                "opentelemetry.exporter.otlp.proto.http.trace_exporter"
            )
        except ImportError as error:
            raise CollectorSetupError(
                f"[tracing] needs a library that is not installed: {error}",
                advice="install freefloat with the extra `tracing`",
            ) from error
        # It complains at each attempt, and with a stack: `_Told` says it once.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        self._trace, self._sdk = trace, sdk
        self._is_broken = False
        self._resource = resources.Resource(
            {"service.name": service, "service.instance.id": instance}
        )
        self._processor = export.BatchSpanProcessor(
            _Told(
                otlp.OTLPSpanExporter(
                    endpoint=settings.url, timeout=settings.timeout_s
                ),
                success=export.SpanExportResult.SUCCESS,
                url=settings.url,
            ),
            max_queue_size=QUEUE,
            max_export_batch_size=BATCH,
            schedule_delay_millis=EVERY_S * 1_000,
        )

    def record(self, spans: Iterable[Span]) -> None:
        """Take spans that are over."""
        try:
            for span in spans:
                self._processor.on_end(self._readable(span))
        except Exception:  # noqa: BLE001 - whatever is wrong with a trace is no frame's
            if not self._is_broken:
                _LOG.exception("= traces are not told: a defect; report this once")
            self._is_broken = True

    async def close(self) -> None:
        """Send what waits, for as long as one attempt may take."""
        await asyncio.to_thread(self._processor.shutdown)

    def _readable(self, span: Span) -> object:
        status = self._trace.status
        code = status.StatusCode.ERROR if span.is_error else status.StatusCode.UNSET
        parent = span.parent_id
        return self._sdk.ReadableSpan(
            name=span.name,
            context=self._context(span.trace_id, span.span_id),
            parent=None if parent is None else self._context(span.trace_id, parent),
            resource=self._resource,
            attributes=dict(span.attributes),
            kind=self._trace.SpanKind.INTERNAL,
            status=status.Status(code),
            start_time=span.start_ms * _NANOSECONDS,
            end_time=span.end_ms * _NANOSECONDS,
        )

    def _context(self, trace_id: bytes, span_id: bytes) -> object:
        return self._trace.SpanContext(
            int.from_bytes(trace_id),
            int.from_bytes(span_id),
            is_remote=False,
            trace_flags=self._trace.TraceFlags(self._trace.TraceFlags.SAMPLED),
        )


def open_tracer(
    settings: TracingSettings | None, *, service: str, instance: str
) -> CollectorTracer | None:
    """Return the tracer that the settings name, or None.

    Raises:
        CollectorSetupError: the extra is not installed.
    """
    if settings is None:
        return None
    return CollectorTracer(settings, service=service, instance=instance)


async def close_tracer(tracer: CollectorTracer | None) -> None:
    """Send what a tracer still has, if there is one."""
    if tracer is not None:
        await tracer.close()
