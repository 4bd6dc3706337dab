"""The API over real HTTP on loopback: answers, problems, and no 5xx on bad input."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from bridge.api.access import BODY_LIMIT
from certs.fleet import FleetDirectory
from protocol.codes import Code, Executed, FrameClass, Opcode
from protocol.hello import Capability
from tests.bridge.car import RENTAL, REPORT
from tests.bridge.running import Json, Running, running_bridge, until
from tests.bridge.test_every_order import BODIES

pytestmark = pytest.mark.broker

UNLOCK: Json = {"kind": "unlock", "rental_id": RENTAL.hex()}


@pytest.fixture
async def running(fleet: FleetDirectory, tmp_path: Path) -> AsyncIterator[Running]:
    async with running_bridge(fleet, tmp_path) as made:
        yield made


async def test_the_fleet_is_listed_in_pages(running: Running) -> None:
    seen: list[str] = []
    path: str | None = "/v1/vehicles?limit=1"
    while path is not None:
        status, page = await running.get(path)
        assert status == 200
        seen += [vehicle["id"] for vehicle in page["vehicles"]]
        after = page["next"]
        path = None if after is None else f"/v1/vehicles?limit=1&after={after}"

    assert len(seen) == 3
    assert seen == sorted(str(v) for v in (await vehicle_ids(running)))


async def vehicle_ids(running: Running) -> list[str]:
    _, page = await running.get("/v1/vehicles?limit=200")
    return [vehicle["id"] for vehicle in page["vehicles"]]


async def test_a_vehicles_state_has_its_times_field_by_field(running: Running) -> None:
    await running.say(FrameClass.HELLO, running.car.hello())

    status, vehicle = await running.get(f"/v1/vehicles/{running.car.id}")

    assert status == 200
    assert vehicle["online"] is True
    assert vehicle["session"]["boot_counter"] == 1
    assert vehicle["session"]["firmware"] == "0.1.0"
    assert "unlock" in vehicle["capabilities"]
    assert vehicle["state"]["energy_pct"] == {
        "value": 60,
        "observed": "2027-01-15T08:00:00.000Z",
        "received": "2027-01-15T08:00:00.000Z",
        "age_s": 0,
        "stale": False,
    }


async def test_a_command_waits_for_its_signed_outcome(running: Running) -> None:
    await running.say(FrameClass.HELLO, running.car.hello())

    waiting = asyncio.create_task(running.order(UNLOCK, params={"wait_s": "20"}))
    frame = await running.broker.next_sent(FrameClass.CMD)
    await running.say(FrameClass.RESULT, running.car.result(frame))
    status, command = await waiting

    assert status == 200
    assert command["state"] == "succeeded"
    assert command["is_final"] is True
    assert (command["code"], command["executed"]) == ("ok", "yes")
    assert command["snapshot"]["mode"] == "available"
    assert command["frames"]["command"]
    assert command["frames"]["result"]
    assert command["kind"] == "unlock"
    assert command["rental_id"] == RENTAL.hex()


async def test_a_command_without_an_answer_is_not_called_failed(
    running: Running,
) -> None:
    # I-11
    await running.say(FrameClass.HELLO, running.car.hello())

    status, command = await running.order(UNLOCK, params={"wait_s": "0.05"})

    assert status == 202
    assert command["state"] == "published"
    assert command["is_final"] is False
    assert "not known" in command["meaning"]


async def test_a_late_outcome_is_found_by_the_commands_id(running: Running) -> None:
    await running.say(FrameClass.HELLO, running.car.hello())
    _, command = await running.order(UNLOCK)
    frame = await running.broker.next_sent(FrameClass.CMD)

    waiting = asyncio.create_task(
        running.get(f"/v1/commands/{command['id']}?wait_s=20")
    )
    refusal = running.car.result(frame, Code.DOOR_OPEN, executed=Executed.NO)
    await running.say(FrameClass.RESULT, refusal)
    status, settled = await waiting

    assert status == 200
    assert (settled["state"], settled["code"]) == ("rejected", "door_open")


async def test_every_kind_of_order_is_taken(running: Running) -> None:
    await running.say(FrameClass.HELLO, running.car.hello())

    for kind, body in BODIES.items():
        status, command = await running.order({"kind": kind, **body})
        assert (status, command["kind"]) == (202, kind), command

    assert len(running.commands()) == len(BODIES)


async def test_an_offline_vehicle_is_a_conflict_and_nothing_is_sent(
    running: Running,
) -> None:
    status, problem = await running.order(UNLOCK)

    assert status == 409
    assert problem["type"] == "urn:freefloat:problem:vehicle-offline"
    assert running.broker.sent_of(FrameClass.CMD) == []


async def test_what_a_vehicle_does_not_understand_is_a_conflict_that_names_it(
    running: Running,
) -> None:
    """Every kind of order; of two in one the part that is missing."""
    hello = running.car.hello(capabilities=(Capability(int(Opcode.LOCK), 1),))
    await running.say(FrameClass.HELLO, hello)
    parts = {"unlock_and_enable": "unlock", "lock_and_disable": "engine_hold"}

    for kind, body in BODIES.items():
        status, answer = await running.order({"kind": kind, **body})
        if kind == "lock":
            assert status == 202
            continue
        missing = parts.get(kind, kind)
        assert (status, answer["capability"]) == (409, missing)
        assert answer["type"] == "urn:freefloat:problem:unsupported-capability"
        assert missing in answer["detail"]
        assert answer["errors"][0]["field"] == "kind"

    assert len(running.commands()) == 1


async def test_a_repeated_request_with_one_key_sends_one_command(
    running: Running,
) -> None:
    await running.say(FrameClass.HELLO, running.car.hello())
    headers = {"Idempotency-Key": "tap-1"}

    _, first = await running.order(UNLOCK, headers=headers)
    _, second = await running.order(UNLOCK, headers=headers)
    status, problem = await running.order({"kind": "ping"}, headers=headers)

    assert first["id"] == second["id"]
    assert len(running.commands()) == 1
    # Row 33: what contradicts an earlier order is a conflict with it.
    assert status == 409
    assert problem["type"] == "urn:freefloat:problem:idempotency-key-reused"
    assert (problem["errors"][0]["field"], problem["errors"][0]["in"]) == (
        "Idempotency-Key",
        "header",
    )


async def test_a_rental_is_told_with_its_report_and_receipt(running: Running) -> None:
    await running.say(FrameClass.EVENT, running.car.event(REPORT))

    status, rental = await running.get(f"/v1/rentals/{RENTAL.hex()}")

    assert status == 200
    assert rental["state"] == "ended"
    assert rental["report"]["driving_min"] == 20
    assert rental["evidence"]["receipt"]["state"] in {"due", "signed"}


async def test_without_a_key_nothing_is_told(running: Running) -> None:
    async with aiohttp.ClientSession() as stranger:
        for headers in ({}, {"X-Api-Key": "x" * 43}):
            url = f"{running.bridge.api_url}/v1/vehicles"
            async with stranger.get(url, headers=headers) as response:
                problem = await response.json(content_type=None)
                assert response.status == 401
                assert response.content_type == "application/problem+json"
                assert problem["type"] == "urn:freefloat:problem:api-key-required"


async def test_readiness_looks_at_the_store(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bridge whose transactions do not commit takes nothing (row 26)."""
    monkeypatch.setattr(running.bridge.store, "_is_open", False)
    status, answer = await running.get("/ready")
    monkeypatch.undo()

    assert status == 503
    assert answer["waiting_for"] == {"store": "the store is not open"}
    assert (await running.get("/ready"))[0] == 200


