"""One MQTT connection over mutual TLS, as the rest of freefloat sees it.

A link is entered once. To reconnect, make another; keep the `VersionMemory`, the
`transport.addresses.AddressMemory` and a `transport.backoff.Backoff`:

    context = client_context(identity, now=clock())
    settings = LinkSettings(host, port, client_id=common_name(identity))
    async with MqttLink(settings, context, versions=memory) as link:
        await link.subscribe("ff/v1/<me>/down/+")
        async for message in link.messages():
            await commit(message)
            message.done()

The session is always a clean one: what must not be lost lies in the sender's ledger
until the receiver's signed receipt comes (reliability.md L1), so a broker's memory of
us is of no use, and of harm where it holds an old unlock (L9).
"""

import asyncio
import enum
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

import aiomqtt

from transport.addresses import Address, AddressMemory, addresses_of
from transport.diagnosis import (
    ConnectOptions,
    VersionRefusedError,
    connect_error,
    failure_of_all,
    name_error,
)
from transport.errors import LinkError, LinkFailure, TransportError
from transport.message import MAXIMUM_PACKET, IncomingMessage
from transport.race import Race, connect_tcp
from transport.strict_client import StrictClient

HOST_SHARE: Final = 2.0
"""Times the connect timeout that one host may take, of which half goes to its name."""

ATTEMPT_SHARE: Final = 3.0
"""Times the connect timeout that an attempt may take, whatever it has to try: a car
that is not connected by then waits and begins with what it has not tried."""

LEAST_S: Final = 0.1
"""What an address that answered in the last moment gets; paho takes no less than 0."""

_LARGEST_PORT: Final = 65_535
_LARGEST_KEEPALIVE_S: Final = 65_535
_LARGEST_RECEIVE_MAXIMUM: Final = 65_535


@enum.unique
class MqttVersion(enum.StrEnum):
    """Which MQTT to speak."""

    AUTO = "auto"
    """5 where the broker has it, else 3.1.1 (NATS)."""
    V5 = "5"
    """MQTT 5 or no link."""
    V311 = "311"
    """MQTT 3.1.1 or no link. It has no negative PUBACK and no message expiry."""


