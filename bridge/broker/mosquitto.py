"""mosquitto as the embedded broker: where it is, its settings, its access list.

Every line has its reason in deploy/mosquitto.conf, which is the same block for an
operator's own server; a test holds the two together.
"""

import os
import pwd
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bridge.broker.access import BRIDGE_GRANT, ENGINEER_GRANT, Grant, vehicle_grant
from bridge.broker.errors import BrokerSetupError
from protocol.identity import VEHICLE_TEXT
from protocol.topic import PREFIX
from transport.message import MAXIMUM_PACKET
from transport.tls import TlsIdentity

READY: Final = " running"
"""mosquitto 2.0: "mosquitto version 2.0.11 running", after its listeners are open."""


@dataclass(frozen=True, slots=True)
class MosquittoFiles:
    """The files of one mosquitto; all in the broker's own directory."""

    settings: Path
    """Given to mosquitto by ``-c``."""
    access_list: Path
    """Its ``acl_file``."""


def mosquitto_settings(
    *,
    host: str,
    port: int,
    identity: TlsIdentity,
    access_list: Path,
    pid_file: Path,
    warden: TlsIdentity,
    warden_port: int,
) -> str:
    """Return the settings file of a listener with mutual TLS and nothing else.

    Args:
        host: address for everybody.
        port: TCP port for everybody.
        identity: the server's certificate, key and the clients' trust anchors.
        access_list: what `mosquitto_access_list` returned.
        pid_file: written by mosquitto, for who makes it read the list again.
        warden: certificate, key and only client certificate of the listener by which
            sessions are ended (`bridge.broker.mosquitto_warden`).
        warden_port: its TCP port on loopback.

    Raises:
        BrokerSetupError: a path has a line break, which the file cannot express.
    """
    lines = [
        f"user {_user()}",
        f"pid_file {pid_file.absolute()}",
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_type notice",
        "log_type information",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        f"listener {port} {host}",
        "allow_anonymous false",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "tls_version tlsv1.3",
        f"cafile {identity.trust_anchors.absolute()}",
        f"certfile {identity.certificate.absolute()}",
        f"keyfile {identity.key.absolute()}",
        f"acl_file {access_list.absolute()}",
        "set_tcp_nodelay true",
        f"max_packet_size {MAXIMUM_PACKET}",
        "max_inflight_messages 0",
        "max_queued_messages 200000",
        "max_queued_bytes 268435456",
        "retain_available false",
        "persistence false",
        "sys_interval 0",
        f"listener {warden_port} 127.0.0.1",
        "require_certificate true",
        "use_identity_as_username true",
        "tls_version tlsv1.3",
        f"cafile {warden.trust_anchors.absolute()}",
        f"certfile {warden.certificate.absolute()}",
        f"keyfile {warden.key.absolute()}",
    ]
    for line in lines:
        if "\n" in line or "\r" in line:
            raise BrokerSetupError(
                f"{line!r} has a line break, which mosquitto's settings cannot hold: "
                "move the files to another directory"
            )
    return "\n".join([*lines, ""])


def mosquitto_access_list(
    bridges: tuple[str, ...],
    engineers: tuple[str, ...],
    withdrawn: Collection[str] = (),
) -> str:
    """Return the access list: staff by name, vehicles by pattern, the withdrawn denied.

    A denial by name goes before every pattern (mosquitto.conf(5), acl_file).

    Patterns apply to every principal, so a bridge or an engineer also has the topics
    of a vehicle of its own name, which is no vehicle id: whoever reads them drops them.
    """
    lines: list[str] = []
    for names, grant in ((bridges, BRIDGE_GRANT), (engineers, ENGINEER_GRANT)):
        for name in names:
            lines += [f"user {name}", *_rules("topic", grant), ""]
    for name in sorted(withdrawn):
        if VEHICLE_TEXT.fullmatch(name):
            lines += [f"user {name}", f"topic deny {PREFIX}/{name}/#", ""]
    lines += _rules("pattern", vehicle_grant("%u"))
    return "\n".join([*lines, ""])


def _rules(keyword: str, grant: Grant) -> Iterator[str]:
    for topic in grant.publish:
        yield f"{keyword} write {topic}"
    for topic in grant.subscribe:
        yield f"{keyword} read {topic}"


def _user() -> str:
    """Return who mosquitto shall run as: who we are.

    Started by root, mosquitto becomes the user "mosquitto", who cannot read a key of
    mode 0600 that is ours. Started by anybody else it ignores the line.
    """
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container's number without a name
        return "mosquitto"
