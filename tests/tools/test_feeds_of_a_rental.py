"""A whole rental of an emulated car over a real broker, with the feeds watched."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import pytest

from bridge.settings import Settings
from firmware_emulator.customer import Customer
from firmware_emulator.reader import Card
from firmware_emulator.rental_script import (
    choose_to_end,
    drive,
    end_by_card,
    enter_pin,
    get_in,
    start_engine,
    stop_engine,
    tap_to_open,
)
from firmware_emulator.script import play
from tests.bridge.publishing import GBFS
from tests.published import mistakes_in
from tools.bridge_settings import local_settings
from tools.rig import Rig, open_rig

pytestmark = [pytest.mark.broker, pytest.mark.timeout(200)]

PIN: Final = "2468"
PATIENCE_S: Final = 60
"""A feed is five seconds old at the most, and a machine may be busy."""


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    def with_feeds(*args: Any, **kwargs: Any) -> Settings:
        made = local_settings(*args, **kwargs)
        return msgspec.structs.replace(
            made, gbfs=msgspec.structs.replace(GBFS, ttl_s=5)
        )

    monkeypatch.setattr("tools.rig.local_settings", with_feeds)
    async with open_rig(tmp_path / "rig", cars=1) as system:
        yield system


async def listed(rig: Rig, is_wanted: Callable[[list[str]], bool]) -> list[str]:
    """Read the feed as anybody does until the names are those that are waited for."""
    url = f"{rig.bridge.api_url}/gbfs/3.0/vehicle_status.json"
    async with aiohttp.ClientSession() as anybody, asyncio.timeout(PATIENCE_S):
        while True:
            async with anybody.get(url) as answer:
                document = await answer.json()
            assert mistakes_in(document, "gbfs-3.0/vehicle_status") == []
            names = [car["vehicle_id"] for car in document["data"]["vehicles"]]
            if is_wanted(names):
                return names
            await asyncio.sleep(0.2)


async def test_a_car_is_in_the_feed_before_and_after_its_rental_under_other_names(
    rig: Rig,
) -> None:
    """K25: nobody puts a trip together from the feed."""
    car, card = rig.cars[0], Card(bytes.fromhex("04a1b2c3d4e5f6"))
    [before] = await listed(rig, bool)

    async with (
        aiohttp.ClientSession(
            rig.bridge.api_url, headers={"X-Api-Key": rig.api_key}
        ) as api,
        api.post(
            f"/v1/vehicles/{car.vehicle_id}/commands?wait_s=10",
            json={
                "kind": "reserve",
                "rental_id": secrets.token_hex(16),
                "hold_s": 900,
                "cards": [card.uid.hex()],
                "pin": PIN,
            },
        ) as answer,
    ):
        assert (await answer.json())["state"] == "succeeded"
    assert await listed(rig, lambda names: not names) == []
    customer = Customer(car.devices, card, pin=PIN)
    begin = (tap_to_open(), get_in(), enter_pin(), start_engine(), drive(5.0))
    _begun = [report async for report in play(begin, customer)]
    assert await listed(rig, lambda names: not names) == []
    rest = (stop_engine(), choose_to_end(), end_by_card())
    _ended = [report async for report in play(rest, customer)]
    [after] = await listed(rig, bool)

    assert before != after
    assert str(car.vehicle_id) not in {before, after}
