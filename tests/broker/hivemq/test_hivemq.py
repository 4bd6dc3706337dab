"""Our link, cars and bridges at HiveMQ CE with the extension of deploy/hivemq.

Skipped where HiveMQ is not installed (`make brokers` does that), so not part of CI.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

import pytest
import pytest_asyncio

from tests.broker.hivemq.process import HiveMqBroker, missing
from tests.broker.pki import Pki, clock
from tests.broker.raw_mqtt import NOT_AUTHORISED, attacker_context, raw_client
from tests.broker.room import (
    ACCESS,
    BRIDGE,
    DOWNS,
    ENGINEER,
    OTHER_BRIDGE,
    OTHER_ENGINEER,
    UNKNOWN,
    UPS,
    VEHICLE_A,
    VEHICLE_B,
    VEHICLES,
    Observer,
    Room,
    down,
    observing,
    up,
)
from tests.broker.test_confinement import (
    FILTERS,
    NEEDED,
    READABLE,
    TOPICS,
    everybody_but,
    publish_everything,
)
from transport.errors import (
    LinkError,
    LinkFailure,
    PublishRefusedError,
    SubscriptionRefusedError,
)
from transport.link import MqttVersion, Will
from transport.message import MAXIMUM_PACKET

if TYPE_CHECKING:
    from pathlib import Path

    from bridge.broker.embedded import EmbeddedBroker

reason = missing()
pytestmark = [
    pytest.mark.broker,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.skipif(reason is not None, reason=str(reason)),
]

MAY_PUBLISH = {
    VEHICLE_A: {topic for topic in UPS if VEHICLE_A in topic},
    BRIDGE: set(DOWNS),
    ENGINEER: set[str](),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def room(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Room]:
    directory: Path = tmp_path_factory.mktemp("hivemq")
    pki = Pki(directory / "pki", now=clock())
    async with HiveMqBroker(
        directory=directory / "broker",
        identity=pki.issue("broker", server=True),
        access=ACCESS,
        clock=clock,
    ) as broker:
        yield Room(cast("EmbeddedBroker", broker), pki, directory)


async def test_it_speaks_mqtt_5_and_says_so(room: Room) -> None:
    async with room.link(VEHICLE_A) as link:
        assert link.version is MqttVersion.V5


async def test_it_lets_mqtt_3_1_1_in(room: Room) -> None:
    def tried() -> tuple[int | None, int | None]:
        with raw_client(room, room.identities[VEHICLE_A], level=4) as client:
            return client.connect(VEHICLE_A), client.publish(up(VEHICLE_A), b"x")

    assert await asyncio.to_thread(tried) == (0, 0)


async def test_nobody_connects_without_a_certificate_of_the_fleet(room: Room) -> None:
    """K4, K5."""
    stranger = Pki(room.directory / "stranger", now=clock()).issue(VEHICLE_A)
    for identity in (None, stranger):
        context = attacker_context(room, identity)
        with contextlib.suppress(ConnectionError, OSError):
            reader, writer = await asyncio.open_connection(
                room.broker.host, room.broker.port, ssl=context
            )
            writer.write(b"\x10\x0c\0\4MQTT\4\2\0\x1e\0\0")
            assert await reader.read(4) == b""


@pytest.mark.parametrize(
    ("client_id", "username"),
    [(VEHICLE_B, None), (VEHICLE_A, VEHICLE_B), ("", None)],
)
async def test_another_name_than_the_certificates_is_not_authorised(
    room: Room, client_id: str, username: str | None
) -> None:
    """K6, FF-ADR-03."""

    def tried() -> int | None:
        with raw_client(room, room.identities[VEHICLE_A], level=5) as client:
            return client.connect(client_id, username=username)

    assert await asyncio.to_thread(tried) == NOT_AUTHORISED


@pytest.mark.parametrize("name", ["+", f"{VEHICLE_A}/up", "a.b", "ff-bridge-x"])
async def test_a_certificate_with_a_name_of_no_kind_of_ours_is_not_authorised(
    room: Room, name: str
) -> None:
    """L7: the name in a certificate is trusted text."""
    identity = room.pki.issue(name, file="odd-" + name.replace("/", "_"))

    def tried() -> int | None:
        with raw_client(room, identity, level=5) as client:
            return client.connect(name)

    assert await asyncio.to_thread(tried) == NOT_AUTHORISED


@pytest.mark.parametrize("principal", MAY_PUBLISH)
async def test_it_says_135_to_exactly_what_a_principal_may_not_publish(
    room: Room, principal: str
) -> None:
    """K7, FF-ADR-06."""

    def answers() -> dict[str, int | None]:
        found: dict[str, int | None] = {}
        for topic in TOPICS:
            with raw_client(room, room.identities[principal], level=5) as client:
                assert client.connect(principal) == 0
                found[topic] = client.publish(topic, b"tried")
        return found

    found = await asyncio.to_thread(answers)

    allowed = {topic for topic, code in found.items() if code in {0, 16}}
    assert allowed == MAY_PUBLISH[principal]
    assert {found[topic] for topic in set(TOPICS) - allowed} == {NOT_AUTHORISED}


@pytest.mark.parametrize("principal", READABLE)
async def test_no_subscription_delivers_more_than_a_principal_may_read(
    room: Room, principal: str
) -> None:
    """K7, FF-ADR-06, row 23."""
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        links = {n: await enter(room.link(n)) for n in (*VEHICLES, OTHER_BRIDGE)}
        control = await enter(observing(room.link(OTHER_ENGINEER), ["ff/v1/#"]))
        link = (
            links[principal]
            if principal in links
            else await enter(room.link(principal))
        )
        observer = Observer(link)
        for topic_filter in FILTERS:
            observer.received.clear()
            with contextlib.suppress(SubscriptionRefusedError):
                await link.subscribe(topic_filter)
            await publish_everything(links, control)
            await link.unsubscribe(topic_filter)

            assert observer.topics <= READABLE[principal], topic_filter
        await observer.close()


@pytest.mark.parametrize(("principal", "topic_filter"), NEEDED)
async def test_what_our_programs_subscribe_to_is_granted_and_delivered(
    room: Room, principal: str, topic_filter: str
) -> None:
    async with (
        room.link(VEHICLE_B) as vehicle,
        room.link(OTHER_BRIDGE) as bridge,
        observing(room.link(principal), [topic_filter]) as observer,
    ):
        if principal == VEHICLE_A:
            await bridge.publish(down(VEHICLE_A), b"needed")
        else:
            await vehicle.publish(up(VEHICLE_B), b"needed")
        await observer.until(b"needed")


async def test_a_message_that_asks_to_be_retained_is_refused(room: Room) -> None:
    """FF-ADR-10, L9: a retained unlock would be delivered at every connect."""
    async with room.link(BRIDGE) as bridge:
        with pytest.raises(LinkError):
            await bridge.publish(down(VEHICLE_A), b"kept?", retain=True, timeout_s=5)

    async with observing(room.link(VEHICLE_A), [f"ff/v1/{VEHICLE_A}/down/+"]) as late:
        async with room.link(BRIDGE) as bridge:
            await bridge.publish(down(VEHICLE_A), b"last")
        await late.until(b"last")

    assert late.payloads == {b"last"}


async def test_a_will_is_delivered_to_those_whom_a_vehicle_may_reach_alone(
    room: Room,
) -> None:
    async with everybody_but(room, VEHICLE_A) as observers:
        link = room.link(VEHICLE_A, will=Will(up(VEHICLE_A, "death"), b"farewell"))
        await link.__aenter__()
        assert link._client is not None
        link._client._drop_socket()
        await observers[BRIDGE].until(b"farewell")

        with contextlib.suppress(LinkError):
            forger = room.link(VEHICLE_A, will=Will(up(VEHICLE_B), b"forged"))
            await forger.__aenter__()
            assert forger._client is not None
            forger._client._drop_socket()
        async with room.link(VEHICLE_A) as honest:
            await honest.publish(up(VEHICLE_A), b"last")
        await observers[ENGINEER].until(b"last")
        assert not any(b"forged" in o.payloads for o in observers.values())


async def test_a_forbidden_publish_and_subscription_raise(room: Room) -> None:
    """L3, L8."""
    async with room.link(VEHICLE_A) as link:
        with pytest.raises(SubscriptionRefusedError):
            await link.subscribe("ff/v1/#")
    async with room.link(VEHICLE_A) as link:
        with pytest.raises(PublishRefusedError, match="Not authorized") as caught:
            await link.publish(down(VEHICLE_A), b"x")
        assert not caught.value.may_have_taken_effect


async def test_the_largest_message_that_we_send_arrives(room: Room) -> None:
    async with observing(room.link(BRIDGE), ["ff/v1/+/up/#"]) as bridge:
        topic = up(VEHICLE_A)
        payload = bytes(MAXIMUM_PACKET - len(topic) - 16)
        async with room.link(VEHICLE_A) as link:
            await link.publish(topic, payload)
        await bridge.until(payload)


async def test_what_was_not_acknowledged_does_not_come_again_in_a_clean_session(
    room: Room,
) -> None:
    """FF-ADR-12, L2: the car's ledger sends again, not the broker."""
    async with room.link(BRIDGE) as bridge, room.link(VEHICLE_A) as vehicle:
        await bridge.subscribe("ff/v1/+/up/#")
        await vehicle.publish(up(VEHICLE_A), b"never acknowledged")
        async with asyncio.timeout(10):
            assert (await bridge.receive()).payload == b"never acknowledged"

    async with observing(room.link(BRIDGE), ["ff/v1/+/up/#"]) as again:
        async with room.link(VEHICLE_A) as vehicle:
            await vehicle.publish(up(VEHICLE_A), b"last")
        await again.until(b"last")
        assert again.payloads == {b"last"}


