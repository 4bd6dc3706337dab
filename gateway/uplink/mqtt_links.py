"""Real links: MQTT over mutual TLS, made anew for each attempt to connect."""

from datetime import UTC, datetime

from gateway.ports import Clock
from gateway.uplink.link import LinkFactory
from protocol.identity import VehicleId
from transport.link import LinkSettings, MqttLink, VersionMemory
from transport.tls import TlsIdentity, client_context


def mqtt_links(
    vehicle_id: VehicleId,
    tls: TlsIdentity,
    *,
    host: str,
    port: int,
    clock: Clock,
) -> LinkFactory:
    """Return what makes a vehicle's links to one broker.

    Certificates are read for each attempt, so that a renewed one is used without a
    restart.

    Args:
        vehicle_id: MQTT client id and user name.
        tls: the car's TLS files.
        host: the broker, by a name that its certificate has.
        port: its port.
        clock: against whose wall clock certificates are judged.

    Raises:
        LinkSettingsError: host or port is out of range.
    """
    settings = LinkSettings(host, port, client_id=str(vehicle_id))
    versions = VersionMemory()

    def make() -> MqttLink:
        now = datetime.fromtimestamp(clock.now().wall_ms / 1000, UTC)
        context = client_context(tls, now=now)
        return MqttLink(settings, context, versions=versions)

    return make
