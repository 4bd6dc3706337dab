"""What is wrong in a request is named, whatever the route (issue 5; K19).

From the API's own description: every field of every body and every parameter that is
more than text is given something that it cannot be, one at a time.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from bridge.api.keys import Role
from certs.fleet import FleetDirectory
from tests.bridge.publishing import GBFS, STATIONS
from tests.bridge.test_roles import KEY, ask, bridge_with_roles

pytestmark = pytest.mark.broker

WRONG: Final = [[{"no": "value"}]]
"""No field takes a list of lists of objects."""

UNKNOWN: Final = "nobody_knows_this"

NAMES: Final = {"name": "lines", "kind": "stations", "letter_id": "1"}
"""Of paths; all others are ids of 32 digits."""


def bodies_in(
    schema: dict[str, Any], parts: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield each object that a body may be."""
    if "$ref" in schema:
        yield from bodies_in(parts[schema["$ref"].rsplit("/", 1)[1]], parts)
    for kind in ("oneOf", "anyOf"):
        for one in schema.get(kind, ()):
            yield from bodies_in(one, parts)
    if schema.get("type") == "object":
        yield schema


def wrong_bodies(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the name of a field and a body in which it is wrong."""
    properties = schema.get("properties", {})
    fixed = {name: one["const"] for name, one in properties.items() if "const" in one}
    for name in properties.keys() - fixed.keys():
        yield name, {**fixed, name: WRONG}
    if schema.get("additionalProperties") is False:
        yield UNKNOWN, {**fixed, UNKNOWN: 1}
    for name in set(schema.get("required", ())) - fixed.keys():
        yield name, fixed


def is_text(schema: dict[str, Any]) -> bool:
    kinds = [schema, *schema.get("anyOf", ())]
    return all(
        one.get("type") in {"string", "null", None}
        and not one.keys() & {"enum", "pattern", "format", "const"}
        for one in kinds
    )


async def test_every_field_that_is_wrong_is_named(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """K19, issue 5: a problem document that names the field, never a 5xx."""
    tried, unnamed = 0, list[object]()
    async with bridge_with_roles(
        fleet, tmp_path, gbfs=GBFS, stations=STATIONS
    ) as running:
        _, document = await ask(running, Role.ADMIN, "get", "/openapi.json")
        parts = document["components"]["schemas"]

        async def require(method: str, path: str, field: str, **what: Any) -> None:
            nonlocal tried
            tried += 1
            async with running.client.request(
                method,
                running.bridge.api_url + path,
                headers={"X-Api-Key": KEY[Role.ADMIN]},
                **what,
            ) as answer:
                said = await answer.text()
                is_problem = answer.content_type == "application/problem+json"
                assert is_problem or answer.status == 204, (method, path, field, said)
                assert answer.status < 500, (method, path, field, said)
            named = [one["field"] for one in json.loads(said).get("errors", ())]
            if not any(field in one.split(".") for one in named):
                unnamed.append((method, path, field, what, answer.status, said))

        for template, methods in document["paths"].items():
            if template.startswith(("/mds", "/gbfs")):
                continue
            path = template.format_map(Ids(running.car.id))
            for method, route in methods.items():
                body = route.get("requestBody", {}).get("content", {})
                schema = body.get("application/json", {}).get("schema", {})
                for whole in bodies_in(schema, parts):
                    for field, wrong in wrong_bodies(whole):
                        await require(method, path, field, json=wrong)
                for one in route.get("parameters", ()):
                    if one["in"] == "query" and not is_text(one["schema"]):
                        await require(
                            method, path, one["name"], params={one["name"]: "{}"}
                        )

    assert unnamed == []
    assert tried > 100


class Ids(dict[str, str]):
    """What stands in a path's brackets."""

    def __init__(self, vehicle_id: object) -> None:
        super().__init__(NAMES, vehicle_id=str(vehicle_id))

    def __missing__(self, _name: str) -> str:
        return "0" * 32
