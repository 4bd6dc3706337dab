"""The metrics' own port: ``GET /metrics`` in Prometheus' text format, and no more.

It is no part of the API: a monitor gets no key that could open a car, and whoever
reaches the API learns nothing of how the bridge is. It says nothing about any vehicle,
so it asks for no key; it listens on loopback unless a setting says otherwise.
"""

from http import HTTPStatus

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    ProcessCollector,
    generate_latest,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from bridge.figures import Figures
from bridge.survey import Survey


def make_metrics_application(figures: Figures, survey: Survey) -> ASGIApp:
    """Return what answers at the metrics' port.

    Args:
        figures: what was counted.
        survey: what is looked up when somebody asks.
    """
    surroundings = CollectorRegistry()
    surroundings.register(survey)
    ProcessCollector(registry=surroundings)

    async def metrics(_request: Request) -> Response:
        await survey.look()
        body = generate_latest(figures.registry) + generate_latest(surroundings)
        return Response(
            body, HTTPStatus.OK, headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    return Starlette(routes=[Route("/metrics", metrics, methods=["GET"])])
