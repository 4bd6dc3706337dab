"""Who gets a connection at all, and whose client id it may carry (K4 to K6, L6, L7)."""

import asyncio
import contextlib
import socket
import ssl
from datetime import timedelta

import pytest

from tests.broker.client_certificates import TABLE
from tests.broker.pki import DAY, HOUR, Pki, clock
from tests.broker.raw_mqtt import attacker_context
from tests.broker.room import (
    BRIDGE,
    ENGINEER,
    OTHER_BRIDGE,
    UNKNOWN,
    VEHICLE_A,
    VEHICLE_B,
    Room,
    down,
    observing,
    up,
)
from transport.errors import LinkError, LinkFailure, TlsSetupError
from transport.link import LinkSettings, MqttLink, MqttVersion, VersionMemory
from transport.tls import TlsIdentity, client_context

pytestmark = [pytest.mark.broker, pytest.mark.asyncio(loop_scope="session")]


def raw_context(room: Room, identity: TlsIdentity | None) -> ssl.SSLContext:
    """A context without our own checks."""
    return attacker_context(room, identity)


async def refusal(
    room: Room, context: ssl.SSLContext, *, client_id: str = VEHICLE_A
) -> LinkError:
    settings = LinkSettings(
        room.broker.host, room.broker.port, client_id=client_id, connect_timeout_s=6
    )
    with pytest.raises(LinkError) as caught:
        async with MqttLink(settings, context, versions=room.versions):
            pass
    return caught.value


REFUSALS = {
    "none": "certificate",
    "foreign CA": "our certificate",
    "self-signed": "our certificate",
    "expired": "certificate",
    "not yet valid": "certificate",
    "wrong EKU": "certificate",
    "server certificate as client": "certificate",
}
"""What our own client then says."""


@pytest.mark.parametrize("shown", TABLE)
async def test_a_client_gets_no_connection_whose_certificate_is(
    room: Room, shown: str
) -> None:
    """K4; the revoked are in `test_revocation`, as brokers differ in refusing them."""
    identity = TABLE[shown](room.pki, VEHICLE_A)

    error = await refusal(room, raw_context(room, identity))

    assert error.failure is LinkFailure.TLS
    assert REFUSALS[shown] in str(error)


async def test_a_car_whose_certificate_is_in_order_is_let_in(room: Room) -> None:
    """K4: and the refusals above are for what each of them differs in."""
    identity = room.pki.issue(VEHICLE_A, file="k4-good")
    async with room.link(VEHICLE_A, identity=identity) as link:
        assert link.is_connected


async def test_an_old_tls_version_is_refused(room: Room) -> None:
    # K3
    context = raw_context(room, room.identities[VEHICLE_A])
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    error = await refusal(room, context)

    assert error.failure is LinkFailure.TLS


async def test_a_client_without_tls_gets_no_answer(room: Room) -> None:
    # K5: no plaintext, no fallback.
    reader, writer = await asyncio.open_connection(room.broker.host, room.broker.port)
    connect = bytes.fromhex("100d00044d51545404020" + "00f0001") + b"x"
    writer.write(connect)

    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            answer = await reader.read(4)
            assert answer[:1] != b"\x20"  # no CONNACK
    writer.transport.abort()


