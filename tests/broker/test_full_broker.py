"""A broker that has no connection to spare (fault row 24)."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.uplink.patience import Patience
from tests.broker.pki import Pki
from tests.broker.room import BRIDGE, VEHICLE_A, VEHICLE_B, Observer, up
from tests.broker.test_deployment import deployed, link_of
from transport.backoff import Backoff
from transport.errors import LinkError, LinkFailure
from transport.link import MqttLink

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto]

PLACES = 2
"""For the bridge and one car. The line belongs to the listener that it stands behind:
before the first one mosquitto 2.0.11 reads it and heeds it for no other listener."""


async def connected(link: Callable[[], MqttLink]) -> MqttLink:
    """Connect as soon as the broker listens, or has room."""
    while True:
        made = link()
        try:
            return await made.__aenter__()
        except LinkError:
            await asyncio.sleep(0.05)


async def refusal(link: MqttLink) -> LinkError:
    with pytest.raises(LinkError) as caught:
        async with link:
            pass
    return caught.value


async def test_a_full_broker_serves_who_is_there_and_others_come_when_there_is_room(
    pki: Pki, tmp_path: Path
) -> None:
    """Row 24: those who are connected notice nothing, the car before the door waits."""
    identities = {name: pki.issue(name) for name in (BRIDGE, VEHICLE_A, VEHICLE_B)}
    async with (
        deployed(pki, tmp_path, f"max_connections {PLACES}") as broker,
        asyncio.timeout(60),
    ):

        def link(name: str) -> MqttLink:
            return link_of(broker.port, name, identities[name])

        bridge = await connected(lambda: link(BRIDGE))
        await bridge.subscribe("ff/v1/+/up/#")
        seen = Observer(bridge)
        patience, delays = Patience(Backoff(), random=lambda: 0.0), []
        async with link(VEHICLE_A) as car:
            for number in range(4):
                error = await refusal(link(VEHICLE_B))
                assert error.retryable
                assert error.failure in {LinkFailure.REFUSED, LinkFailure.TLS}
                assert re.search("a connection to spare|it is full", str(error))
                delays.append(patience.delay_s(error))
                await car.publish(up(VEHICLE_A), b"%d" % number)
                await seen.until(b"%d" % number)

        assert delays == [1, 2, 4, 8]
        assert b"max_connections exceeded" in broker.log.read_bytes()
        other = await connected(lambda: link(VEHICLE_B))
        await other.publish(up(VEHICLE_B), b"in")
        await seen.until(b"in")
        await other.__aexit__(None, None, None)
        await seen.close()
        await bridge.__aexit__(None, None, None)
