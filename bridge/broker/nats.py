"""nats-server as the embedded broker: its settings.

NATS speaks MQTT 3.1.1 on top of JetStream. Its own client listener cannot be switched
off and our authorisation service (`bridge.broker.callout`) needs it, so it is bound to
loopback and guarded twice: mutual TLS with a certificate that was made for this one
start and that nothing else trusts, and a nonce signed by a key that never left our
memory. Everybody else who got that far would be asked about at the same service, which
admits MQTT only.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from transport.message import MAXIMUM_PACKET
from transport.tls import TlsIdentity

READY: Final = "Server is ready"

VEHICLE_ACCOUNT: Final = "FF"
"""The NATS account in which all MQTT clients live."""

MESSAGE_STREAM: Final = "$MQTT_msgs"
"""The JetStream stream in which NATS keeps QoS 1 messages until they are taken."""

MAXIMUM_STORE: Final = 512 * 1024 * 1024
"""Bytes that JetStream may use on disk."""

MAXIMUM_MESSAGES: Final = MAXIMUM_STORE // 2
"""Bytes of `MESSAGE_STREAM`. Below the whole: a full store cannot note the session of
the bridge that comes to empty it (embedded-broker.md)."""

MAXIMUM_PENDING: Final = 1024
"""Unacknowledged messages per subscription; 65,535 makes subscriptions fail
(measurements.md), and the link's inbox holds as many."""


@dataclass(frozen=True, slots=True)
class NatsServiceIdentity:
    """What our own two connections to the server are known by."""

    certificate: Path
    """Self-signed, for both ends of the client listener."""
    key: Path
    """Its key, mode 0600."""
    issuer: str
    """Public account key that signs authorisations."""
    callout: str
    """Public user key of the authorisation service."""
    steward: str
    """Public user key of the connection that bounds the message stream."""
    warden: str
    """Public user key of the connection that ends those of withdrawn vehicles."""


def nats_settings(
    *,
    host: str,
    port: int,
    client_port: int,
    identity: TlsIdentity,
    service: NatsServiceIdentity,
    store: Path,
    ack_wait_s: int,
) -> str:
    """Return the settings file of an MQTT listener with mutual TLS only."""
    return f"""\
server_name: freefloat
listen: {_quoted(f"127.0.0.1:{client_port}")}
tls {{
  cert_file: {_quoted(service.certificate)}
  key_file: {_quoted(service.key)}
  ca_file: {_quoted(service.certificate)}
  verify: true
  min_version: "1.3"
  handshake_first: true
}}
max_payload: {MAXIMUM_PACKET}
jetstream {{
  store_dir: {_quoted(store)}
  max_file: {MAXIMUM_STORE}
  limits {{ default_max_consumers: -1 }}
}}
mqtt {{
  listen: {_quoted(_address(host, port))}
  tls {{
    cert_file: {_quoted(identity.certificate)}
    key_file: {_quoted(identity.key)}
    ca_file: {_quoted(identity.trust_anchors)}
    verify: true
    min_version: "1.3"
    timeout: 5
  }}
  ack_wait: "{ack_wait_s}s"
  max_ack_pending: {MAXIMUM_PENDING}
}}
accounts {{
  AUTH: {{ users: [ {{ nkey: {service.callout} }} ] }}
  SYS: {{
    users: [ {{
      nkey: {service.warden}
      permissions: {{
        publish: "$SYS.REQ.SERVER.*.KICK"
        subscribe: "_INBOX.>"
      }}
    }} ]
  }}
  {VEHICLE_ACCOUNT}: {{
    jetstream: enabled
    users: [ {{
      nkey: {service.steward}
      permissions: {{
        publish: "$JS.API.STREAM.*.{MESSAGE_STREAM}"
        subscribe: "_INBOX.>"
      }}
    }} ]
  }}
}}
system_account: SYS
authorization {{
  timeout: 5
  auth_callout {{
    issuer: {service.issuer}
    auth_users: [ {service.callout}, {service.steward}, {service.warden} ]
    account: AUTH
  }}
}}
"""


def message_stream() -> bytes:
    """Return the request that creates the message stream with a bound.

    nats-server 2.15 makes it without one at the first MQTT connection unless it is
    there; the other values are its own (server/mqtt.go).
    """
    return json.dumps(
        {
            "name": MESSAGE_STREAM,
            "subjects": ["$MQTT.msgs.>"],
            "storage": "file",
            "retention": "interest",
            "num_replicas": 1,
            "max_bytes": MAXIMUM_MESSAGES,
            "discard": "new",
        }
    ).encode()


def _quoted(value: str | Path) -> str:
    text = str(value.absolute()) if isinstance(value, Path) else value
    return json.dumps(text)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
