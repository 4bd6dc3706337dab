"""Who may do what at the API: every role at every route (K28)."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from yarl import URL

from bridge.api.keys import Role
from bridge.audit import ASKED
from bridge.ports import WallClock
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.snapshot import NO_RENTAL
from tests.bridge.car import RENTAL
from tests.bridge.publishing import MDS
from tests.bridge.running import Json, Running, running_bridge
from tests.bridge.world import NOW_MS
from tools.bridge_settings import local_settings

pytestmark = pytest.mark.broker

KEY = {role: f"{role}-".ljust(40, "k") for role in Role}
GRANT = {
    "rental_id": RENTAL.hex(),
    "grant_id": RENTAL.hex(),
    "card": "04a1b2c3",
    "not_before": "2027-01-15T08:00:00Z",
    "not_after": "2027-01-16T08:00:00Z",
    "rights": ["unlock", "drive"],
}
FORBIDDEN = "urn:freefloat:problem:role-forbids"


@pytest.fixture
async def running(fleet: FleetDirectory, tmp_path: Path) -> AsyncIterator[Running]:
    async with bridge_with_roles(fleet, tmp_path) as made:
        yield made


def bridge_with_roles(
    fleet: FleetDirectory,
    folder: Path,
    *,
    more_keys: str = "",
    now: WallClock = lambda: NOW_MS,
    **parts: object,
) -> AbstractAsyncContextManager[Running]:
    """Return a bridge with a key for each role; `parts` replace parts of settings."""
    settings = local_settings(
        fleet.path, state=folder, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
    )
    path = folder / "roles.keys"
    path.touch(mode=0o600)
    path.write_text(
        "".join(f"{role}:{role}:{KEY[role]}\n" for role in Role) + more_keys
    )
    api = msgspec.structs.replace(settings.api, keys_file=str(path))
    settings = msgspec.structs.replace(settings, api=api, mds=MDS, **parts)
    return running_bridge(fleet, folder, settings=settings, now=now)


async def ask(
    running: Running, who: Role | str, method: str, path: str, body: object = None
) -> tuple[int, Json]:
    """Ask with the key of a role, or with one that is given."""
    key = KEY[who] if isinstance(who, Role) else who
    async with (
        aiohttp.ClientSession(headers={"X-Api-Key": key}) as client,
        client.request(method, running.bridge.api_url + path, json=body) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


def least_role(method: str, path: str) -> Role:
    """Say it again, in other words than the code."""
    if path == "/v1/audit":
        return Role.ADMIN
    if path.endswith("/explain"):
        return Role.OPERATOR
    if path.startswith("/mds") or path in {"/health", "/ready"}:
        return Role.AGENCY
    if method == "get":
        return Role.VIEWER
    if path.endswith(("/approve", "/reject")):
        return Role.APPROVER
    return Role.SERVICE if "commands" in path else Role.OPERATOR


MAY = {
    Role.AGENCY: {Role.AGENCY},
    Role.VIEWER: {Role.AGENCY, Role.VIEWER},
    Role.APPROVER: {Role.AGENCY, Role.VIEWER, Role.APPROVER},
    Role.SERVICE: {Role.AGENCY, Role.VIEWER, Role.SERVICE},
    Role.OPERATOR: {Role.AGENCY, Role.VIEWER, Role.SERVICE, Role.OPERATOR},
    Role.ADMIN: set(Role),
}


async def test_every_role_is_let_through_to_exactly_its_routes(
    running: Running,
) -> None:
    """K28: and whatever is asked that is more than reading is written down."""
    _status, document = await ask(running, Role.VIEWER, "get", "/openapi.json")
    tried, changing = 0, set[tuple[str, str]]()
    for template, methods in document["paths"].items():
        path = re.sub(r"\{\w+\}", "x", template)
        for method in methods:
            needed = least_role(method, template)
            for role in Role:
                if template == "/v1/events":
                    continue  # it has no end; tests of the stream look at it
                status, answer = await ask(running, role, method, path, {})
                is_refused = status == 403 and answer["type"] == FORBIDDEN
                may = needed in MAY[role]
                assert is_refused is not may, (role, method, path, answer)
                tried += 1
                if method != "get":
                    changing.add((str(role), f"{method.upper()} {path}"))
    rows, _ = await running.bridge.store.audit_after(0, 10_000)
    asked = [row.entry for row in rows if row.entry.outcome == ASKED]
    assert tried >= 80
    assert changing == {(one.who, " ".join(one.what.split()[:2])) for one in asked}
    assert running.broker.sent_of(FrameClass.CMD) == []


@pytest.mark.parametrize("end", ["%0A", "%0D", "%00", "%7F", "%0A%0A"])
@pytest.mark.parametrize(
    ("role", "method", "path"),
    [
        (Role.VIEWER, "get", "/v1/audit"),
        (Role.SERVICE, "get", f"/v1/commands/{'0' * 32}/explain"),
        (Role.OPERATOR, "post", f"/v1/approvals/{'0' * 32}/approve"),
        (Role.OPERATOR, "post", f"/v1/approvals/{'0' * 32}/reject"),
    ],
)
async def test_a_line_feed_behind_a_path_opens_no_route_to_a_lesser_role(
    running: Running, role: Role, method: str, path: str, end: str
) -> None:
    """K28: a router reads such a path as the one without; who may call it does not."""
    plain, _ = await ask(running, role, method, path)
    where = URL(running.bridge.api_url + path + end, encoded=True)
    async with running.client.request(
        method, where, headers={"X-Api-Key": KEY[role]}
    ) as answer:
        problem = await answer.json(content_type=None)

    assert plain == 403
    assert (answer.status, problem["errors"][0]["field"]) == (400, "path")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "unlock", "rental_id": RENTAL.hex()}, None),
        ({"kind": "engine_hold", "rental_id": RENTAL.hex()}, None),
        ({"kind": "flash_hazards"}, None),
        ({"kind": "ping"}, None),
        ({"kind": "snapshot"}, None),
        ({"kind": "show_message", "text_key": 1}, None),
        ({"kind": "grant", **GRANT}, None),
        ({"kind": "grant", **GRANT, "rights": ["service"]}, "rights"),
        ({"kind": "service", "request": "off"}, "kind"),
        ({"kind": "restart", "component": "reader"}, "kind"),
        ({"kind": "reboot"}, "kind"),
        ({"kind": "unlock", "rental_id": None}, "rental_id"),
        ({"kind": "unlock", "rental_id": NO_RENTAL.hex()}, "rental_id"),
        ({"kind": "unlock_and_enable", "rental_id": NO_RENTAL.hex()}, "rental_id"),
        ({"kind": "set_mode", "mode": "end", "rental_id": "0" * 32}, "rental_id"),
        (
            {"kind": "engine_hold", "rental_id": RENTAL.hex(), "reason": "operator"},
            "reason",
        ),
        ({"kind": "rotate_key"}, "kind"),
    ],
)
async def test_a_service_orders_within_rentals_and_no_more(
    running: Running, body: Json, field: str | None
) -> None:
    # K28
    await running.say(FrameClass.HELLO, running.car.hello())
    path = f"/v1/vehicles/{running.car.id}/commands"

    status, answer = await ask(running, Role.SERVICE, "post", path, body)
    by_operator, _ = await ask(running, Role.OPERATOR, "post", path, body)

    assert by_operator == 202
    if field is None:
        assert status == 202, answer
    else:
        assert (status, answer["type"]) == (403, FORBIDDEN)
        assert answer["errors"][0]["field"] == field
        assert len(running.commands()) == 1


async def test_a_key_of_one_caller_answers_no_other_with_what_that_one_did(
    running: Running,
) -> None:
    """K28, L10: who is told "succeeded" had this done by this very order.

    Two programs that count their orders from 1 meet in their keys soon; twenty calls of
    one caller at the same moment are one order all the same.
    """
    await running.say(FrameClass.HELLO, running.car.hello())
    body = {"kind": "unlock", "rental_id": RENTAL.hex()}

    async def order(role: Role) -> tuple[int, Json]:
        headers = {"X-Api-Key": KEY[role], "Idempotency-Key": "1"}
        return await running.order(body, headers=headers)

    first = await asyncio.gather(*(order(Role.SERVICE) for _ in range(20)))
    other, problem = await order(Role.OPERATOR)
    again, same = await order(Role.SERVICE)

    assert {(status, made["id"]) for status, made in first} == {(202, same["id"])}
    assert (other, again, len(running.commands())) == (409, 202, 1)
    assert problem["type"] == "urn:freefloat:problem:idempotency-key-reused"
    assert problem["errors"][0]["field"] == "Idempotency-Key"