async def test_it_waits_with_the_next_message_until_one_is_done_and_keeps_thousands(
    room: Room,
) -> None:
    """L4: the window bounds what is under way; the default queue would hold 1,000."""
    count = 3_000
    async with (
        room.link(BRIDGE, receive_maximum=2) as bridge,
        room.link(VEHICLE_A) as vehicle,
    ):
        await bridge.subscribe("ff/v1/+/up/#")
        for number in range(count):
            await vehicle.publish(up(VEHICLE_A), b"%d" % number)
        async with asyncio.timeout(10):
            # It fills the window with the first acknowledgement, not before.
            (await bridge.receive()).done()
            held = [await bridge.receive(), await bridge.receive()]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await bridge.receive()
        for message in held:
            message.done()
        received = [0, 1, 2]
        async with asyncio.timeout(60):
            while len(received) < count:
                message = await bridge.receive()
                message.done()
                received.append(int(message.payload))
    assert received == list(range(count))


async def test_an_expired_message_is_not_delivered(room: Room) -> None:
    async with (
        room.link(VEHICLE_A, receive_maximum=1) as vehicle,
        room.link(BRIDGE) as bridge,
    ):
        await vehicle.subscribe(f"ff/v1/{VEHICLE_A}/down/+")
        await bridge.publish(down(VEHICLE_A), b"holds the window")
        await bridge.publish(down(VEHICLE_A), b"stale unlock", expiry_s=1)
        await bridge.publish(down(VEHICLE_A), b"fresh", expiry_s=60)
        async with asyncio.timeout(10):
            first = await vehicle.receive()
        await asyncio.sleep(2.1)  # the broker's clock is real
        first.done()
        async with asyncio.timeout(10):
            second = await vehicle.receive()
        second.done()
    assert second.payload == b"fresh"