async def test_readiness_looks_at_the_broker(running: Running) -> None:
    status, answer = await running.get("/ready")
    assert status == 200
    assert answer["ready"]
    assert answer["waiting_for"] == {}

    running.broker.is_down = True
    running.broker.cut()
    await until(lambda: running.broker.link is None)
    status, answer = await running.get("/ready")

    assert status == 503
    assert "broker" in answer["waiting_for"]
    assert await running.get("/health") == (200, {"status": "alive"})


RESERVE: Json = {
    "kind": "reserve",
    "rental_id": RENTAL.hex(),
    "hold_s": 900,
    "pin": "4711",
}


@pytest.mark.parametrize(
    ("body", "field", "bound"),
    [
        ({**RESERVE, "hold_s": 0}, "hold_s", {"ge": 1}),
        ({**RESERVE, "hold_s": 10**30}, "hold_s", {"le": 86_400}),
        ({**RESERVE, "hold_s": "900"}, "hold_s", None),
        ({**RESERVE, "hold_s": 1.5}, "hold_s", None),
        ({**RESERVE, "hold_s": True}, "hold_s", None),
        ({**RESERVE, "pin": "73a1"}, "pin", {"pattern": "^[0-9]{4,8}$"}),
        ({**RESERVE, "pin": 73_219}, "pin", None),
        ({**RESERVE, "cards": ["xyz"]}, "cards.0", ...),
        ({**RESERVE, "cards": ["04a1b2c3"] * 5}, "cards", {"max_length": 4}),
        ({**RESERVE, "language": "DE"}, "language", ...),
        ({**RESERVE, "colour": 1}, "colour", None),
        ({**RESERVE, "\ud800": 1}, "body", None),
        ({**RESERVE, "rental_id": RENTAL.hex().upper()}, "rental_id", ...),
        ({**RESERVE, "rental_id": "0" * 32}, "body", None),
        ({"kind": "unlock"}, "rental_id", None),
        ({**UNLOCK, "expected_version": 2**32}, "expected_version", ...),
        ({**UNLOCK, "kind": "open sesame"}, "kind", ...),
        ({"rental_id": None}, "kind", None),
        ({"kind": "flash_hazards", "seconds": 31}, "seconds", {"le": 30}),
        ({"kind": "lock", "rental_id": None, "mode": "x"}, "mode", ...),
        ([], "body", None),
        ("unlock", "body", None),
        (None, "body", None),
    ],
)
async def test_a_bad_order_is_a_problem_that_names_field_and_bound(
    running: Running, body: object, field: str, bound: object
) -> None:
    await running.say(FrameClass.HELLO, running.car.hello())

    status, problem = await running.order(body)

    assert status == 422, problem
    assert problem["type"] == "urn:freefloat:problem:invalid-request"
    error = problem["errors"][0]
    assert error["field"] == field
    if bound is None:
        assert "bound" not in error
    elif bound is not ...:
        assert error["bound"] == bound
    assert running.broker.sent_of(FrameClass.CMD) == []
    # What came is not repeated: it may be a PIN.
    said = json.dumps(problem)
    for value in ("73a1", "73219", "open sesame", "4711"):
        assert value not in said


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/vehicles/not-an-id", 422),
        (f"/v1/vehicles/{'A' * 26}", 404),
        ("/v1/vehicles?limit=0", 422),
        ("/v1/vehicles?limit=201", 422),
        ("/v1/vehicles?after=%00", 422),
        (f"/v1/commands/{'0' * 32}", 404),
        ("/v1/commands/zz", 422),
        (f"/v1/commands/{'0' * 32}?wait_s=31", 422),
        (f"/v1/commands/{'0' * 32}?wait_s=nan", 422),
        (f"/v1/commands/{'0' * 32}?wait_s=-1", 422),
        (f"/v1/rentals/{'0' * 32}", 404),
        ("/v1/rentals/%ff%fe", 422),
        ("/nowhere", 404),
    ],
)
async def test_a_bad_path_or_query_is_a_problem(
    running: Running, path: str, status: int
) -> None:
    answered, problem = await running.get(path)

    assert answered == status, problem
    assert problem["status"] == status
    assert problem["type"].startswith("urn:freefloat:problem:")


