"""Networks that are late, slow, broken and wrong, between a real car and broker."""

import asyncio
import re
import sys
from functools import partial
from pathlib import Path

import pytest

from firmware_emulator.chance import seeded
from firmware_emulator.customer import Customer
from firmware_emulator.link import CuttableLink
from firmware_emulator.reader import Card
from firmware_emulator.rental_script import (
    drive,
    end_by_card,
    enter_pin,
    get_in,
    start_engine,
    stop_engine,
    tap_to_open,
)
from firmware_emulator.script import play_step
from firmware_emulator.vehicle import EmulatedVehicle
from firmware_emulator.weather import FAIR, GSM, Weather
from protocol.event import RentalEnded
from tests.orders import HONEST, api_of, note_flashes, order, settled
from tools.rig import open_rig
from transport.link import LinkSettings

CARD = Card(bytes.fromhex("04a1b2c3d4e5f6"))
PIN = "2468"


def link_of(vehicle: EmulatedVehicle) -> CuttableLink:
    assert isinstance(vehicle.link, CuttableLink)
    return vehicle.link


async def in_bad_weather(vehicle: EmulatedVehicle, weather: Weather) -> int:
    """Be in this weather for four connections or some seconds; return how many."""
    link = link_of(vehicle)
    link.weather = weather
    link.cut()
    link.restore()
    first = link.connections
    for _ in range(200):
        if link.connections >= first + 4:
            break
        await asyncio.sleep(0.05)
    link.weather = FAIR
    # What stands would stay as it is: a new one is made in fair weather.
    link.cut()
    link.restore()
    return link.connections - first


def test_a_lost_piece_is_late_and_a_slow_one_takes_its_time() -> None:
    chance = seeded(1, "weather")

    delays = {GSM.delay_s(600, chance) for _ in range(100)}

    assert delays == {1.0, 2.0}
    assert FAIR.delay_s(600, chance) == 0.0


def test_a_spoiled_piece_differs_in_one_bit() -> None:
    data = bytes(range(64))
    weather = Weather(spoiled_one_in=1)

    for seed in range(50):
        other = weather.spoil(data, seeded(seed, "weather"))
        number = int.from_bytes(data, "big") ^ int.from_bytes(other, "big")
        assert number.bit_count() == 1
    assert FAIR.spoil(data, seeded(1, "weather")) == data


def test_a_weather_that_cannot_be_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="latency_s may not be -1"):
        Weather(latency_s=-1)


@pytest.mark.broker
@pytest.mark.timeout(240)
async def test_over_a_slow_and_lossy_network_an_order_is_done_or_honestly_is_not(
    tmp_path: Path,
) -> None:
    # Row 15, I-6, I-11, I-13: a second there and back, 9.6 kbit/s, a fifth lost.
    async with open_rig(tmp_path / "rig", cars=1) as rig:
        vehicle, api = rig.cars[0], api_of(rig)
        await api.wait_online(vehicle.vehicle_id)
        rental_id = await api.reserve(vehicle.vehicle_id, CARD, PIN)
        link_of(vehicle).weather = GSM

        told = await order(api, vehicle, "flash_hazards")

        assert told["state"] in {"succeeded", "expired", "timed_out"}
        # The car needs no network for its customer.
        customer = Customer(vehicle.devices, CARD, PIN)
        for step in (tap_to_open(), get_in(), enter_pin(), start_engine()):
            await play_step(step, customer)
        link_of(vehicle).weather = FAIR
        if told["state"] != "succeeded":
            path = f"/v1/commands/{told['id']}?wait_s=30"
            told = await api.call("GET", path)
        assert told["state"] in {"succeeded", "expired", "rejected"}
        for last in (drive(8), stop_engine(), end_by_card()):
            await play_step(last, customer)
        rental = await api.wait_report(rental_id)
    assert rental["report"]["distance_m"] == 8


