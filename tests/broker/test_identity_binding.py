"""One identity for certificate, user name, client id, topic and frame (K6).

Each case makes one of the five differ from the certificate, on both brokers; nothing
may come of it. `test_admission` has the take-over and the names that no CA gives.
"""

import asyncio
import contextlib
from pathlib import Path

import pytest

from bridge.ingest import Rejection, verify
from bridge.registry import Registry
from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.codes import Code
from protocol.event import AgentStarted
from tests.bridge.car import Car
from tests.broker.pki import clock
from tests.broker.raw_mqtt import raw_client
from tests.broker.room import (
    BRIDGE,
    ENGINEER,
    VEHICLE_A,
    VEHICLE_B,
    Room,
    observing,
    up,
)
from transport.errors import LinkError

pytestmark = [pytest.mark.broker, pytest.mark.asyncio(loop_scope="session")]


def forge(room: Room, case: str) -> None:
    """Connect with the certificate of vehicle A and be somebody else in one respect."""
    name = VEHICLE_A
    identity = room.identities[VEHICLE_A]
    if case == "CN":
        identity = room.identities[VEHICLE_B]
    with contextlib.suppress(OSError), raw_client(room, identity) as client:
        client_id = VEHICLE_B if case == "client id" else name
        username = VEHICLE_B if case == "user name" else None
        if client.connect(client_id, username=username) != 0:
            return
        client.publish(up(VEHICLE_B if case != "CN" else VEHICLE_A), b"forged")


@pytest.mark.parametrize("case", ["CN", "user name", "client id", "topic"])
async def test_a_name_that_differs_from_the_certificates_speaks_for_nobody(
    room: Room, case: str
) -> None:
    """K6, FF-ADR-03: the certificate's name is the only one that counts."""
    async with (
        observing(room.link(BRIDGE), ["ff/v1/+/up/#"]) as bridge,
        observing(room.link(ENGINEER), ["ff/v1/#"]) as engineer,
    ):
        await asyncio.to_thread(forge, room, case)
        async with room.link(VEHICLE_B) as honest:
            await honest.publish(up(VEHICLE_B), b"honest")
        await bridge.until(b"honest")
        await engineer.until(b"honest")

    assert b"forged" not in bridge.payloads | engineer.payloads


async def test_a_frame_of_another_vehicle_than_the_topics_is_refused_by_the_bridge(
    room: Room, tmp_path: Path
) -> None:
    """K6, FF-ADR-07: no broker reads frames, so this is the bridge's to see."""
    fleet = FleetDirectory.create(tmp_path / "fleet", name="t", now=clock())
    (issued,) = issue_vehicles(fleet, [random_vehicle_id()], now=clock())
    record = fleet.vehicle_record(issued.vehicle_id)
    registry = Registry(
        {record.vehicle_id: record}, {record.signing_key.key_id: record.vehicle_id}
    )
    frame = Car(issued.directory, boot_ms=lambda: 1).event(AgentStarted(1, bytes(4)))

    async with observing(room.link(BRIDGE), ["ff/v1/+/up/#"]) as bridge:
        async with room.link(VEHICLE_A) as thief:
            with contextlib.suppress(LinkError):
                await thief.publish(up(VEHICLE_A), frame)
        await bridge.until(frame)
        (message,) = (one for one in bridge.received if one.payload == frame)

    verdict = verify(
        message.topic,
        message.payload,
        retain=False,
        registry=registry,
        fleet_id=fleet.fleet.fleet_id,
    )
    assert isinstance(verdict, Rejection)
    assert verdict.code is Code.WRONG_VEHICLE
