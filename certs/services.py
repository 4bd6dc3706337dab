"""What has a TLS identity of its own in a fleet directory: servers, bridges, engineers.

Bridges beside one another have one each (``bridge/1``, ``bridge/2`` ...): the common
name is the MQTT client id, so that a second bridge with the certificate of the first
would throw it off the broker.
"""

from pathlib import Path
from typing import Final, NamedTuple

from certs.profiles import Kind
from protocol.fleet import FleetPart

BRIDGES_LIMIT: Final = 9_999
"""Numbers of bridges: four digits stand in the certificate's name."""


class Service(NamedTuple):
    """One TLS identity."""

    kind: Kind
    """Its template."""
    part: str
    """Its directory in the fleet directory."""
    name: str
    """Its CN."""


SERVICES: Final = {
    "broker": Service(Kind.BROKER, FleetPart.BROKER.value, "ff-broker"),
    "bridge": Service(Kind.BRIDGE, FleetPart.BRIDGE.value, "ff-bridge-1"),
    "engineer": Service(Kind.ENGINEER, FleetPart.ENGINEER.value, "ff-engineer-1"),
    "enrolment": Service(Kind.ENROLMENT, FleetPart.ENROLMENT.value, "ff-enrolment"),
}
"""What every fleet has, by the name that a command calls it."""


def bridge_service(number: int) -> Service:
    """Return the identity of a bridge, 1 to `BRIDGES_LIMIT`."""
    return Service(Kind.BRIDGE, f"bridge/{number}", f"ff-bridge-{number}")


def services_of(fleet: Path) -> dict[str, Service]:
    """Return what this fleet directory has: `SERVICES`, ``bridge-2`` and so on."""
    numbers = sorted(
        int(path.name)
        for path in (fleet / "bridge").glob("*")
        if path.name.isdecimal() and 1 < int(path.name) <= BRIDGES_LIMIT
    )
    return SERVICES | {f"bridge-{one}": bridge_service(one) for one in numbers}
