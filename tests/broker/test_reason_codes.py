"""What a broker answers to a publish that it does not allow (K7).

mosquitto speaks MQTT 5 and says 135, not authorised. NATS speaks MQTT 3.1.1, whose
PUBACK has no room for a reason: that nothing is delivered is shown in
`test_confinement`, and that is all that can be shown there.
"""

import asyncio

import pytest

from tests.broker.raw_mqtt import NOT_AUTHORISED, raw_client
from tests.broker.room import (
    BRIDGE,
    DOWNS,
    ENGINEER,
    UNKNOWN,
    UPS,
    VEHICLE_A,
    VEHICLE_B,
    Room,
    down,
    up,
)
from tests.broker.test_confinement import TOPICS

pytestmark = [pytest.mark.broker, pytest.mark.asyncio(loop_scope="session")]

MAY_PUBLISH = {
    VEHICLE_A: {topic for topic in UPS if VEHICLE_A in topic},
    VEHICLE_B: {topic for topic in UPS if VEHICLE_B in topic},
    # The pattern for vehicles holds for every name; no reader takes this one for a
    # vehicle (`test_admission`).
    BRIDGE: {*DOWNS, up(BRIDGE)},
    ENGINEER: set[str](),
    UNKNOWN: set[str](),
}


def answers(room: Room, principal: str) -> dict[str, int | None]:
    """Publish on every topic over MQTT 5, and return what the broker says to each."""
    found: dict[str, int | None] = {}
    for topic in TOPICS:
        # A connection each: Debian's mosquitto hangs up after it has refused one.
        with raw_client(room, room.identities[principal]) as client:
            assert client.connect(principal) == 0
            found[topic] = client.publish(topic, b"tried")
    return found


@pytest.mark.parametrize("principal", MAY_PUBLISH)
async def test_mosquitto_says_135_to_exactly_what_a_principal_may_not_publish(
    room: Room, principal: str
) -> None:
    """K7, FF-ADR-06: the whole matrix of principals and topics."""
    if not room.is_mosquitto:
        pytest.skip("MQTT 3.1.1 has no reason code in PUBACK: test_confinement")

    found = await asyncio.to_thread(answers, room, principal)

    allowed = {topic for topic, code in found.items() if code in {0, 16}}
    refused = {topic for topic, code in found.items() if code == NOT_AUTHORISED}
    assert allowed == MAY_PUBLISH[principal]
    assert refused == set(TOPICS) - allowed


async def test_nats_gives_no_reason_and_delivers_nothing(room: Room) -> None:
    """K7: it acknowledges or hangs up; both look alike to who is refused."""
    if room.is_mosquitto:
        pytest.skip("mosquitto gives a reason")

    def tried(topic: str) -> int | None:
        with raw_client(room, room.identities[VEHICLE_A]) as client:
            assert client.connect(VEHICLE_A) == 0
            return client.publish(topic, b"tried")

    for topic in (down(VEHICLE_A), up(VEHICLE_B)):
        assert await asyncio.to_thread(tried, topic) in {None, 0}
