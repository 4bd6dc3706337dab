"""A request that can be read in two ways is no order (issue 5; K19, row 33)."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.car import RENTAL
from tests.bridge.running import Json, Running, running_bridge

pytestmark = pytest.mark.broker

JSON = {"Content-Type": "application/json"}
RESERVE = f'"kind": "reserve", "rental_id": "{RENTAL.hex()}", "hold_s": 900'
MANY = '"vehicle_ids": ["%s"], "order": {"kind": "ping"}'


@pytest.fixture
async def running(fleet: FleetDirectory, tmp_path: Path) -> AsyncIterator[Running]:
    async with running_bridge(fleet, tmp_path) as made:
        await made.say(FrameClass.HELLO, made.car.hello())
        yield made


async def send(
    running: Running, body: bytes, query: str = "", **headers: str
) -> tuple[int, Json]:
    path = f"/v1/vehicles/{running.car.id}/commands{query}"
    return await running.post(path, data=body, headers=JSON | headers)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ('{"kind": "lock", "rental_id": null, "kind": "unlock"}', ["kind"]),
        # The same value twice is no contradiction, and still no form to rely on.
        ('{"kind": "ping", "kind": "ping"}', ["kind"]),
        (r'{"kind": "ping", "k\u0069nd": "reboot"}', ["kind"]),
        (f'{{{RESERVE}, "pin": "4711", "pin": "4712"}}', ["pin"]),
        (f'{{{RESERVE}, "hold_s": 1, "rental_id": null}}', ["hold_s", "rental_id"]),
        # Also where a field is of another form, or nobody knows it.
        (f'{{{RESERVE}, "cards": [{{"uid": 1, "uid": 2}}]}}', ["cards.0.uid"]),
        ('{"kind": "ping", "lock": {}, "lock": {}}', ["lock"]),
        ('{"kind": "ping", "": 1, "": 2}', [""]),
    ],
)
async def test_a_body_that_names_a_field_twice_orders_nothing(
    running: Running, body: str, fields: list[str]
) -> None:
    """K19: a proxy may have read the other one."""
    status, problem = await send(running, body.encode())

    assert status == 422, problem
    assert problem["type"] == "urn:freefloat:problem:invalid-request"
    told = [(one["field"], one["in"], one["problem"]) for one in problem["errors"]]
    assert sorted(told) == [
        (name or "body", "body", "is given more than once") for name in fields
    ]
    assert running.commands() == []
    assert "471" not in str(problem)


async def test_what_is_named_twice_deep_in_an_order_for_many_is_named_whole(
    running: Running,
) -> None:
    body = (MANY % running.car.id).replace("}", ', "kind": "reboot"}')

    status, problem = await running.post(
        "/v1/approvals", data=f"{{{body}}}".encode(), headers=JSON
    )

    assert status == 422
    assert [one["field"] for one in problem["errors"]] == ["order.kind"]


@pytest.mark.parametrize(
    ("query", "headers", "field", "where"),
    [
        ("?wait_s=0&wait_s=1", [], "wait_s", "query"),
        ("?defer_s=0&defer_s=3600", [], "defer_s", "query"),
        ("", ["tap-1", "tap-2"], "Idempotency-Key", "header"),
    ],
)
async def test_a_parameter_or_a_key_that_is_given_twice_orders_nothing(
    running: Running, query: str, headers: list[str], field: str, where: str
) -> None:
    """Row 33, L10: which of two keys is it that makes a repetition harmless?"""
    url = f"{running.bridge.api_url}/v1/vehicles/{running.car.id}/commands{query}"
    both = [*JSON.items(), *(("Idempotency-Key", key) for key in headers)]
    async with running.client.post(url, data=b'{"kind": "ping"}', headers=both) as got:
        problem = await got.json(content_type=None)

    assert (got.status, got.content_type) == (422, "application/problem+json")
    [error] = problem["errors"]
    assert (error["field"], error["in"]) == (field, where)
    assert error["problem"] == "is given more than once"
    assert running.commands() == []


@pytest.mark.parametrize(
    ("body", "status", "field", "problem"),
    [
        # As Python's reader would guess it.
        ('{"kind": "ping"}'.encode("utf-16"), 400, "body", "not UTF-8"),
        ('{"kind": "ping"}'.encode("utf-16-le"), 400, "body", "not UTF-8"),
        ('{"kind": "ping"}'.encode("utf-32-be"), 400, "body", "not UTF-8"),
        ('{"kind": "größer"}'.encode("latin-1"), 400, "body", "not UTF-8"),
        (b'{"kind": ' + b"[" * 8_000, 400, "body", "nested too deep"),
        (b'{"kind": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", 400, "body", "too deep"),
        (b'{"kind": "ping", "x": ' + b"9" * 5_000 + b"}", 400, "body", "digits"),
        (b'{"kind": "ping"} {"kind": "reboot"}', 400, "body", "not JSON"),
        (f"{{{RESERVE[:-3]}NaN}}".encode(), 422, "hold_s", "integer"),
        (f"{{{RESERVE[:-3]}1e999}}".encode(), 422, "hold_s", "integer"),
        (f'{{{RESERVE}, "x": Infinity}}'.encode(), 422, "x", "not permitted"),
    ],
    ids=[
        *("utf-16", "utf-16-le", "utf-32-be", "latin-1", "cut off in the deep"),
        *("deep", "5000 digits", "two bodies", "NaN", "1e999", "Infinity"),
    ],
)
async def test_a_body_that_cannot_be_read_is_told_why(
    running: Running, body: bytes, status: int, field: str, problem: str
) -> None:
    """K19: each a problem document that names what is wrong, never a 5xx."""
    answered, document = await send(running, body)

    assert answered == status, document
    assert document["type"] == "urn:freefloat:problem:invalid-request"
    assert document["errors"][0]["field"] == field
    assert problem in document["errors"][0]["problem"]
    assert running.commands() == []


async def test_a_body_in_utf_8_with_every_name_once_is_an_order(
    running: Running,
) -> None:
    """The same name in two objects is no repetition."""
    status, _ = await send(running, b'{"kind": "ping"}', "?wait_s=0&defer_s=0")
    body = MANY % running.car.id
    approval, _ = await running.post(
        "/v1/approvals",
        data=f'{{{body}, "note": "größer"}}'.encode(),
        headers=JSON,
    )

    assert (status, approval) == (202, 201)
    assert len(running.commands()) == 1
