"""Who may publish and receive what at the broker; pure, one rule for both servers.

The attacker considered is a valid car of the fleet, opened by its driver: it has a
certificate that every broker accepts, and wants to open another car, to read where
others are, or to throw the bridge off. The broker confines it; signatures of frames
are the other lock and do not depend on this one (reliability.md K6, K7).

Rules:

1. Topics are allowed class by class and segment by segment. No allowance ends in ``#``,
   so a name with a slash in it reaches nobody (L7).
2. A vehicle publishes upwards and receives downwards; ``readwrite`` on its own prefix
   would let it send itself commands.
3. Who is not listed has nothing.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bridge.broker.errors import BrokerSetupError
from protocol.topic import ALL_UPLINKS, DOWN_CLASSES, EVERYTHING, PREFIX, UP_CLASSES

STAFF_NAME: Final = re.compile(r"ff-(bridge|engineer)-[0-9]{1,4}")
"""Common names of bridge replicas and engineers; no vehicle id looks like this."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one principal may do, as MQTT topic filters."""

    publish: tuple[str, ...]
    """Filters of the topics it may publish to."""
    subscribe: tuple[str, ...]
    """Filters of the topics that may be delivered to it."""
    wide: tuple[str, ...]
    """Wider filters that its programs subscribe to. mosquitto grants any filter and
    checks each delivery; NATS compares the filter itself with what is allowed, so these
    must be allowed there. They match no topic that anybody may publish to and this
    principal may not read."""


@dataclass(frozen=True, slots=True)
class BrokerAccess:
    """Who is who; the certificate's common name is the principal's name."""

    is_vehicle: Callable[[str], bool]
    """Whether this name is a vehicle in the registry that may connect. Asked at every
    connect on NATS and every few seconds after; mosquitto cannot ask."""
    bridges: tuple[str, ...] = ("ff-bridge-1",)
    """Names of the bridge's replicas; each has a certificate of its own."""
    engineers: tuple[str, ...] = ("ff-engineer-1",)
    """Names of engineers, who may read everything and publish nothing."""
    withdrawn: Callable[[], frozenset[str]] = frozenset
    """Vehicles that had been registered and are not any more. mosquitto is told of
    them; see docs/adr/0011-revocation.md."""

    def __post_init__(self) -> None:
        for name in (*self.bridges, *self.engineers):
            if not STAFF_NAME.fullmatch(name):
                raise BrokerSetupError(
                    f"{name[:40]!r} is no name of a bridge or an engineer: it must be "
                    "ff-bridge-<n> or ff-engineer-<n> with up to four digits"
                )

    def grant(self, name: str) -> Grant | None:
        """Return what a principal may do; None for who is unknown."""
        if name in self.bridges:
            return BRIDGE_GRANT
        if name in self.engineers:
            return ENGINEER_GRANT
        if self.is_vehicle(name):
            return vehicle_grant(name)
        return None


def vehicle_grant(name: str) -> Grant:
    """Return what the vehicle of this name may do."""
    return Grant(
        publish=_topics(name, "up"),
        subscribe=_topics(name, "down"),
        wide=(f"{PREFIX}/{name}/down/+",),
    )


def _topics(name: str, direction: str) -> tuple[str, ...]:
    classes = UP_CLASSES if direction == "up" else DOWN_CLASSES
    return tuple(f"{PREFIX}/{name}/{direction}/{c.label}" for c in classes)


BRIDGE_GRANT: Final = Grant(
    publish=_topics("+", "down"),
    subscribe=_topics("+", "up"),
    wide=(f"{PREFIX}/+/up/+", ALL_UPLINKS),
)
"""The mirror image of every vehicle's."""

ENGINEER_GRANT: Final = Grant(
    publish=(),
    subscribe=(*_topics("+", "up"), *_topics("+", "down")),
    wide=(f"{PREFIX}/+/up/+", ALL_UPLINKS, f"{PREFIX}/+/down/+", EVERYTHING),
)
"""Reads everything, publishes nothing."""
