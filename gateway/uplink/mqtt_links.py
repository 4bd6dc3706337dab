"""Real links: MQTT over mutual TLS, made anew for each attempt to connect."""

from datetime import UTC, datetime

from gateway.ports import TrustedTime
from gateway.uplink.link import LinkFactory
from protocol.identity import VehicleId
from transport.link import LinkSettings, MqttLink, VersionMemory
from transport.tls import TlsIdentity, floored_client_context


def mqtt_links(
    vehicle_id: VehicleId,
    tls: TlsIdentity,
    *,
    host: str,
    port: int,
    time: TrustedTime,
) -> LinkFactory:
    """Return what makes a vehicle's links to one broker.

    Certificates are read for each attempt, so that a renewed one is used without a
    restart.

    Args:
        vehicle_id: MQTT client id and user name.
        tls: the car's TLS files.
        host: the broker, by a name that its certificate has.
        port: its port.
        time: by whose floor certificates are judged, ours and the broker's.

    Raises:
        LinkSettingsError: host or port is out of range.
    """
    settings = LinkSettings(host, port, client_id=str(vehicle_id))
    versions = VersionMemory()

    def floor() -> datetime:
        return datetime.fromtimestamp(time.trusted_floor_ms() / 1000, UTC)

    def make() -> MqttLink:
        context = floored_client_context(tls, floor=floor)
        return MqttLink(settings, context, versions=versions)

    return make
