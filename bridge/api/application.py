"""The API's routes.

Every answer about a command says what is known and how: a command that is not answered
in time is "unknown", never "failed" (I-11).
"""

import contextlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Final, Protocol

from fastapi import Body, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.types import ASGIApp

from bridge.api import forms, problems
from bridge.api.access import Gate, RoleCheck
from bridge.api.approvals import add_approvals
from bridge.api.auditing import Auditor, add_audit
from bridge.api.bodies import CommandBody
from bridge.api.callers import Callers
from bridge.api.description import PROBLEMS, describe
from bridge.api.diagnoses import add_diagnoses
from bridge.api.documents import Document, of_command, of_rental, of_vehicle
from bridge.api.evidence import add_evidence
from bridge.api.explanations import add_explanations
from bridge.api.forms import HexId
from bridge.api.gaps import add_gaps
from bridge.api.gbfs import PATHS, add_gbfs
from bridge.api.heads import Heads
from bridge.api.keys import Role
from bridge.api.letters import Judge, add_letters
from bridge.api.long_polls import while_listening
from bridge.api.mds import add_mds
from bridge.api.parameters import require_known_parameters
from bridge.api.permits import (
    principal_in,
    require_may_take_back,
    require_within_rental,
)
from bridge.api.problems import ProblemError
from bridge.api.registered import Registered, VehicleText
from bridge.api.sinks import add_sinks
from bridge.api.streams import EventStreams, add_streams
from bridge.api.strict_json import StrictJson
from bridge.api.upkeep import Upkeep, add_upkeep
from bridge.approval_desk import ApprovalDesk
from bridge.commands import CommandRecord, Origin
from bridge.dispatch import Dispatcher
from bridge.errors import StoreError, UndecidedError
from bridge.evidence import Archive
from bridge.figures import Figures
from bridge.gbfs.publisher import Publisher
from bridge.mds.documents import Provider
from bridge.ports import RandomBytes, WallClock
from bridge.registry import RegistryDirectory
from bridge.relay import Relay
from bridge.signer import HeldTrust
from bridge.store import Store

WAIT_LIMIT_S: Final = 30
"""Longest long poll; proxies cut idle requests after 60 s."""

PAGE_LIMIT: Final = 200
"""Vehicles on one page."""

OPEN_PATHS: Final = frozenset({"/health", "/ready"})
"""Paths that need no key: they say nothing about vehicles."""

Wait = Annotated[
    float,
    Query(
        ge=0,
        le=WAIT_LIMIT_S,
        allow_inf_nan=False,
        description="Seconds to wait for a signed end.",
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        pattern=r"^[\x21-\x7e]{1,128}$",
        description="Repeating a request with the same key sends nothing again.",
    ),
]
Defer = Annotated[
    int,
    Query(
        ge=0,
        le=86_400,
        description="Seconds that the order may wait, unsigned, for the vehicle.",
    ),
]
RetryOf = Annotated[
    str | None,
    Query(
        pattern=forms.HEX_ID,
        description="The command in whose place this one stands; refused unless it is "
        "proved that the vehicle did not execute that one.",
    ),
]


class Readiness(Protocol):
    """What the bridge depends on."""

    async def conditions(self) -> dict[str, str]:
        """Return what is not as it should be, by name; empty when ready."""

    def warnings(self) -> dict[str, str]:
        """Return what works today and needs somebody soon, by name."""

    def days_left(self) -> dict[str, int]:
        """Return in how many days what ends, the first first."""


