"""The product's own PKI at both brokers: what `freefloat certs` makes must connect."""

import asyncio
from pathlib import Path

import pytest

from bridge.broker.access import BrokerAccess
from bridge.broker.embedded import EmbeddedBroker
from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from protocol.codes import FrameClass
from protocol.topic import ALL_UPLINKS, EVERYTHING, downlinks_of, topic_of
from tests.broker.pki import clock
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context, common_name

pytestmark = pytest.mark.broker


@pytest.mark.parametrize(
    "kind", [pytest.param("mosquitto", marks=pytest.mark.mosquitto), "nats"]
)
async def test_a_vehicle_a_bridge_and_an_engineer_of_a_new_fleet_meet(
    kind: str, tmp_path: Path
) -> None:
    fleet = FleetDirectory.create(tmp_path / "fleet", name="test", now=clock())
    vehicle_id = random_vehicle_id()
    issue_vehicles(fleet, [vehicle_id], now=clock())
    anchors = fleet.path / "ca" / "trust-anchors.pem"

    def identity(part: str) -> TlsIdentity:
        folder = fleet.path / part
        return TlsIdentity(folder / "tls.crt", folder / "tls.key", anchors)

    async with EmbeddedBroker(
        directory=tmp_path / "broker",
        identity=identity("broker"),
        access=BrokerAccess(is_vehicle=str(vehicle_id).__eq__),
        clock=clock,
        kind=kind,
    ) as broker:

        def link(part: str) -> MqttLink:
            own = identity(part)
            settings = LinkSettings(
                broker.host, broker.port, client_id=common_name(own)
            )
            return MqttLink(settings, client_context(own, now=clock()))

        async with (
            link(f"vehicles/{vehicle_id}") as vehicle,
            link("bridge/1") as bridge,
            link("engineer/1") as engineer,
            asyncio.timeout(10),
        ):
            await vehicle.subscribe(downlinks_of(vehicle_id))
            await bridge.subscribe(ALL_UPLINKS)
            await engineer.subscribe(EVERYTHING)
            await vehicle.publish(topic_of(vehicle_id, FrameClass.EVENT), b"up")
            await bridge.publish(topic_of(vehicle_id, FrameClass.CMD), b"down")
            up, down = await bridge.receive(), await vehicle.receive()
            seen = {(await engineer.receive()).payload for _ in range(2)}

    assert (up.payload, down.payload) == (b"up", b"down")
    assert seen == {b"up", b"down"}