async def test_our_client_refuses_a_broker_of_another_name(room: Room) -> None:
    # K5, row 18: a name server that lies leads to a broker that is refused, since our
    # certificate names localhost and 127.0.0.1.
    context = raw_context(room, room.identities[VEHICLE_A])
    settings = LinkSettings("127.0.0.1", room.broker.port, client_id=VEHICLE_A)
    other = room.pki.issue(
        "other", file="other-name", server=True, names=("elsewhere",), address=None
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(other.certificate, other.key)
    listener = await asyncio.start_server(
        lambda _, w: w.close(), "127.0.0.1", 0, ssl=server
    )
    port = listener.sockets[0].getsockname()[1]

    with pytest.raises(LinkError, match=r"does not name '127\.0\.0\.1'") as caught:
        async with MqttLink(
            LinkSettings("127.0.0.1", port, client_id=settings.client_id), context
        ):
            pass
    listener.close()
    await listener.wait_closed()

    assert caught.value.failure is LinkFailure.TLS


async def test_our_client_refuses_a_broker_of_another_fleet(room: Room) -> None:
    stranger = Pki(room.directory / "other-fleet", now=clock()).issue(VEHICLE_A)
    settings = LinkSettings(room.broker.host, room.broker.port, client_id=VEHICLE_A)

    with pytest.raises(LinkError, match="is not of this fleet") as caught:
        async with MqttLink(settings, client_context(stranger, now=clock())):
            pass

    assert caught.value.failure is LinkFailure.TLS


@pytest.mark.parametrize("victim", [BRIDGE, VEHICLE_B, ENGINEER])
async def test_a_valid_car_cannot_take_anothers_client_id(
    room: Room, victim: str
) -> None:
    # FF-ADR-03.
    # L6: with it, it would throw the victim off and get its messages.
    async with room.link(victim) as held:
        context = raw_context(room, room.identities[VEHICLE_A])
        settings = LinkSettings(
            room.broker.host, room.broker.port, client_id=victim, connect_timeout_s=6
        )
        thief = MqttLink(settings, context, versions=room.versions)
        with contextlib.suppress(LinkError):
            async with thief:
                # mosquitto gives it the client id of its own certificate instead.
                assert room.is_mosquitto
                with contextlib.suppress(LinkError):
                    await thief.publish(up(VEHICLE_A), b"as myself")
        # An answer from the broker on the held connection: it is the victim's still.
        await held.unsubscribe("ff/v1/none")

        assert held.is_connected


async def test_the_second_connection_of_one_certificate_ends_the_first(
    room: Room,
) -> None:
    # FF-ADR-15.
    # Why every bridge replica and every engineer needs a certificate of its own.
    async with room.link(VEHICLE_A) as first:
        async with room.link(VEHICLE_A) as second:
            async with asyncio.timeout(5):
                error = await first.wait_lost()

            assert second.is_connected
        assert error.retryable
        # MQTT 5 has a reason code for it, which mosquitto 2.0.11 does not get through
        # TLS before it closes; NATS has none.
        assert error.failure in {LinkFailure.TAKEN_OVER, LinkFailure.LOST}
        assert "certificate" in str(error)


@pytest.mark.parametrize(
    "name", ["+", "#", f"{VEHICLE_A}/down", f"{VEHICLE_A}/up", "ff-bridge-9", "a.b"]
)
async def test_a_name_that_no_ca_of_ours_gives_is_refused_or_powerless(
    room: Room, name: str
) -> None:
    # L7: the name in a certificate is trusted text.
    file = "odd-" + name.replace("/", "_")
    identity = (
        room.pki.issue(name, file=file)
        if not (room.pki.directory / file).exists()
        else TlsIdentity(
            room.pki.directory / file / "tls.crt",
            room.pki.directory / file / "tls.key",
            room.pki.anchors,
        )
    )
    async with (
        observing(room.link(ENGINEER), ["ff/v1/#"]) as engineer,
        observing(room.link(BRIDGE), ["ff/v1/+/up/#"]) as bridge,
        observing(room.link(VEHICLE_A), [f"ff/v1/{VEHICLE_A}/down/+"]) as vehicle,
    ):
        topics = [up(VEHICLE_A), down(VEHICLE_A), up("+"), up(name), down(name)]
        for topic in topics:
            with contextlib.suppress(LinkError, Exception):
                async with room.link(name, identity=identity) as odd:
                    await odd.publish(topic, b"odd " + name.encode())
        async with room.link(OTHER_BRIDGE) as other:
            await other.publish(down(VEHICLE_A), b"last " + name.encode())
        await vehicle.until(b"last " + name.encode())
        await vehicle.link.publish(up(VEHICLE_A), b"last " + name.encode())
        await bridge.until(b"last " + name.encode())
        await engineer.until(b"last " + name.encode())

        seen = {
            m.topic
            for o in (engineer, bridge, vehicle)
            for m in o.received
            if m.payload.startswith(b"odd")
        }
        # "ff-bridge-9" and "a.b" are single segments: mosquitto lets them have the
        # topics of a vehicle of their own name, which no reader takes for a vehicle.
        allowed = {up(name)} if room.is_mosquitto and "/" not in name else set()
        assert seen <= allowed - {up("+"), up("#")}


async def test_an_unregistered_vehicle_is_refused_or_has_its_own_topics_alone(
    room: Room,
) -> None:
    if not room.is_mosquitto:
        error = await refusal(
            room,
            client_context(room.identities[UNKNOWN], now=clock()),
            client_id=UNKNOWN,
        )
        assert error.failure is LinkFailure.REFUSED
        assert "registered" in str(error)
        assert error.retryable  # a callout that is down looks the same
        return
    # mosquitto cannot ask a registry: the bridge's decides, for every frame.
    async with observing(room.link(BRIDGE), ["ff/v1/+/up/#"]) as bridge:
        async with room.link(UNKNOWN) as unknown:
            await unknown.publish(up(UNKNOWN), b"unknown")

        await bridge.until(b"unknown")
        assert bridge.topics == {up(UNKNOWN)}


async def test_nats_own_listener_admits_nobody_of_the_fleet(room: Room) -> None:
    if room.is_mosquitto:
        pytest.skip("mosquitto has one listener")
    settings = (room.broker.log.parent / "nats-server.conf").read_text()
    port = int(settings.split('listen: "127.0.0.1:')[1].split('"')[0])

    def handshake() -> bytes:
        # Without the service's own certificate there is not even a handshake; with
        # TLS 1.3 the client learns that on its first read.
        context = raw_context(room, room.identities[BRIDGE])
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
            context.wrap_socket(plain) as secured,
        ):
            return secured.recv(4)

    with pytest.raises(OSError):  # noqa: PT011 - an alert or a reset, as it comes
        await asyncio.to_thread(handshake)


