"""What keeps cars in step, from our bridge to our car and back, over real brokers."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from firmware_emulator.vehicle import EmulatedVehicle
from protocol.station_list import Station, build_station_list
from tests.tools.command_line import freefloat
from tools.rig import Rig, open_rig

Json = dict[str, Any]

BODY = build_station_list(
    tuple(Station(n, f"No {n}", 480_000_000 + n, 110_000_000) for n in range(250))
)
"""More than 30 chunks."""

pytestmark = [pytest.mark.broker, pytest.mark.timeout(150)]


@pytest.fixture(params=[pytest.param("mosquitto", marks=pytest.mark.mosquitto), "nats"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path / "rig", cars=2, broker=request.param) as system:
        yield system


@pytest.fixture
async def api(rig: Rig) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        rig.bridge.api_url, headers={"X-Api-Key": rig.api_key}
    ) as session:
        yield session


async def get(api: aiohttp.ClientSession, path: str) -> Json:
    async with api.get(path) as answer:
        document: Json = await answer.json()
        return document


async def order(
    api: aiohttp.ClientSession, car: EmulatedVehicle, **body: object
) -> Json:
    path = f"/v1/vehicles/{car.vehicle_id}/commands?wait_s=15"
    async with api.post(path, json=body) as answer:
        document: Json = await answer.json()
        return document


async def order_when_it_is_there(
    api: aiohttp.ClientSession, car: EmulatedVehicle, **body: object
) -> Json:
    """Order after a restart, whose farewell may reach the bridge after we looked."""
    async with asyncio.timeout(60):
        while "state" not in (answer := await order(api, car, **body)):
            assert answer["type"].endswith("vehicle-offline"), answer
            await asyncio.sleep(0.2)
    return answer


async def until(holds: Callable[[], Awaitable[bool]], *, seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():  # noqa: ASYNC110 - another process's state
            await asyncio.sleep(0.1)


async def everybody_online(api: aiohttp.ClientSession) -> None:
    async def holds() -> bool:
        page = await get(api, "/v1/vehicles")
        return all(vehicle["online"] for vehicle in page["vehicles"])

    await until(holds)


async def test_a_configuration_is_brought_to_the_car_and_acted_by(
    rig: Rig, api: aiohttp.ClientSession
) -> None:
    """FF-CFG-07, FF-CFG-08: whole, and told by a ledger entry."""
    await everybody_online(api)
    path = f"/v1/vehicles/{rig.cars[0].vehicle_id}/configurations"
    async with api.put(f"{path}/stations", data=BODY) as answer:
        assert answer.status in {200, 202}, await answer.text()

    async def is_active() -> bool:
        found = (await get(api, path))["configurations"]
        return [one["state"] for one in found] == ["active"]

    await until(is_active)
    await rig.cars[0].restart()
    await everybody_online(api)

    async def is_told() -> bool:
        found = (await get(api, path))["configurations"]
        return [one["vehicle_has"] for one in found] == [1]

    await until(is_told)


async def test_a_new_signer_s_bundle_reaches_every_car_and_both_sides_go_on(
    rig: Rig, api: aiohttp.ClientSession
) -> None:
    """FF-TRU: made by the operator's command, brought over the link, told by hello."""
    await everybody_online(api)
    done = await asyncio.to_thread(
        freefloat, "certs", "trust", "extend", rig.fleet.path
    )
    assert done.returncode == 0, done.stderr

    async def is_everywhere() -> bool:
        trust = await get(api, "/v1/trust")
        return bool(trust["version"] == 2 and not trust["laggards"])

    await until(is_everywhere)
    for car in rig.cars:
        outcome = await order(api, car, kind="ping")
        assert outcome["state"] == "succeeded", outcome


async def test_a_car_changes_its_key_and_its_later_frames_count(
    rig: Rig, api: aiohttp.ClientSession
) -> None:
    """FF-ENR-12, FF-ENR-15: also after a restart, when all it signs is by the new."""
    await everybody_online(api)
    car = rig.cars[0]
    before = (await order(api, car, kind="ping"))["frames"]["result"]

    outcome = await order(api, car, kind="rotate_key")

    assert outcome["state"] == "succeeded", outcome
    await car.restart()
    await everybody_online(api)
    later = await order_when_it_is_there(api, car, kind="ping")
    assert later["state"] == "succeeded", later
    assert key_of(later["frames"]["result"]) != key_of(before)


async def test_entries_that_are_asked_for_again_come_with_the_same_bytes(
    rig: Rig, api: aiohttp.ClientSession
) -> None:
    """FF-SYN: what the car still holds; a duplicate is no fork."""
    await everybody_online(api)
    path = f"/v1/vehicles/{rig.cars[0].vehicle_id}"
    async with api.post(f"{path}/resend", json={"first": 1, "last": 3}) as answer:
        assert answer.status in {200, 202}, await answer.text()
    assert (await order(api, rig.cars[0], kind="ping"))["state"] == "succeeded"

    letters = await get(api, "/v1/dead-letters")
    assert letters["letters"] == []


def key_of(frame: str) -> bytes:
    return base64.b64decode(frame)[28:36]
