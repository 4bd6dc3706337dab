"""A collector of OpenTelemetry, by OTLP over HTTP, that is a webhook's consumer too."""

import contextlib
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
)


@dataclass(slots=True)
class Collector:
    """Takes what bridge and cars tell, and what a webhook posts."""

    url: str = ""
    spans: list[Any] = field(default_factory=list)
    services: dict[bytes, str] = field(default_factory=dict)
    """Span id -> who told it."""
    posted: list[dict[str, str]] = field(default_factory=list)

    def named(self, trace_id: bytes) -> dict[str, Any]:
        return {s.name: s for s in self.spans if s.trace_id == trace_id}


@contextlib.asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        if body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        told = ExportTraceServiceRequest.FromString(body)
        for resource in told.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                collector.spans += scope.spans
                told_by = names["service.name"]
                collector.services |= dict.fromkeys(
                    (span.span_id for span in scope.spans), told_by
                )
        return web.Response()

    async def post(request: web.Request) -> web.Response:
        await request.read()
        collector.posted.append(dict(request.headers))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/v1/traces", take)
    app.router.add_post("/hook", post)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    collector.url = f"http://{host}:{port}"
    try:
        yield collector
    finally:
        await runner.cleanup()