async def test_the_version_of_mqtt_is_found_once_and_remembered(room: Room) -> None:
    memory = VersionMemory()
    identity = room.identities[VEHICLE_A]
    settings = LinkSettings(room.broker.host, room.broker.port, client_id=VEHICLE_A)
    expected = MqttVersion.V5 if room.is_mosquitto else MqttVersion.V311
    context = client_context(identity, now=clock())

    for _ in range(2):
        async with MqttLink(settings, context, versions=memory) as link:
            assert link.version is expected

    assert memory.order(settings)[0] is expected


async def test_asking_nats_for_mqtt_5_says_what_to_set(room: Room) -> None:
    if room.is_mosquitto:
        pytest.skip("mosquitto speaks both")
    settings = LinkSettings(
        room.broker.host,
        room.broker.port,
        client_id=VEHICLE_A,
        version=MqttVersion.V5,
    )
    context = client_context(room.identities[VEHICLE_A], now=clock())

    with pytest.raises(LinkError, match="set version to auto"):
        async with MqttLink(settings, context):
            pass


async def test_our_own_checks_refuse_an_expired_certificate_before_connecting(
    room: Room,
) -> None:
    identity = room.pki.issue(
        VEHICLE_A, file="expired-here", starts=-2 * DAY, ends=-HOUR
    )

    with pytest.raises(TlsSetupError, match="expired on"):
        client_context(identity, now=clock())


async def test_nats_ends_a_connection_with_its_certificate(room: Room) -> None:
    # mosquitto 2.0.11 lets it live on (docs/adr/0004-embedded-broker.md).
    if room.is_mosquitto:
        pytest.skip("mosquitto looks at dates when connecting only")
    identity = room.pki.issue(
        VEHICLE_A,
        file="short",
        ends=clock() - room.pki.now + timedelta(seconds=2),
    )
    async with room.link(VEHICLE_A, identity=identity) as link:
        async with asyncio.timeout(6):
            error = await link.wait_lost()

    assert error.retryable
