"""An emulated vehicle over a real broker and bridge, with its TCP connection cut."""

import asyncio
from pathlib import Path

import pytest

from firmware_emulator.customer import Customer
from firmware_emulator.demand import Bridge
from firmware_emulator.errors import DemandError
from firmware_emulator.fleet import EmulatedFleet, FleetPlan
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
from firmware_emulator.vehicle import LEDGER
from protocol.codes import Light
from protocol.event import AgentStarted, RentalEnded
from protocol.identity import VehicleId
from tools.clock import wall_clock
from tools.rig import Rig, open_rig

pytestmark = [pytest.mark.broker, pytest.mark.timeout(120)]

CARD = Card(bytes.fromhex("04a1b2c3d4e5f6"))
PIN = "2468"

BROKERS = [
    "nats",
    pytest.param("mosquitto", marks=pytest.mark.mosquitto),
]


def api_of(rig: Rig) -> Bridge:
    return Bridge(rig.bridge.api_url, {"X-Api-Key": rig.api_key})


@pytest.mark.parametrize("broker", BROKERS)
async def test_a_rental_that_ends_offline_across_a_power_cut_is_reported_once(
    tmp_path: Path, broker: str
) -> None:
    # I-19, I-21, I-28, over TLS and MQTT, with a reset TCP connection.
    async with open_rig(tmp_path / "rig", cars=1, broker=broker) as rig:
        vehicle, api = rig.cars[0], api_of(rig)
        await api.wait_online(vehicle.vehicle_id)
        rental_id = await api.reserve(vehicle.vehicle_id, CARD, PIN)
        customer = Customer(vehicle.devices, CARD, PIN)
        for step in (tap_to_open(), get_in(), enter_pin(), start_engine()):
            await play_step(step, customer)

        vehicle.cut_link()
        await play_step(drive(8), customer)
        await play_step(stop_engine(), customer)
        await vehicle.power_cut()
        await vehicle.wait_ready()
        await play_step(end_by_card(), customer)
        known = await api.rental(rental_id)
        assert known is not None
        assert not known.get("report")

        vehicle.restore_link()
        rental = await api.wait_report(rental_id)

        assert rental["report"]["distance_m"] == 8
        bodies = [entry.body for entry in vehicle.devices.witness.entries]
        assert sum(isinstance(body, RentalEnded) for body in bodies) == 1
        assert sum(isinstance(body, AgentStarted) for body in bodies) == 2
        ended = [
            line
            for line in await _lines_with(rig.events_file, b"freefloat.rental.ended")
            if rental_id.hex().encode() in line
        ]
        assert len(ended) == 1


async def test_a_fleet_lives_rentals_and_ends_in_order(tmp_path: Path) -> None:
    async with open_rig(tmp_path / "rig", cars=2) as rig:
        directories = [rig.fleet.vehicle_directory(car.vehicle_id) for car in rig.cars]
        for car in rig.cars:
            await car.__aexit__(None, None, None)
        told: list[str] = []
        fleet = EmulatedFleet(
            directories,
            data=tmp_path / "fleet-data",
            host=rig.broker.host,
            port=rig.broker.port,
            plan=FleetPlan(
                seed=7, pause_s=(0.5, 1.0), drive_m=(5, 10), cuts=1.0, parks=0.0
            ),
            monotonic=asyncio.get_running_loop().time,
            wall=lambda: wall_clock().timestamp(),
            bridge=api_of(rig),
            tell=lambda _car, what: told.append(what),
        )

        async with fleet:
            await fleet.live(2.0)

        counts = fleet.counts
        assert counts.troubles == []
        assert counts.rentals_ended == counts.rentals_started >= 1
        assert "loses its link" in told
        assert not any(vehicle.has_power for vehicle in fleet.vehicles)
        assert all((vehicle.data / "car.json").is_file() for vehicle in fleet.vehicles)


async def test_a_car_that_is_taken_is_not_reserved_and_the_reason_is_said(
    tmp_path: Path,
) -> None:
    async with open_rig(tmp_path / "rig", cars=1) as rig:
        vehicle, api = rig.cars[0], api_of(rig)
        await api.wait_online(vehicle.vehicle_id)
        await api.reserve(vehicle.vehicle_id, CARD, PIN)

        with pytest.raises(DemandError, match="rejected, wrong_mode"):
            await api.reserve(vehicle.vehicle_id, CARD, PIN)
        with pytest.raises(DemandError, match="key of this bridge"):
            await Bridge(rig.bridge.api_url).reserve(vehicle.vehicle_id, CARD, PIN)


async def test_a_rental_in_a_spoilt_ledger_is_asked_for_given_back_and_reported(
    tmp_path: Path,
) -> None:
    """Row 5, H15, I-19, FF-LED-32 to FF-LED-37, over TLS, MQTT and the API."""
    async with open_rig(tmp_path / "rig", cars=1) as rig:
        vehicle, api = rig.cars[0], api_of(rig)
        await api.wait_online(vehicle.vehicle_id)
        rental_id = await api.reserve(vehicle.vehicle_id, CARD, PIN)
        customer = Customer(vehicle.devices, CARD, PIN)
        for step in (tap_to_open(), get_in(), enter_pin()):
            await play_step(step, customer)
        await vehicle.power_off()
        (vehicle.data / LEDGER).write_bytes(b"a page of something else")
        vehicle.power_on()

        await _until_faults(api, vehicle.vehicle_id, ["ledger_lost"])

        car, firmware = vehicle.devices.world.car, vehicle.devices.world.firmware
        assert firmware.indicator.light is Light.FAULT_PATTERN
        assert (car.locked, car.starter_released) == (False, True)
        with pytest.raises(DemandError, match=rental_id.hex()):
            await api.reserve(vehicle.vehicle_id, CARD, PIN)
        back = {
            "kind": "reserve",
            "rental_id": rental_id.hex(),
            "hold_s": 600,
            "cards": [CARD.uid.hex()],
            "pin": PIN,
        }
        path = f"/v1/vehicles/{vehicle.vehicle_id}/commands?wait_s=10"
        assert (await api.call("POST", path, back))["state"] == "succeeded"
        await _until_faults(api, vehicle.vehicle_id, [])
        for step in (tap_to_open(), enter_pin(), start_engine(), drive(8)):
            await play_step(step, customer)
        await play_step(stop_engine(), customer)
        await play_step(end_by_card(), customer)

        rental = await api.wait_report(rental_id)

        assert (rental["state"], rental["needs_close"]) == ("ended", False)
        assert rental["report"]["distance_m"] == 8


async def _until_faults(api: Bridge, vehicle_id: VehicleId, faults: list[str]) -> None:
    async with asyncio.timeout(30):
        while True:
            known = await api.call("GET", f"/v1/vehicles/{vehicle_id}")
            if known["online"] and known["faults"] == faults:
                return
            await asyncio.sleep(0.1)


async def _lines_with(path: Path, word: bytes) -> list[bytes]:
    """Wait until the sink has written such a line, and return all of them."""
    async with asyncio.timeout(20):
        while not (lines := await asyncio.to_thread(_matching, path, word)):  # noqa: ASYNC110 - a file tells nobody
            await asyncio.sleep(0.1)
        return lines


def _matching(path: Path, word: bytes) -> list[bytes]:
    data = path.read_bytes() if path.exists() else b""
    return [line for line in data.splitlines() if word in line]