async def test_bodies_that_are_no_json_are_problems(running: Running) -> None:
    path = f"/v1/vehicles/{running.car.id}/commands"
    headers = {"Content-Type": "application/json"}

    for data in (b"", b"{", b"\xff\xfe", b'{"kind":' * 5000, b"[" * 10_000, b"NaN"):
        status, problem = await running.post(path, data=data, headers=headers)
        assert status in {400, 413, 422}, (data[:20], problem)
        assert status == 413 or problem["type"].endswith(":invalid-request")
        assert status == 413 or problem["errors"][0]["field"] == "body", problem
        assert problem["type"].startswith("urn:freefloat:problem:")


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
    ],
)
async def test_a_body_that_is_not_said_to_be_json_is_a_problem_of_its_header(
    running: Running, kind: str
) -> None:
    """Issue 5: curl says form-urlencoded if nobody tells it otherwise."""
    path = f"/v1/vehicles/{running.car.id}/commands"

    status, problem = await running.post(
        path, data=b'{"kind": "ping"}', headers={"Content-Type": kind}
    )

    assert status == 415
    assert problem["type"] == "urn:freefloat:problem:unsupported-media-type"
    assert problem["errors"][0]["field"] == "content-type"


async def test_a_large_body_is_refused_whether_or_not_it_says_its_length(
    running: Running,
) -> None:
    path = f"/v1/vehicles/{running.car.id}/commands"

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 1024

    status, problem = await running.post(path, data=b" " * 100_000)
    assert (status, problem["type"]) == (413, "urn:freefloat:problem:body-too-large")
    assert problem["errors"][0]["bound"] == {"max_length": BODY_LIMIT}
    headers = {"Content-Type": "application/json"}
    status, problem = await running.post(path, data=chunks(), headers=headers)
    assert (status, problem["type"]) == (413, "urn:freefloat:problem:body-too-large")
    assert problem["errors"][0]["field"] == "body"


