"""The routes that a city reads: MDS 2.0 as a provider of car-share.

Each answers in the version that the caller asked for, and in no other. Where a span has
more than one page its ``links.next`` leads on; trips and events of an hour have one
page, however long it is, because MDS forbids others there.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from fastapi import FastAPI, Header, Path, Query, Request, Response
from sqlalchemy import Connection

from bridge.api.hours import Hours
from bridge.api.permits import principal_in
from bridge.api.problems import ProblemError
from bridge.api.turns import Turns
from bridge.figures import Figures
from bridge.mds.documents import Document, Provider, document_of, vehicle_of
from bridge.mds.records import (
    Page,
    events_page,
    is_known,
    status_page,
    telemetry_page,
    trips_page,
    vehicles_page,
)
from bridge.mds.stops import stops_of
from bridge.ports import WallClock
from bridge.publication import UUID
from bridge.registry import RegistryDirectory
from bridge.rows.steps import known_since_ms
from bridge.rows.vehicles import load_vehicles
from bridge.store import Store
from protocol.identity import VehicleId

MEDIA_TYPE: Final = "application/vnd.mds+json"
CONTENT_TYPE: Final = f"{MEDIA_TYPE};version=2.0"

VEHICLES_LIMIT: Final = 500
"""Vehicles on one page."""

HOUR_MS: Final = 3_600_000
TWO_WEEKS_MS: Final = 14 * 24 * HOUR_MS

OFF_STREET_MS: Final = 90 * 60_000
"""How long MDS keeps a vehicle that left the street in the list of states."""

TTL_MS: Final = 60_000
"""After what time asking again is worth it: what is read is never older than a batch,
and telemetry of a car at rest comes once a minute."""

EARLIEST_MS: Final = 1_514_764_800_000
"""2018-01-01: MDS knows no time before it."""

LATEST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""

SUPPORTED: Final = "2.0"
"""The version that is answered, as a media type names it: major and minor."""

_NO_VEHICLE: Final = "no vehicle of this fleet has this device_id"

_SERVED: Final = frozenset({SUPPORTED, "2.0.0"})
_ANY: Final = frozenset({"*/*", "application/*", "application/json", MEDIA_TYPE})

Accept = Annotated[str | None, Header(max_length=1_000)]
Hour = Annotated[
    str,
    Query(
        pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
        r"T([01][0-9]|2[0-3])$",
        description="An hour, UTC, such as 2026-11-25T08.",
    ),
]
Instant = Annotated[int, Query(ge=EARLIEST_MS, le=LATEST_MS, description="UTC ms.")]
Following = Annotated[
    str | None,
    Query(
        pattern=r"^[0-9]{1,15}-[0-9]{1,18}$",
        description="Where the page begins; from links.next.",
    ),
]
FollowingVehicle = Annotated[
    str | None,
    Query(
        pattern=r"^[A-Z2-7]{26}$",
        description="The vehicle before the page; from links.next.",
    ),
]
DeviceId = Annotated[str, Path(pattern=UUID)]

_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "As MDS 2.0 has it.",
        "content": {MEDIA_TYPE: {"schema": {"type": "object"}}},
    }
}


def add_mds(
    app: FastAPI,
    provider: Provider,
    store: Store,
    registry: RegistryDirectory,
    now: WallClock,
    *,
    figures: Figures,
) -> None:
    """Add the routes to the application."""
    reads = Turns(store)
    _add_vehicles(app, provider, reads, registry, now)
    hours = Hours(reads, CONTENT_TYPE, figures=figures)
    _add_history(app, provider, reads, now, hours=hours)
    _add_stops(app, provider, reads, registry, now)

    @app.get("/mds/events/recent", response_class=Response, responses=_ANSWERS)
    async def recent_events(
        request: Request,
        start_time: Instant,
        end_time: Instant,
        page: Following = None,
        accept: Accept = None,
    ) -> Response:
        """List what happened to vehicles within the last two weeks."""
        require_version(accept)
        if start_time < now() - TWO_WEEKS_MS or end_time <= start_time:
            raise _wrong(
                "span-not-recent",
                "start_time",
                "must lie within the last two weeks, and before end_time",
            )
        found = await reads.look(
            lambda c: events_page(c, provider, start_time, end_time, after=page)
        )
        return _answer(request, "events", found)


def _add_vehicles(
    app: FastAPI,
    provider: Provider,
    reads: Turns,
    registry: RegistryDirectory,
    now: WallClock,
) -> None:
    def page_of(after: str | None) -> tuple[list[VehicleId], str | None]:
        names = [v for v in registry.current if after is None or str(v) > after]
        page = names[:VEHICLES_LIMIT]
        return page, str(page[-1]) if len(names) > len(page) else None

    def registered(device: str) -> VehicleId | None:
        vehicle_id = vehicle_of(device)
        return vehicle_id if vehicle_id in registry.current else None

    @app.get("/mds/vehicles", response_class=Response, responses=_ANSWERS)
    async def list_mds_vehicles(
        request: Request, page: FollowingVehicle = None, accept: Accept = None
    ) -> Response:
        """List vehicles, with what of them seldom changes."""
        require_version(accept)
        names, following = page_of(page)
        found = await reads.look(lambda c: vehicles_page(c, provider, names))
        found_page = Page(found, following)
        return _answer(request, "vehicles", found_page, now=now())

    @app.get("/mds/vehicles/status", response_class=Response, responses=_ANSWERS)
    async def list_mds_status(
        request: Request, page: FollowingVehicle = None, accept: Accept = None
    ) -> Response:
        """List how vehicles are: the last event and the last known position."""
        require_version(accept)
        names, following = page_of(page)
        gone_ms = now() - OFF_STREET_MS
        found = await reads.look(
            lambda c: status_page(c, provider, names, gone_ms=gone_ms)
        )
        found_page = Page(found, following)
        return _answer(request, "vehicles_status", found_page, now=now())

    @app.get(
        "/mds/vehicles/status/{device_id}",
        response_class=Response,
        responses=_ANSWERS,
    )
    async def get_mds_status(
        request: Request, device_id: DeviceId, accept: Accept = None
    ) -> Response:
        """Return how one vehicle is."""
        require_version(accept)
        vehicle_id = registered(device_id)
        if vehicle_id is None:
            raise _unknown(_NO_VEHICLE)
        found = await reads.look(lambda c: status_page(c, provider, [vehicle_id]))
        if not found:
            raise _unknown("nothing, or no position, is known of this vehicle yet")
        found_page = Page(found, None)
        return _answer(request, "vehicles_status", found_page, now=now())

    @app.get("/mds/vehicles/{device_id}", response_class=Response, responses=_ANSWERS)
    async def get_mds_vehicle(
        request: Request, device_id: DeviceId, accept: Accept = None
    ) -> Response:
        """Return one vehicle, also one that is sold: its events are still told."""
        require_version(accept)
        wanted = vehicle_of(device_id)
        if registered(device_id) is None and not await reads.look(
            lambda c: is_known(c, wanted)
        ):
            raise _unknown(_NO_VEHICLE)
        found = await reads.look(lambda c: vehicles_page(c, provider, [wanted]))
        found_page = Page(found, None)
        return _answer(request, "vehicles", found_page, now=now())


def _add_history(
    app: FastAPI, provider: Provider, reads: Turns, now: WallClock, *, hours: Hours
) -> None:
    async def whole(
        request: Request, name: str, hour: tuple[str, str], pages: Callable[..., Page]
    ) -> Response:
        since_ms = _past_hour(*hour, now())
        until_ms = since_ms + HOUR_MS
        read = partial(pages, provider=provider, since_ms=since_ms, until_ms=until_ms)
        require_known = partial(_require_known, until_ms=until_ms)
        caller = principal_in(request.scope).name
        return await hours.answer(caller, name, read, require_known)

    @app.get("/mds/trips", response_class=Response, responses=_ANSWERS)
    async def list_mds_trips(
        request: Request, end_time: Hour, accept: Accept = None
    ) -> Response:
        """List trips that ended in an hour that is over, all in one answer."""
        require_version(accept)
        return await whole(request, "trips", ("end_time", end_time), trips_page)

    @app.get("/mds/events/historical", response_class=Response, responses=_ANSWERS)
    async def list_mds_events(
        request: Request, event_time: Hour, accept: Accept = None
    ) -> Response:
        """List what happened to vehicles in an hour that is over, in one answer."""
        require_version(accept)
        hour = ("event_time", event_time)
        return await whole(request, "events", hour, events_page)

    @app.get("/mds/telemetry", response_class=Response, responses=_ANSWERS)
    async def list_mds_telemetry(
        request: Request,
        telemetry_time: Hour,
        page: Following = None,
        accept: Accept = None,
    ) -> Response:
        """List where free vehicles were in an hour, as far as it is kept."""
        require_version(accept)
        since_ms = _hour("telemetry_time", telemetry_time)
        until_ms = since_ms + HOUR_MS
        found = await reads.look(
            lambda c: telemetry_page(c, provider, since_ms, until_ms, after=page)
        )
        return _answer(request, "telemetry", found)


def _add_stops(
    app: FastAPI,
    provider: Provider,
    reads: Turns,
    registry: RegistryDirectory,
    now: WallClock,
) -> None:
    async def found_stops() -> list[Document]:
        states = await reads.look(lambda c: load_vehicles(c, registry.current))
        return stops_of(provider, states, now=now())

    @app.get("/mds/stops", response_class=Response, responses=_ANSWERS)
    async def list_mds_stops(request: Request, accept: Accept = None) -> Response:
        """List places where cars have room of their own, and who stands there."""
        require_version(accept)
        page = Page(await found_stops(), None)
        return _answer(request, "stops", page, now=now())

    @app.get("/mds/stops/{stop_id}", response_class=Response, responses=_ANSWERS)
    async def get_mds_stop(
        request: Request, stop_id: DeviceId, accept: Accept = None
    ) -> Response:
        """Return one of them."""
        require_version(accept)
        wanted = [stop for stop in await found_stops() if stop["stop_id"] == stop_id]
        if not wanted:
            raise _unknown("no stop of this fleet has this stop_id")
        return _answer(request, "stops", Page(wanted, None), now=now())


def require_version(accept: str | None) -> None:
    """Refuse a caller who asks for a version that is not served.

    Raises:
        ProblemError: 406.
    """
    if accept is None or not accept.strip():
        return
    for wanted in accept.lower().split(","):
        name, *parameters = (part.strip() for part in wanted.split(";"))
        values = dict(part.partition("=")[::2] for part in parameters)
        if re.fullmatch(r"0(\.0*)?", values.get("q", "1")):
            continue
        version = values.get("version", "2.0").strip('"')
        if name in _ANY and (name != MEDIA_TYPE or version in _SERVED):
            return
    raise ProblemError(
        HTTPStatus.NOT_ACCEPTABLE,
        "version-not-served",
        f"this bridge answers {CONTENT_TYPE}",
        members={"supported_versions": [SUPPORTED]},
    )


def _hour(field: str, text: str) -> int:
    try:
        instant = datetime.strptime(text, "%Y-%m-%dT%H").replace(tzinfo=UTC)
    except ValueError as error:
        problem = "the month has no such day"
        raise _wrong("no-such-hour", field, problem) from error
    return round(instant.timestamp() * 1000)


def _past_hour(field: str, text: str, now: int) -> int:
    since_ms = _hour(field, text)
    if since_ms + HOUR_MS > now:
        raise _unknown("this hour is not over")
    return since_ms


def _require_known(connection: Connection, *, until_ms: int) -> None:
    first_ms = known_since_ms(connection)
    if first_ms is None or until_ms <= first_ms:
        raise _unknown("nothing is known of this hour")


def _wrong(kind: str, field: str, problem: str) -> ProblemError:
    return ProblemError(
        HTTPStatus.BAD_REQUEST,
        kind,
        f"{field}: {problem}",
        errors=[{"field": field, "in": "query", "problem": problem}],
    )


def _unknown(why: str) -> ProblemError:
    return ProblemError(HTTPStatus.NOT_FOUND, "not-known", why)


def _answer(
    request: Request, name: str, page: Page, *, now: int | None = None
) -> Response:
    """Return a page."""
    following = None
    if page.next is not None:
        following = str(request.url.include_query_params(page=page.next))
    document = document_of(name, page.documents, following=following)
    if now is not None:
        document |= {"last_updated": now, "ttl": TTL_MS}
    return Response(msgspec.json.encode(document), media_type=CONTENT_TYPE)
