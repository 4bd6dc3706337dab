"""A broker that has no connection or no memory to spare (fault row 24)."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.uplink.patience import Patience
from tests.broker.pki import Pki
from tests.broker.room import BRIDGE, VEHICLE_A, VEHICLE_B, Observer, down, up
from tests.broker.test_deployment import Deployed, deployed, link_of
from transport.backoff import Backoff
from transport.errors import LinkError, LinkFailure
from transport.link import MqttLink

pytestmark = [pytest.mark.broker, pytest.mark.mosquitto]

PLACES = 2
"""For the bridge and one car. The line belongs to the listener that it stands behind:
before the first one mosquitto 2.0.11 reads it and heeds it for no other listener."""

QUEUED = 1_000
QUEUED_MB = 4
FLOOD = 8_000
"""Messages of 4,000 bytes: eight times what may wait."""
AT_ONCE = 32


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


def memory_mb(broker: Deployed) -> float:
    statm = Path(f"/proc/{broker.process.pid}/statm").read_text(encoding="ascii")
    return int(statm.split()[1]) * 4_096 / 2**20


@pytest.mark.parametrize("qos", [0, 1])
async def test_who_takes_nothing_fills_no_memory_and_cuts_nobody_off(
    pki: Pki, tmp_path: Path, qos: int
) -> None:
    """Row 24 (memory): with deploy/'s limits, made small.

    A bridge that is connected and takes nothing, while a car sends as fast as it can.
    """
    identities = {name: pki.issue(name) for name in (BRIDGE, VEHICLE_A, VEHICLE_B)}
    small = f"max_queued_messages {QUEUED}\nmax_queued_bytes {QUEUED_MB * 10**6}"
    async with deployed(pki, tmp_path, last=small) as broker, asyncio.timeout(60):

        def link(name: str) -> MqttLink:
            return link_of(broker.port, name, identities[name])

        bridge = await connected(lambda: link(BRIDGE))
        await bridge.subscribe("ff/v1/+/up/#")
        async with link(VEHICLE_A) as loud, link(VEHICLE_B) as quiet:
            await quiet.subscribe(f"ff/v1/{VEHICLE_B}/down/+")
            heard = Observer(quiet)
            before_mb = memory_mb(broker)
            payload = bytes(4_000)

            async def send() -> None:
                for _ in range(FLOOD // AT_ONCE):
                    if qos:
                        await loud.publish(up(VEHICLE_A), payload)
                    else:
                        # On a busy machine the broker may not keep up reading.
                        with contextlib.suppress(LinkError):
                            loud.post(up(VEHICLE_A), payload)
                        await asyncio.sleep(0.01)

            await asyncio.gather(*(send() for _ in range(AT_ONCE)))
            # What was sent before it has been read when this one is acknowledged.
            await loud.publish(up(VEHICLE_A), b"last")
            more_mb = memory_mb(broker) - before_mb
            await bridge.publish(down(VEHICLE_B), b"a command")
            await heard.until(b"a command")
            await quiet.publish(up(VEHICLE_B), b"an entry")
            still = loud.is_connected, quiet.is_connected, bridge.is_connected
            await heard.close()
        await bridge.__aexit__(None, None, None)

    assert still == (True, True, True)
    assert more_mb < 2 * QUEUED_MB, f"{FLOOD * 4_000 / 10**6:.0f} MB were sent"
    if qos:
        assert b"being dropped for client ff-bridge-1" in broker.log.read_bytes()
