"""Rogues who are let in: a stolen bridge's certificate, and a car of the fleet.

Row 17's hostile payload and row 23's rogue car, at a real broker with a real bridge and
an emulated car; the signature is the lock that is left.
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bridge.ports import Direction, FrameSeen
from certs.vehicle import issue_vehicles, random_vehicle_id
from firmware_emulator.demand import Bridge
from protocol.codes import FrameClass, Opcode
from protocol.fleet import FleetPart, VehiclePart
from protocol.frame import build_unsigned, parse_frame
from protocol.keys import SIGNATURE_SIZE
from protocol.topic import parse_topic
from tests.bridge.car import Car
from tests.bridge.site import boot_ms
from tests.orders import api_of, note_flashes, order
from tools.clock import wall_clock
from tools.rig import Rig, open_rig
from transport.errors import LinkError, RefusedError
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto, pytest.mark.timeout(120)]


@pytest.fixture
def flashes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    return note_flashes(monkeypatch)


@asynccontextmanager
async def rig_of_one(
    tmp_path: Path,
) -> AsyncIterator[tuple[Rig, Bridge, list[FrameSeen], dict[str, Any]]]:
    """Open a rig whose car flashed once; yield it, API, frames and that order."""
    seen: list[FrameSeen] = []
    async with open_rig(
        tmp_path / "rig", cars=1, broker="mosquitto", observer=seen.append
    ) as rig:
        api = api_of(rig)
        await api.wait_online(rig.cars[0].vehicle_id)
        yield rig, api, seen, await order(api, rig.cars[0], "flash_hazards")


def link(rig: Rig, name: str, identity: TlsIdentity) -> MqttLink:
    settings = LinkSettings(rig.broker.host, rig.broker.port, client_id=name)
    return MqttLink(settings, client_context(identity, now=wall_clock()))


def rogue_car(rig: Rig) -> tuple[Car, TlsIdentity]:
    """Return a car of this fleet whose driver has its keys."""
    vehicle_id = random_vehicle_id()
    issue_vehicles(rig.fleet, [vehicle_id], now=wall_clock())
    directory = rig.fleet.vehicle_directory(vehicle_id)
    identity = TlsIdentity(
        directory / VehiclePart.TLS_CERTIFICATE,
        directory / VehiclePart.TLS_KEY,
        directory / VehiclePart.TRUST_ANCHORS,
    )
    return Car(directory, boot_ms=boot_ms), identity


def hostile(genuine: bytes, rogue: Car) -> list[bytes]:
    """Return what somebody without the command key can make of a command."""
    chance = random.Random(17)  # noqa: S311 - the same payloads each time
    flipped = []
    for _ in range(64):
        other = bytearray(genuine)
        bit = chance.randrange(8 * len(other))
        other[bit // 8] ^= 1 << bit % 8
        flipped.append(bytes(other))
    signed = rogue.sign(FrameClass.CMD, Opcode.FLASH_HAZARDS, b"\x05", seq=1 << 40)
    frame = parse_frame(genuine)
    signature = genuine[-SIGNATURE_SIZE:]
    # The next command, right in all but its signature.
    others = [
        build_unsigned(
            replace(frame.header, seq=frame.header.seq + 1, msg_id=bytes(15) + end),
            frame.payload,
        )
        for end in (b"\1", b"\2")
    ]
    newer = [others[0] + signature, others[1] + chance.randbytes(SIGNATURE_SIZE)]
    cut = [genuine[:size] for size in range(1, len(genuine), 9)]
    noise = [chance.randbytes(size) for size in (1, 64, 200, 4_096)]
    # Last the genuine bytes once more, which the car has carried out.
    return [*flipped, *cut, *noise, genuine + b"\0", signed, *newer, genuine]


async def test_who_stole_a_bridge_s_place_at_the_broker_commands_no_car(
    tmp_path: Path, flashes: list[int]
) -> None:
    """Rows 17 and 23, I-4, I-5, I-7, L6: the bridge is thrown off, and is back."""
    async with rig_of_one(tmp_path) as (rig, api, seen, first):
        car = rig.cars[0]
        [(topic, command)] = [
            (one.topic, one.data)
            for one in seen
            if one.direction is Direction.OUT
            and parse_topic(one.topic).frame_class is FrameClass.CMD
        ]
        payloads = hostile(command, rogue_car(rig)[0])
        stolen = TlsIdentity.of_fleet(rig.fleet.path, FleetPart.BRIDGE)
        left = list(payloads)
        sessions = 0
        while left:
            sessions += 1
            async with link(rig, "ff-bridge-1", stolen) as rogue:
                try:
                    while left:
                        await rogue.publish(topic, left[0])
                        del left[0]
                except LinkError:
                    continue  # the bridge took its place back
        done = await order_when_back(rig, car)
        online = await api.call("GET", f"/v1/vehicles/{car.vehicle_id}")
    log = await asyncio.to_thread((tmp_path / "rig/broker/broker.log").read_text)
    sys.stdout.write(f"{len(payloads)} hostile payloads in {sessions} sessions\n")
    assert first["state"] == done["state"] == "succeeded"
    assert len(flashes) == 2
    assert online["online"]
    # What an operator's log collector is told to look for (docs/operations.md).
    assert "Client ff-bridge-1 already connected, closing old connection" in log


async def order_when_back(rig: Rig, car: Any) -> dict[str, Any]:
    await rig.bridge.wait_connected()
    api = api_of(rig)
    await api.wait_online(car.vehicle_id)
    return await order(api, car, "flash_hazards")


async def test_a_rogue_car_reaches_nobody_and_what_it_forges_is_kept_and_alarms(
    tmp_path: Path, flashes: list[int]
) -> None:
    """Row 23, K6, K24, I-24: refused by the broker, or by the bridge and counted."""
    async with rig_of_one(tmp_path) as (rig, api, seen, _):
        car = rig.cars[0]
        said = next(
            one
            for one in seen
            if one.direction is Direction.IN
            and parse_topic(one.topic).frame_class is FrameClass.RESULT
        )
        ordered = next(one for one in seen if one.direction is Direction.OUT)
        thief, identity = rogue_car(rig)
        refused = 0
        # As the other car, on its topics, up and down: refused by the broker.
        for topic in (said.topic, ordered.topic):
            async with link(rig, str(thief.id), identity) as rogue:
                with pytest.raises(RefusedError):
                    await rogue.publish(topic, said.data)
                refused += 1
        # On its own topics: what the other car signed, and what it signs in its name.
        own = thief.topic(FrameClass.RESULT)
        victim = thief.id
        thief.id = car.vehicle_id
        forged = thief.hello()
        thief.id = victim
        async with link(rig, str(thief.id), identity) as rogue:
            await rogue.publish(own, said.data)
            await rogue.publish(thief.topic(FrameClass.HELLO), forged)
            spoiled = bytearray(thief.hello())
            spoiled[-1] ^= 1
            await rogue.publish(thief.topic(FrameClass.HELLO), bytes(spoiled))
        letters: list[dict[str, Any]] = []
        while len(letters) < 3:
            letters = (await api.call("GET", "/v1/dead-letters"))["letters"]
        again = await order(api, car, "flash_hazards")
    reasons = sorted(letter["reason"] for letter in letters)
    sys.stdout.write(f"kept: {reasons}\n")
    assert refused == 2
    assert {letter["kind"] for letter in letters} == {"unverified"}
    # Each of these codes has an alert that is raised within a minute (K24).
    assert [one.split(":")[0] for one in reasons] == [
        "BAD_SIGNATURE",
        "WRONG_VEHICLE",
        "WRONG_VEHICLE",
    ]
    assert again["state"] == "succeeded"
    assert len(flashes) == 2
