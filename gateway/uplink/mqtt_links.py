"""Real links: MQTT over mutual TLS, made anew for each attempt to connect."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from types import TracebackType

from gateway.ports import TlsIdentities, TrustedTime
from gateway.uplink.link import Link, LinkFactory
from protocol.codes import FrameClass
from protocol.identity import VehicleId
from protocol.topic import topic_of
from transport.addresses import AddressMemory
from transport.errors import LinkError, LinkFailure, TlsSetupError
from transport.link import LinkSettings, MqttLink, VersionMemory, Will
from transport.tls import TlsIdentity, floored_client_context, read_certificates


class _ReportingLink(AbstractAsyncContextManager[Link]):
    """A link that tells how its identity fared."""

    def __init__(
        self,
        link: MqttLink,
        identity: TlsIdentity,
        identities: TlsIdentities,
        floor: Callable[[], datetime],
    ) -> None:
        self._link = link
        self._identity = identity
        self._identities = identities
        self._floor = floor

    async def __aenter__(self) -> Link:
        try:
            link = await self._link.__aenter__()
        except LinkError as error:
            if error.failure is LinkFailure.TLS:
                self._identities.refused(self._identity)
                if early := self._early():
                    raise LinkError(
                        f"{error}; {early}", failure=error.failure
                    ) from error
            raise
        self._identities.connected(self._identity)
        return link

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._link.__aexit__(exc_type, exc, traceback)

    def _early(self) -> str:
        """Say so if our certificate may not have begun; no TLS alert tells it apart."""
        try:
            leaf = read_certificates(self._identity.certificate)[0]
        except TlsSetupError:  # gone since the attempt began
            return ""
        begins = leaf.not_valid_before_utc
        if self._floor() >= begins:
            return ""
        return (
            f"ours begins on {begins.isoformat()}: once the broker's clock is beyond "
            "that, it lets the car in without anything to be done"
        )


def mqtt_links(
    vehicle_id: VehicleId,
    identities: TlsIdentities,
    *,
    host: str,
    port: int,
    time: TrustedTime,
    other_hosts: tuple[str, ...] = (),
) -> LinkFactory:
    """Return what makes a vehicle's links to one broker.

    Certificates are read for each attempt, so that a renewed one is used without a
    restart.

    Args:
        vehicle_id: MQTT client id and user name.
        identities: the car's TLS files, and who is told whether they served.
        host: the broker, by a name that its certificate has.
        port: its port.
        time: by whose floor certificates are judged, ours and the broker's.
        other_hosts: tried in this order where `host` gives no link.

    Raises:
        LinkSettingsError: host or port is out of range.
    """
    settings = LinkSettings(
        host, port, client_id=str(vehicle_id), other_hosts=other_hosts
    )
    versions, addresses = VersionMemory(), AddressMemory()
    death_topic = topic_of(vehicle_id, FrameClass.DEATH)

    def floor() -> datetime:
        return datetime.fromtimestamp(time.trusted_floor_ms() / 1000, UTC)

    def make(will: bytes) -> AbstractAsyncContextManager[Link]:
        identity = identities.current()
        try:
            context = floored_client_context(identity, floor=floor)
        except TlsSetupError:
            identities.refused(identity)
            raise
        return _ReportingLink(
            MqttLink(
                settings,
                context,
                will=Will(death_topic, will),
                versions=versions,
                addresses=addresses,
            ),
            identity,
            identities,
            floor,
        )

    return make