async def test_the_second_connection_of_one_certificate_ends_the_first(
    room: Room,
) -> None:
    """FF-ADR-15; HiveMQ says why, with MQTT 5's reason code."""
    async with room.link(VEHICLE_A) as first, room.link(VEHICLE_A) as second:
        async with asyncio.timeout(10):
            error = await first.wait_lost()
        assert second.is_connected
    assert error.failure is LinkFailure.TAKEN_OVER


async def test_two_bridges_share_what_cars_say(room: Room) -> None:
    """I-25: each message reaches one of them, once."""
    shared = "$share/bridges/ff/v1/+/up/+"
    async with (
        observing(room.link(BRIDGE), [shared]) as one,
        observing(room.link(OTHER_BRIDGE), [shared]) as other,
        room.link(VEHICLE_A) as vehicle,
    ):
        sent = [b"shared %d" % number for number in range(200)]
        for payload in sent:
            await vehicle.publish(up(VEHICLE_A), payload)
        async with asyncio.timeout(10):
            while len(one.received) + len(other.received) < 200:  # noqa: ASYNC110 - of two
                await asyncio.sleep(0.02)
        got = [m.payload for m in (*one.received, *other.received)]
    assert sorted(got) == sorted(sent)
    assert one.received
    assert other.received


async def test_an_unregistered_vehicle_reaches_its_own_topics_alone(
    room: Room,
) -> None:
    """It cannot ask a registry: the bridge's decides, for every frame."""
    async with observing(room.link(BRIDGE), ["ff/v1/+/up/#"]) as bridge:
        async with room.link(UNKNOWN) as unknown:
            await unknown.publish(up(UNKNOWN), b"unknown")
        await bridge.until(b"unknown")
    assert bridge.topics == {up(UNKNOWN)}
