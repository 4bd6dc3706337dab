"""The OpenAPI document is valid, and no input, described or not, ends in a 5xx."""

import asyncio
import json
import re
import sys
from pathlib import Path

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from bridge.mds.documents import Provider, device_id
from bridge.settings import Settings
from bridge.stations import Station
from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.car import RENTAL, REPORT
from tests.bridge.publishing import GBFS, MDS, STATIONS
from tests.bridge.running import Running, running_bridge
from tests.bridge.test_sinks_api import with_lines
from tests.depth import DEEP, times

pytestmark = pytest.mark.broker

EXAMPLES = times(1, deep=50)
"""For each route, beside those at every bound."""

CHECKS = "not_a_server_error,content_type_conformance"

BODIES = (
    b"",
    b"{",
    b"\x00",
    b"\xff\xfe",
    b"NaN",
    b"1e999",
    b"[" * 10_000,
    b"9" * 10_000,
    b'{"kind": "\\ud800"}',
    b'{"\\udfff": 1}',
    b'{"first": 1e400, "last": 1e400}',
    b'{"position": 99999999999999999999999999}',
    b'{"since": "9999-12-31T23:59:59.999999-23:59"}',
    b'{"since": "0001-01-01T00:00:00+23:59"}',
)
CONTENT_TYPES = (
    "application/json",
    "application/xml",
    "multipart/form-data",
    "application/json; charset=nonsense",
    "text/plain; charset=utf-16",
    ";;;",
)


def with_everything(fleet: FleetDirectory, folder: Path) -> Settings:
    """Return settings with a sink `lines` and all that can be published."""
    made = with_lines(fleet, folder)
    return msgspec.structs.replace(made, mds=MDS, gbfs=GBFS, stations=STATIONS)


async def test_the_description_of_the_api_is_valid_openapi(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    settings = with_everything(fleet, tmp_path)
    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        _status, document = await running.get("/openapi.json")

    errors = list(OpenAPIV31SpecValidator(document).iter_errors())
    assert errors == []
    assert "ValidationError" not in json.dumps(document), "we answer problems"


async def try_every_route(
    running: Running, folder: Path, known: dict[str, object]
) -> str:
    """Let schemathesis try every route, and return what it said."""
    config = folder / "schemathesis.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in known.items()]
    config.write_text("\n".join(["[parameters]", *lines]))
    key = (folder / "api.keys").read_text().strip()
    # Ids that nobody has end at the same few lines: the bounds are enough there.
    phases = "examples,coverage,fuzzing" if known else "coverage"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "from schemathesis.cli import schemathesis as s; s()"),
        *("--config-file", config, "run", f"{running.bridge.api_url}/openapi.json"),
        *("--header", f"X-Api-Key: {key}", "--checks", CHECKS),
        *("--phases", phases, "--seed", "1", "--no-color"),
        *("--exclude-path", "/v1/events"),  # has no end; test_event_stream tries it
        *("--max-examples", str(EXAMPLES), "--request-timeout", "60"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.mark.parametrize("has_known_ids", [True, *([False] if DEEP else [])])
async def test_what_schemathesis_makes_of_the_description_ends_in_no_server_error(
    fleet: FleetDirectory, tmp_path: Path, has_known_ids: bool
) -> None:
    # K19
    # What is published has no ids of its own but devices: once is enough.
    made = with_everything if has_known_ids else with_lines
    settings = made(fleet, tmp_path)
    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        await running.say(FrameClass.EVENT, running.car.event(REPORT))
        await running.say(FrameClass.EVENT, b"no frame at all")
        _status, command = await running.order({"kind": "ping"})
        known = {
            "vehicle_id": str(running.car.id),
            "command_id": command["id"],
            "rental_id": RENTAL.hex(),
            "letter_id": 1,
            "name": "lines",
            "wait_s": 0,
            "device_id": device_id(running.car.id),
            "stop_id": Provider(MDS, STATIONS).stop_id(Station.of(STATIONS[0])),
            "feed": "vehicle_status",
            "end_time": "2027-01-15T07",
            "event_time": "2027-01-15T07",
        }
        _status, document = await running.get("/openapi.json")

        said = await try_every_route(running, tmp_path, known if has_known_ids else {})

    routes = sum(len(methods) for methods in document["paths"].values())
    assert re.search(rf"Tested: {routes - 1}$", said, re.MULTILINE), said


async def test_bodies_that_no_description_allows_end_in_no_server_error(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    # K19
    settings = with_everything(fleet, tmp_path)
    async with running_bridge(fleet, tmp_path, settings=settings) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        _status, document = await running.get("/openapi.json")
        paths = [
            (
                method,
                path.format(
                    vehicle_id=running.car.id,
                    name="lines",
                    kind="stations",
                    letter_id=1,
                    approval_id="0" * 32,
                    command_id="0" * 32,
                    rental_id="0" * 32,
                ),
            )
            for path, methods in document["paths"].items()
            for method in {"post", "put"} & set(methods)
        ]
        assert len(paths) >= 5
        for method, path in paths:
            for body in BODIES:
                for content_type in CONTENT_TYPES:
                    async with running.client.request(
                        method,
                        running.bridge.api_url + path,
                        data=body,
                        headers={"Content-Type": content_type},
                    ) as answer:
                        about = (method, path, body[:40], content_type)
                        assert answer.status < 500, about
                        if answer.status >= 400:
                            assert answer.content_type == "application/problem+json"
                            problem = await answer.json(content_type=None)
                            assert problem["status"] == answer.status, about