def make_application(
    *,
    store: Store,
    registry: RegistryDirectory,
    dispatcher: Dispatcher,
    desk: ApprovalDesk,
    judge: Judge,
    upkeep: Upkeep,
    trust: HeldTrust,
    archive: Archive,
    relays: Sequence[Relay],
    streams: EventStreams,
    readiness: Readiness,
    now: WallClock,
    random_bytes: RandomBytes,
    callers: Callers,
    figures: Figures,
    provider: Provider | None = None,
    publisher: Publisher | None = None,
) -> ASGIApp:
    """Return the API, behind its gate.

    Args:
        store: what is known.
        registry: which vehicles there are.
        dispatcher: takes orders.
        desk: keeps those that need a second person.
        judge: judges dead letters.
        upkeep: looks after the cars.
        trust: says which bundle is the newest.
        archive: makes proofs.
        relays: one for each sink.
        streams: who listens to events.
        readiness: answers ``/ready``.
        now: UTC ms.
        random_bytes: for pings.
        callers: who may call, and how often.
        figures: counts which cities wanted too much at once.
        provider: writes what a city is given; None for no city.
        publisher: has what everybody is given; None for nothing.
    """
    open_paths = OPEN_PATHS
    app = FastAPI(
        title="freefloat bridge",
        version="1",
        description="Vehicles, commands and rentals of one fleet.",
        docs_url=None,
        redoc_url=None,
        # It would lead to http:// behind a proxy, and the caller's key with it.
        redirect_slashes=False,
        responses=PROBLEMS,
        dependencies=[Depends(require_known_parameters)],
    )
    app.router.route_class = StrictJson
    problems.install(app)
    _add_status(app, readiness)
    _add_vehicles(app, store, registry, now)
    _add_commands(app, registry, dispatcher, desk, random_bytes)
    add_approvals(app, desk, registry, random_bytes)
    _add_rentals(app, store, now)
    add_letters(app, store, judge)
    add_diagnoses(app, store)
    add_evidence(app, store, archive)
    add_explanations(app, store, archive)
    add_sinks(app, store, relays, now)
    add_upkeep(
        app,
        store=store,
        registry=registry,
        trust=trust,
        upkeep=upkeep,
        desk=desk,
        now=now,
    )
    add_gaps(app, store=store, registry=registry, desk=desk, now=now)
    add_audit(app, store)
    add_streams(app, store, streams)
    if provider is not None:
        add_mds(app, provider, store, registry, now, figures=figures)
    if publisher is not None:
        add_gbfs(app, publisher)
        open_paths |= PATHS
    describe(app, open_paths=open_paths, has_tokens=callers.tokens is not None)
    gate = Gate(
        Auditor(RoleCheck(app), store, now), callers, open_paths, probed=OPEN_PATHS
    )
    return Heads(gate)


def _add_status(app: FastAPI, readiness: Readiness) -> None:
    @app.get("/health")
    async def health() -> Document:
        """Say that the process answers."""
        return {"status": "alive"}

    @app.get("/ready")
    async def ready() -> JSONResponse:
        """Say whether everything that the bridge depends on is there."""
        wrong = await readiness.conditions()
        status = HTTPStatus.SERVICE_UNAVAILABLE if wrong else HTTPStatus.OK
        return JSONResponse(
            {
                "ready": not wrong,
                "waiting_for": wrong,
                "warnings": readiness.warnings(),
                "days_left": readiness.days_left(),
            },
            int(status),
        )


def _add_vehicles(
    app: FastAPI, store: Store, registry: RegistryDirectory, now: WallClock
) -> None:
    registered = Registered(registry)

    @app.get("/v1/vehicles")
    async def list_vehicles(
        limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT)] = 50,
        after: Annotated[str | None, Query(pattern=r"^[A-Z2-7]{26}$")] = None,
    ) -> Document:
        """List the fleet's vehicles in the order of their ids."""
        names = [v for v in registry.current if after is None or str(v) > after]
        page = names[:limit]
        known = await store.vehicles(page)
        return {
            "vehicles": [of_vehicle(v, known.get(v), now=now()) for v in page],
            "next": str(page[-1]) if len(names) > limit else None,
        }

    @app.get("/v1/vehicles/{vehicle_id}")
    async def get_vehicle(vehicle_id: VehicleText) -> Document:
        """Return one vehicle's last known state, each field with its times."""
        vehicle = registered(vehicle_id)
        return of_vehicle(vehicle, await store.vehicle(vehicle), now=now())