@pytest.mark.parametrize(
    ("path", "unknown"),
    [
        ("/v1/events?from=5", "from"),
        ("/v1/vehicles?limit=1&Limit=2", "Limit"),
        ("/v1/gaps?limit=1", "limit"),
    ],
)
async def test_a_parameter_that_a_route_does_not_have_is_named(
    running: Running, path: str, unknown: str
) -> None:
    """Issue 5: what is passed over in silence is taken for granted by who wrote it."""
    status, problem = await running.get(path)

    assert status == 422
    assert [(one["field"], one["in"]) for one in problem["errors"]] == [
        (unknown, "query")
    ]


async def test_an_order_with_a_misspelt_parameter_is_not_given(
    running: Running,
) -> None:
    """L10: `retryof` passed over would order a second time."""
    await running.say(FrameClass.HELLO, running.car.hello())
    path = f"/v1/vehicles/{running.car.id}/commands?retryof={'0' * 32}"

    status, problem = await running.post(path, json={"kind": "ping"})

    assert (status, problem["errors"][0]["field"]) == (422, "retryof")
    assert running.commands() == []


async def test_who_watches_may_add_parameters_of_their_own(running: Running) -> None:
    """Caches and monitors are asked past what they keep in this way."""
    assert (await running.get("/health?t=1"))[0] == 200


async def test_head_is_answered_as_get_is_and_without_a_body(running: Running) -> None:
    """RFC 9110, 9.1: load balancers and monitors ask so; a stream has no end."""
    url, no_key = running.bridge.api_url, {"X-Api-Key": "no key at all"}

    for path, headers, status in (
        ("/health", {}, 200),
        ("/ready", {}, 200),
        ("/v1/vehicles", {}, 200),
        ("/v1/vehicles", no_key, 401),
        ("/v1/events", {}, 405),
        ("/v1/approvals/" + "0" * 32 + "/approve", {}, 405),
        ("/nope", {}, 404),
    ):
        async with running.client.head(url + path, headers=headers) as answer:
            assert (answer.status, await answer.read()) == (status, b""), path
            assert int(answer.headers["Content-Length"]) > 0


async def test_a_wrong_method_is_a_problem(running: Running) -> None:
    async with running.client.delete(f"{running.bridge.api_url}/v1/vehicles") as answer:
        assert answer.status == 405
        assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("path", ["/v1/vehicles/", "/health/", "/mds/vehicles/"])
async def test_no_caller_is_led_elsewhere_with_the_key(
    running: Running, path: str
) -> None:
    """S2: behind a proxy with TLS a redirection would lead to plain HTTP."""
    url = running.bridge.api_url + path
    async with running.client.get(url, allow_redirects=False) as answer:
        problem = await answer.json(content_type=None)

    assert (answer.status, problem["type"]) == (404, "urn:freefloat:problem:not-found")
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    ("path", "field"),
    [("/v1/approvals", "vehicle_ids.1"), ("/v1/gaps/accept", "gaps.1.vehicle_id")],
)
async def test_of_many_vehicles_the_one_that_is_unknown_is_named(
    running: Running, path: str, field: str
) -> None:
    # K19
    cars = [str(running.car.id), "A" * 26]
    span = {"ledger_id": "0" * 16, "first": 1, "last": 2}
    body = (
        {"vehicle_ids": cars, "order": {"kind": "ping"}}
        if path == "/v1/approvals"
        else {"gaps": [{"vehicle_id": car, **span} for car in cars], "reason": "gone"}
    )
    status, problem = await running.post(path, json=body)

    assert (status, problem["type"]) == (404, "urn:freefloat:problem:unknown-vehicle")
    assert [(one["field"], one["in"]) for one in problem["errors"]] == [(field, "body")]


async def test_a_strange_idempotency_key_is_a_problem(running: Running) -> None:
    status, problem = await running.order(
        UNLOCK, headers={"Idempotency-Key": "x" * 129}
    )

    assert status == 422
    assert problem["errors"][0]["field"].lower() == "idempotency-key"


async def test_the_api_describes_itself(running: Running) -> None:
    status, document = await running.get("/openapi.json")

    assert status == 200
    assert document["openapi"].startswith("3.1")
    assert "/v1/vehicles/{vehicle_id}/commands" in document["paths"]
