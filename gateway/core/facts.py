"""What the fleet has told the car about the world: bodies of configurations, read.

They are on the disk as bodies (FF-CFG-07), so the stored state does not have them: the
shell tells them again after each start. A kind that this car makes no use of is kept
and told in the hello as every other, and changes nothing here.
"""

from dataclasses import dataclass, replace
from typing import Final

from protocol.business_area import BusinessArea, parse_business_area
from protocol.codes import ConfigKind
from protocol.damage_list import Damage, parse_damage_list
from protocol.station_list import Station, parse_station_list


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that is in force."""

    known_damage: tuple[Damage, ...] = ()
    """What each customer is shown (C9)."""
    area: BusinessArea | None = None
    """Where a rental may end (H20); None: everywhere."""
    stations: tuple[Station, ...] = ()
    """Partner stations and chargers (C15)."""


NO_FACTS: Final = Facts()
"""Of a car that was told nothing."""


def with_body(facts: Facts, kind: int, body: bytes) -> Facts:
    """Return the facts with one body in place of that before.

    Args:
        facts: those before.
        kind: `protocol.codes.ConfigKind`.
        body: all of it.

    Raises:
        DecodeError: the body cannot be read; it must not come into force.
    """
    match kind:
        case ConfigKind.KNOWN_DAMAGE:
            return replace(facts, known_damage=parse_damage_list(body))
        case ConfigKind.BUSINESS_AREA:
            return replace(facts, area=parse_business_area(body))
        case ConfigKind.STATIONS:
            return replace(facts, stations=parse_station_list(body))
        case _:
            return facts