@pytest.mark.broker
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    "weather",
    [
        pytest.param(Weather(breaks_after=2_500), id="reset in the middle of frames"),
        pytest.param(Weather(spoiled_one_in=6), id="flipped bits below TLS"),
    ],
)
async def test_a_connection_that_breaks_again_and_again_neither_loses_nor_doubles(
    tmp_path: Path, weather: Weather, caplog: pytest.LogCaptureFixture
) -> None:
    # Rows 16 and 17, I-5, I-21: no partial and no altered frame is accepted.
    async with open_rig(tmp_path / "rig", cars=1) as rig:
        vehicle, api = rig.cars[0], api_of(rig)
        await api.wait_online(vehicle.vehicle_id)
        rental_id = await api.reserve(vehicle.vehicle_id, CARD, PIN)
        bad = asyncio.ensure_future(in_bad_weather(vehicle, weather))
        customer = Customer(vehicle.devices, CARD, PIN)

        for step in (tap_to_open(), get_in(), enter_pin(), start_engine()):
            await play_step(step, customer)
        for last in (drive(8), stop_engine(), end_by_card()):
            await play_step(last, customer)
        connections = await bad

        rental = await api.wait_report(rental_id)
        letters = await api.call("GET", "/v1/dead-letters")
        vehicle_known = await api.call("GET", f"/v1/vehicles/{vehicle.vehicle_id}")
    assert rental["report"]["distance_m"] == 8
    assert vehicle_known["online"]
    # The first is our own cut; each further one the weather's.
    assert connections >= 2
    if weather.spoiled_one_in:
        logs = (rig.directory / "broker").glob("*log*")
        said = [caplog.text, *(each.read_text(errors="replace") for each in logs)]
        assert re.search("bad.record.mac", " ".join(said), re.IGNORECASE)
    bodies = [entry.body for entry in vehicle.devices.witness.entries]
    assert sum(isinstance(body, RentalEnded) for body in bodies) == 1
    lines = rig.events_file.read_text().splitlines()
    ended = [line for line in lines if "freefloat.rental.ended" in line]
    assert len(ended) == 1
    # What TLS let through was whole: the bridge doubted no frame of this car.
    assert letters["letters"] == []


KEEPALIVE_S = 2
"""Instead of 15: the test has no half a minute."""


async def until_made_anew(link: CuttableLink, connections: int) -> None:
    async with asyncio.timeout(30):
        while link.connections == connections:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)


@pytest.mark.broker
@pytest.mark.timeout(240)
async def test_a_link_that_went_deaf_is_noticed_and_the_hello_says_what_became_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Row 14, I-11, I-13 (F), I-21: what the car says arrives, and no answer does.
    monkeypatch.setattr(
        "gateway.uplink.mqtt_links.LinkSettings",
        partial(LinkSettings, keepalive_s=KEEPALIVE_S),
    )
    async with open_rig(tmp_path / "rig", cars=1) as rig:
        vehicle, api = rig.cars[0], api_of(rig)
        link, loop = link_of(vehicle), asyncio.get_running_loop()
        await api.wait_online(vehicle.vehicle_id)
        rental_id = await api.reserve(vehicle.vehicle_id, CARD, PIN)
        customer = Customer(vehicle.devices, CARD, PIN)
        connections, deaf_s = link.connections, loop.time()
        link.deafen()
        told = await order(api, vehicle, "flash_hazards", wait_s=0)
        for step in (tap_to_open(), get_in(), enter_pin(), start_engine()):
            await play_step(step, customer)
        await until_made_anew(link, connections)
        noticed_s = loop.time() - deaf_s

        for last in (drive(8), stop_engine(), end_by_card()):
            await play_step(last, customer)
        await api.wait_report(rental_id)
        end = await settled(api, told)
    sys.stdout.write(f"deaf for {noticed_s:.1f} s; {end['state']}\n")
    assert told["state"] not in {"succeeded", "rejected"}
    # Twice the keepalive, and the wait before the next connection.
    assert noticed_s < 2 * KEEPALIVE_S + 3
    assert end["state"] in HONEST
    lines = rig.events_file.read_text(encoding="utf-8").splitlines()
    assert sum("freefloat.rental.started" in line for line in lines) == 1


@pytest.mark.broker
@pytest.mark.timeout(240)
async def test_a_link_that_went_mute_is_noticed_and_the_hello_says_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Row 14, I-5, I-11: the order arrives and is carried out, and no word gets back.
    monkeypatch.setattr(
        "gateway.uplink.mqtt_links.LinkSettings",
        partial(LinkSettings, keepalive_s=KEEPALIVE_S),
    )
    flashes = note_flashes(monkeypatch)
    async with open_rig(tmp_path / "rig", cars=1) as rig:
        vehicle, api = rig.cars[0], api_of(rig)
        link, loop = link_of(vehicle), asyncio.get_running_loop()
        await api.wait_online(vehicle.vehicle_id)
        connections, mute_s = link.connections, loop.time()
        link.mute()
        told = await order(api, vehicle, "flash_hazards", wait_s=1)
        assert len(flashes) == 1
        await until_made_anew(link, connections)
        noticed_s = loop.time() - mute_s
        end = await settled(api, told)
    sys.stdout.write(
        f"mute for {noticed_s:.1f} s; {end['state']} by its {end['settled_by']}\n"
    )
    assert told["state"] not in HONEST
    assert noticed_s < 2 * KEEPALIVE_S + 3
    assert (end["state"], end["settled_by"]) == ("succeeded", "hello")
    # However often it was sent.
    assert len(flashes) == 1