class LinkSettingsError(TransportError, ValueError):
    """A value of the link's settings is out of its range."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where to connect and how patient to be."""

    host: str
    """Name or address of the broker; its certificate must name it. Each address of a
    name is tried."""
    port: int
    """TCP port, 1 to 65 535."""
    other_hosts: tuple[str, ...] = field(default=(), kw_only=True)
    """Tried in this order, at the same port, where `host` gives no link: other names of
    the broker, or of others of its cluster. Each one's certificate must name it."""
    client_id: str = field(kw_only=True)
    """Also the MQTT user name; must be the certificate's common name (K6)."""
    version: MqttVersion = field(default=MqttVersion.AUTO, kw_only=True)
    """Which MQTT to speak."""
    keepalive_s: int = field(default=15, kw_only=True)
    """Seconds of silence after which one side asks, 1 to 65 535. 15 in a rental; longer
    at rest, where each packet costs the 12 V battery (L10). A dead broker is noticed
    after twice this time."""
    connect_timeout_s: float = field(default=10.0, kw_only=True)
    """At the most at one address, for TCP and then until CONNACK. A whole attempt ends
    after three times this, shared among the hosts, with half of each one's share for
    its name: an address that is dead does not use up the time of the others."""
    publish_timeout_s: float = field(default=10.0, kw_only=True)
    """How long to wait for PUBACK, SUBACK and UNSUBACK."""
    receive_maximum: int = field(default=64, kw_only=True)
    """Unacknowledged messages that a broker of MQTT 5 may have on the way to us, 1 to
    65 535. A broker of 3.1.1 has a limit of its own."""
    inbox_limit: int = field(default=1024, kw_only=True)
    """Messages taken from the connection and not yet by the consumer at which reading
    stops, at least 1."""
    in_flight: int = field(default=64, kw_only=True)
    """Our own messages that may await PUBACK at one time, at least 1."""

    def __post_init__(self) -> None:
        for name, value, largest in (
            ("port", self.port, _LARGEST_PORT),
            ("keepalive_s", self.keepalive_s, _LARGEST_KEEPALIVE_S),
            ("receive_maximum", self.receive_maximum, _LARGEST_RECEIVE_MAXIMUM),
        ):
            if not 1 <= value <= largest:
                raise LinkSettingsError(f"{name} {value} is not within 1 and {largest}")
        for name, number in (
            ("connect_timeout_s", self.connect_timeout_s),
            ("publish_timeout_s", self.publish_timeout_s),
            ("inbox_limit", self.inbox_limit),
            ("in_flight", self.in_flight),
        ):
            if not number > 0:
                raise LinkSettingsError(f"{name} {number} is not above 0")
        if not all(self.hosts):
            raise LinkSettingsError("host is empty: name the broker")
        if not self.client_id:
            raise LinkSettingsError(
                "client_id is empty: it is the certificate's common name"
            )

    @property
    def hosts(self) -> tuple[str, ...]:
        """Every host, in the order in which they are tried."""
        return (self.host, *self.other_hosts)


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker publishes for us if the link breaks; never retained."""

    topic: str
    """One that we may publish to ourselves."""
    payload: bytes = field(repr=False)
    """A frame signed beforehand."""


@dataclass(slots=True)
class VersionMemory:
    """Which MQTT version each broker was found to speak.

    Kept by who reconnects, so that a broker of 3.1.1 costs one failed connect in a
    process and not one per reconnect. It may be shared by many links.
    """

    _known: dict[tuple[str, int], MqttVersion] = field(default_factory=dict)

    def order(self, settings: LinkSettings) -> tuple[MqttVersion, ...]:
        """Return the versions to try, in this order."""
        if settings.version is not MqttVersion.AUTO:
            return (settings.version,)
        both = (MqttVersion.V5, MqttVersion.V311)
        first = self._known.get((settings.host, settings.port), MqttVersion.V5)
        return (first, *(v for v in both if v is not first))

    def note(self, settings: LinkSettings, version: MqttVersion) -> None:
        """Remember what worked."""
        self._known[settings.host, settings.port] = version


_PROTOCOLS: Final = {
    MqttVersion.V5: aiomqtt.ProtocolVersion.V5,
    MqttVersion.V311: aiomqtt.ProtocolVersion.V311,
}


class MqttLink:
    """One connection to a broker; an asynchronous context manager, entered once."""

    def __init__(
        self,
        settings: LinkSettings,
        context: ssl.SSLContext,
        *,
        will: Will | None = None,
        versions: VersionMemory | None = None,
        addresses: AddressMemory | None = None,
    ) -> None:
        self._settings = settings
        self._context = context
        self._will = will
        self._versions = VersionMemory() if versions is None else versions
        self._addresses = AddressMemory() if addresses is None else addresses
        self._client: StrictClient | None = None
        self._version: MqttVersion | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            LinkError: there is no link; the message says why and what to do.
        """
        if self._client is not None:
            raise LinkSettingsError("a link is entered once: make another to reconnect")
        settings, failures = self._settings, list[LinkError]()
        share_s = settings.connect_timeout_s * min(
            HOST_SHARE, ATTEMPT_SHARE / len(settings.hosts)
        )
        for host in settings.hosts:
            if await self._try(host, share_s, failures):
                return self
        raise failure_of_all(failures)

    async def _try(self, host: str, share_s: float, failures: list[LinkError]) -> bool:
        """Try each address of a host within `share_s`; return whether there is a link.

        `failures` gets why not.
        """
        settings, clock = self._settings, asyncio.get_running_loop().time
        ends_s = clock() + share_s
        addresses = await self._find(host, share_s / 2, failures)

        def patience_s() -> float:
            return max(LEAST_S, min(settings.connect_timeout_s, ends_s - clock()))

        def failed(address: Address, error: LinkError) -> None:
            self._addresses.note_failure(host, settings.port, address)
            failures.append(error)

        async with Race(addresses, timeout_s=patience_s()) as race:
            while clock() < ends_s:
                try:
                    async with asyncio.timeout_at(ends_s):
                        found = await race.next()
                except TimeoutError:
                    break
                if found is None:
                    return False
                address, made = found
                try:
                    await self._open(host, address, made, patience_s)
                except LinkError as error:
                    failed(address, error)
                else:
                    self._addresses.note(host, settings.port, address)
                    return True
            for address in race.silent:
                options = self._options(MqttVersion.V5, host, address, share_s)
                failed(address, connect_error(TimeoutError(), options))
        return False

    async def _find(
        self, host: str, timeout_s: float, failures: list[LinkError]
    ) -> list[Address]:
        """Return where to try; that a name has no address is a failure of its own."""
        settings, found = self._settings, list[Address]()
        try:
            async with asyncio.timeout(timeout_s):
                found = await addresses_of(host, settings.port)
        except OSError as error:  # TimeoutError, too
            failures.append(name_error(error, host))
        return self._addresses.order(host, settings.port, found)

    async def _open(
        self,
        host: str,
        address: Address,
        made: socket.socket | OSError,
        patience_s: Callable[[], float],
    ) -> None:
        """Speak MQTT over a connection; over another one for another version."""
        refusal: VersionRefusedError | None = None
        for version in self._versions.order(self._settings):
            options = self._options(version, host, address, patience_s())
            if refusal is not None:
                made = await _connect_again(address, options.connect_timeout_s)
            if isinstance(made, OSError):
                raise connect_error(made, options) from made
            client = StrictClient(options, self._context)
            try:
                await client.open(made)
            except VersionRefusedError as error:
                refusal = error
                continue
            self._client, self._version = client, version
            self._versions.note(self._settings, version)
            return
        raise LinkError(
            f"the broker at {host}:{self._settings.port} speaks neither "
            "MQTT version that was tried: set version to auto, or update the broker",
            failure=LinkFailure.REFUSED,
        ) from refusal

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Disconnect; the will is not published. Never raises for a lost link."""
        await self._connected.close()

    @property
    def version(self) -> MqttVersion:
        """The version in use, never AUTO."""
        if self._version is None:
            raise LinkError("connect first", failure=LinkFailure.LOST)
        return self._version

    @property
    def is_connected(self) -> bool:
        """Whether the connection stands, as far as we know."""
        return self._client is not None and not self._client.lost.done()

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry_s: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Publish, and return when the broker has taken the message.

        That is no authorisation (NATS, and MQTT 3.1.1 at large, acknowledge what they
        then discard) and no durability (L1): only the receiver's signed answer is.

        Args:
            topic: where to; without wildcards.
            payload: what; with topic and header at most `MAXIMUM_PACKET` bytes.
            qos: 0 or 1. With 0 the return means that it was written to the socket.
            retain: for tests of a broker only; nothing in freefloat is retained (L9).
            expiry_s: seconds after which the broker shall not deliver it any more.
                Without effect on MQTT 3.1.1; the car checks freshness itself.
            timeout_s: instead of the settings' `publish_timeout_s`.

        Raises:
            PublishRefusedError: the broker says no; nobody got it.
            OutcomeUnknownError: no answer; it may have been delivered.
            LinkError: there is no link; it was not sent.
        """
        await self._connected.publish_strictly(
            topic,
            payload,
            qos=qos,
            retain=retain,
            expiry_s=expiry_s,
            timeout_s=self._patience(timeout_s),
        )

    def post(self, topic: str, payload: bytes, *, expiry_s: int | None = None) -> None:
        """Publish with QoS 0, for what is said again if it is lost.

        It is on its way to the socket when this returns; nobody says what became of it.

        Raises:
            LinkError: there is no link, or the broker has stopped reading; not sent.
            PublishRefusedError: it is too large; not sent.
        """
        self._connected.post(topic, payload, expiry_s=expiry_s)

    async def subscribe(
        self, *topic_filters: str, qos: int = 1, timeout_s: float | None = None
    ) -> None:
        """Subscribe, and return when the broker has granted every filter at `qos`.

        mosquitto grants what its access list then filters: a grant promises nothing
        (reliability.md L8).

        Raises:
            SubscriptionRefusedError: a filter was refused or granted at a lower QoS;
                the others of the call are in force.
            LinkError: there is no link or no answer.
        """
        await self._connected.subscribe_strictly(
            topic_filters, qos=qos, timeout_s=self._patience(timeout_s)
        )

    async def unsubscribe(
        self, *topic_filters: str, timeout_s: float | None = None
    ) -> None:
        """Unsubscribe; messages on their way may still arrive.

        Raises:
            LinkError: there is no link or no answer.
        """
        await self._connected.unsubscribe_strictly(
            topic_filters, timeout_s=self._patience(timeout_s)
        )

    async def messages(self) -> AsyncIterator[IncomingMessage]:
        """Yield messages as they arrive; acknowledge each by `done()`.

        Messages that had arrived before a loss are yielded first: their frames are
        genuine, although `done()` no longer reaches the broker. Ends quietly after our
        own `__aexit__`.

        Raises:
            LinkError: the link was lost.
        """
        while True:
            message = await self._connected.inbox.get()
            if message is None:
                break
            yield message
        if not self._connected.is_closed_by_us:
            raise self._connected.lost.result()

    async def receive(self) -> IncomingMessage:
        """Return the next message.

        Raises:
            LinkError: the link was lost or closed.
        """
        message = await self._connected.inbox.get()
        if message is None:
            raise self._connected.lost.result()
        return message

    async def take(self, limit: int) -> list[IncomingMessage]:
        """Return the next messages, at least one and at most `limit`.

        Raises:
            LinkError: the link was lost or closed, and nothing is left of it.
        """
        messages = await self._connected.inbox.take(limit)
        if not messages:
            raise self._connected.lost.result()
        return messages

    @property
    def waiting(self) -> int:
        """Messages that have arrived and were not taken yet."""
        return len(self._connected.inbox)

    def acknowledge(self, message: IncomingMessage) -> None:
        """Do as `message.done()` does."""
        message.done()

    async def wait_lost(self) -> LinkError:
        """Wait until the connection has ended and return why."""
        return await asyncio.shield(self._connected.lost)

    @property
    def _connected(self) -> StrictClient:
        if self._client is None:
            raise LinkError("not sent: connect first", failure=LinkFailure.LOST)
        return self._client

    def _patience(self, timeout_s: float | None) -> float:
        return self._settings.publish_timeout_s if timeout_s is None else timeout_s

    def _options(
        self, version: MqttVersion, host: str, address: Address, timeout_s: float
    ) -> ConnectOptions:
        settings = self._settings
        will = self._will
        return ConnectOptions(
            host=host,
            port=settings.port,
            address=address,
            client_id=settings.client_id,
            protocol=_PROTOCOLS[version],
            keepalive_s=settings.keepalive_s,
            connect_timeout_s=timeout_s,
            receive_maximum=settings.receive_maximum,
            inbox_limit=settings.inbox_limit,
            in_flight=settings.in_flight,
            maximum_packet=MAXIMUM_PACKET,
            will=None
            if will is None
            else aiomqtt.Will(will.topic, will.payload, qos=1, retain=False),
        )


async def _connect_again(address: Address, timeout_s: float) -> socket.socket | OSError:
    try:
        return await connect_tcp(address, timeout_s)
    except OSError as error:
        return error