def _add_commands(
    app: FastAPI,
    registry: RegistryDirectory,
    dispatcher: Dispatcher,
    desk: ApprovalDesk,
    random_bytes: RandomBytes,
) -> None:
    registered = Registered(registry)

    @app.post("/v1/vehicles/{vehicle_id}/commands")
    async def post_command(
        request: Request,
        response: Response,
        vehicle_id: VehicleText,
        body: Annotated[CommandBody, Body()],
        *,
        wait_s: Wait = 0,
        idempotency_key: IdempotencyKey = None,
        retry_of: RetryOf = None,
        defer_s: Defer = 0,
    ) -> Document:
        """Order something of a vehicle and wait for its signed outcome."""
        caller = principal_in(request.scope)
        audit_row = request.scope.get("audit_row", 0)
        require_within_rental(caller, body)
        vehicle, order = registered(vehicle_id), body.to_order(random_bytes)
        await desk.admit(
            caller.name,
            vehicle,
            order,
            is_counted=caller.role.includes(Role.OPERATOR),
            idempotency_key=idempotency_key,
            defer_s=defer_s,
            audit_row=audit_row,
        )
        record, is_repeated = await dispatcher.submit(
            vehicle,
            order,
            idempotency_key=idempotency_key,
            wait_s=0,
            retry_of=b"" if retry_of is None else bytes.fromhex(retry_of),
            defer_s=defer_s,
            origin=Origin(audit_row=audit_row, caller=caller.name),
        )
        # It is given: a store that is lost from here on does not undo that.
        if wait_s and not record.state.is_terminal:
            found = dispatcher.find(record.command_id, wait_s=wait_s)
            with contextlib.suppress(StoreError):
                newest = await while_listening(request, found)
                record = newest or record
        response.status_code = int(
            HTTPStatus.OK if record.state.is_terminal else HTTPStatus.ACCEPTED
        )
        response.headers["Location"] = f"/v1/commands/{record.command_id.hex()}"
        if is_repeated:
            response.headers["Idempotency-Replayed"] = "true"
        return of_command(record, await _parts_given(dispatcher, record))

    @app.delete("/v1/commands/{command_id}")
    async def delete_command(request: Request, command_id: HexId) -> Document:
        """Take back a command that waits unsigned for its vehicle."""
        raw = bytes.fromhex(command_id)
        known = await dispatcher.find(raw, wait_s=0)
        if known is not None:
            require_may_take_back(principal_in(request.scope), known)
        record = await dispatcher.cancel(raw)
        if record is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "unknown-command", "no command has this id"
            )
        return of_command(record, await dispatcher.parts_of(record))

    @app.get("/v1/commands/{command_id}")
    async def get_command(
        request: Request, command_id: HexId, wait_s: Wait = 0
    ) -> Document:
        """Return a command, after waiting for its end if it has none yet."""
        raw = bytes.fromhex(command_id)
        record = await dispatcher.find(raw, wait_s=0)
        if record is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND, "unknown-command", "no command has this id"
            )
        if wait_s and not record.state.is_terminal:
            found = dispatcher.find(raw, wait_s=wait_s)
            newest = await while_listening(request, found)
            record = newest or record
        return of_command(record, await dispatcher.parts_of(record))


async def _parts_given(
    dispatcher: Dispatcher, record: CommandRecord
) -> dict[bytes, CommandRecord]:
    """Return the parts of what was just given.

    Raises:
        UndecidedError: they cannot be read; it is given all the same.
    """
    try:
        return await dispatcher.parts_of(record)
    except StoreError as error:
        raise UndecidedError(str(error), command_id=record.command_id) from error


def _add_rentals(app: FastAPI, store: Store, now: WallClock) -> None:
    @app.get("/v1/rentals/{rental_id}")
    async def get_rental(rental_id: HexId) -> Document:
        """Return a rental: its report once it ended, its evidence, its receipt."""
        rental = await store.rental(bytes.fromhex(rental_id))
        if rental is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                "unknown-rental",
                "no vehicle has told of a rental with this id",
            )
        return of_rental(rental)

    @app.post("/v1/rentals/{rental_id}/erase")
    async def erase_places(rental_id: HexId) -> Document:
        """Erase where a rental began, parked and ended; the ledger still verifies."""
        raw = bytes.fromhex(rental_id)
        if await store.rental(raw) is None:
            raise ProblemError(
                HTTPStatus.NOT_FOUND,
                "unknown-rental",
                "no vehicle has told of a rental with this id",
            )
        return {"id": rental_id, "erased": await store.erase_places(raw)}

    @app.post("/v1/rentals/{rental_id}/close")
    async def close_rental(rental_id: HexId) -> Document:
        """Note that a person closed a rental that its car cannot end any more."""
        raw = bytes.fromhex(rental_id)
        if not await store.close_rental(raw, now=now()):
            raise ProblemError(
                HTTPStatus.CONFLICT,
                "rental-not-lost",
                "no rental with this id waits to be closed by hand",
            )
        return await get_rental(rental_id)
