"""The state machine of MDS 2.0, mode car-share, as a table.

Source: the Mobility Data Specification 2.0.2, modes/car-share.md, "Vehicle States
Events". The table is data; `way_to` finds how an event becomes legal where entries that
should have come before it are lost, so that whatever is told, every step is one of the
table's.
"""

from collections import deque
from enum import StrEnum, unique
from functools import cache
from typing import Final, NamedTuple


@unique
class MdsState(StrEnum):
    """Where a vehicle is, as a city counts it."""

    REMOVED = "removed"
    AVAILABLE = "available"
    NON_OPERATIONAL = "non_operational"
    RESERVED = "reserved"
    ON_TRIP = "on_trip"
    STOPPED = "stopped"
    NON_CONTACTABLE = "non_contactable"
    ELSEWHERE = "elsewhere"


@unique
class MdsEventType(StrEnum):
    """Why a vehicle is where it is now."""

    CHARGING_START = "charging_start"
    CHARGING_END = "charging_end"
    COMMS_LOST = "comms_lost"
    COMMS_RESTORED = "comms_restored"
    CUSTOMER_CANCELLATION = "customer_cancellation"
    DRIVER_CANCELLATION = "driver_cancellation"
    PROVIDER_CANCELLATION = "provider_cancellation"
    DECOMMISSIONED = "decommissioned"
    RECOMMISSIONED = "recommissioned"
    FUELING_START = "fueling_start"
    FUELING_END = "fueling_end"
    MAINTENANCE = "maintenance"
    MAINTENANCE_PICK_UP = "maintenance_pick_up"
    MAINTENANCE_END = "maintenance_end"
    REMOTE_START = "remote_start"
    REMOTE_END = "remote_end"
    RESERVATION_START = "reservation_start"
    RESERVATION_STOP = "reservation_stop"
    SERVICE_START = "service_start"
    SERVICE_END = "service_end"
    TRIP_START = "trip_start"
    TRIP_STOP = "trip_stop"
    TRIP_RESUME = "trip_resume"
    TRIP_END = "trip_end"
    TRIP_ENTER_JURISDICTION = "trip_enter_jurisdiction"
    TRIP_LEAVE_JURISDICTION = "trip_leave_jurisdiction"


class Arc(NamedTuple):
    """One row of the table."""

    source: MdsState
    type: MdsEventType
    target: MdsState


def _arcs() -> frozenset[Arc]:
    s, t = MdsState, MdsEventType
    rows: dict[MdsState, dict[MdsState, tuple[MdsEventType, ...]]] = {
        s.AVAILABLE: {
            s.ELSEWHERE: (t.TRIP_LEAVE_JURISDICTION,),
            s.NON_CONTACTABLE: (t.COMMS_LOST,),
            s.NON_OPERATIONAL: (t.SERVICE_END,),
            s.RESERVED: (t.RESERVATION_START,),
        },
        s.ELSEWHERE: {
            s.AVAILABLE: (t.TRIP_ENTER_JURISDICTION,),
            s.NON_CONTACTABLE: (t.COMMS_LOST,),
            s.NON_OPERATIONAL: (t.TRIP_ENTER_JURISDICTION,),
            s.ON_TRIP: (t.TRIP_ENTER_JURISDICTION,),
            s.RESERVED: (t.TRIP_ENTER_JURISDICTION,),
        },
        s.NON_CONTACTABLE: {
            target: (t.COMMS_RESTORED,) for target in s if target != s.NON_CONTACTABLE
        },
        s.NON_OPERATIONAL: {
            s.AVAILABLE: (t.SERVICE_START,),
            s.ELSEWHERE: (t.TRIP_LEAVE_JURISDICTION,),
            s.NON_CONTACTABLE: (t.COMMS_LOST,),
            s.REMOVED: (t.DECOMMISSIONED, t.MAINTENANCE_PICK_UP, t.MAINTENANCE),
        },
        s.ON_TRIP: {
            s.ELSEWHERE: (t.TRIP_LEAVE_JURISDICTION,),
            s.NON_CONTACTABLE: (t.COMMS_LOST,),
            s.STOPPED: (t.TRIP_STOP,),
        },
        s.REMOVED: {
            s.NON_CONTACTABLE: (t.COMMS_LOST,),
            s.NON_OPERATIONAL: (t.MAINTENANCE_END, t.RECOMMISSIONED),
        },
        s.RESERVED: {
            s.AVAILABLE: (
                t.DRIVER_CANCELLATION,
                t.CUSTOMER_CANCELLATION,
                t.PROVIDER_CANCELLATION,
            ),
            s.ELSEWHERE: (t.TRIP_LEAVE_JURISDICTION,),
            s.NON_CONTACTABLE: (t.COMMS_LOST,),
            s.STOPPED: (t.RESERVATION_STOP,),
        },
        s.STOPPED: {
            s.AVAILABLE: (
                t.DRIVER_CANCELLATION,
                t.CUSTOMER_CANCELLATION,
                t.PROVIDER_CANCELLATION,
                t.TRIP_END,
            ),
            s.NON_CONTACTABLE: (t.COMMS_LOST,),
            s.ON_TRIP: (t.TRIP_RESUME, t.TRIP_START),
            s.STOPPED: (
                *(t.CHARGING_END, t.CHARGING_START, t.FUELING_END, t.FUELING_START),
                *(t.REMOTE_END, t.REMOTE_START),
            ),
        },
    }
    return frozenset(
        Arc(source, kind, target)
        for source, targets in rows.items()
        for target, kinds in targets.items()
        for kind in kinds
    )


ARCS: Final = _arcs()
"""Every legal step."""

OF_TRIPS: Final = frozenset(
    {
        MdsEventType.RESERVATION_START,
        MdsEventType.RESERVATION_STOP,
        MdsEventType.TRIP_START,
        MdsEventType.TRIP_RESUME,
        MdsEventType.TRIP_STOP,
        MdsEventType.TRIP_END,
        MdsEventType.CUSTOMER_CANCELLATION,
        MdsEventType.PROVIDER_CANCELLATION,
        MdsEventType.DRIVER_CANCELLATION,
    }
)
"""Events that must name their trip (car-share, "Trip ID Requirements")."""

_BRIDGING: Final = (
    MdsEventType.TRIP_STOP,
    MdsEventType.PROVIDER_CANCELLATION,
    MdsEventType.TRIP_END,
    MdsEventType.MAINTENANCE_END,
    MdsEventType.SERVICE_START,
    MdsEventType.SERVICE_END,
    MdsEventType.MAINTENANCE,
    MdsEventType.RESERVATION_START,
    MdsEventType.RESERVATION_STOP,
    MdsEventType.TRIP_START,
)
"""What may be inferred where entries are missing, the likeliest first. Who is stopped
after a trip ended it; who was only reserved was cancelled."""


def targets_of(source: MdsState, kind: MdsEventType) -> tuple[MdsState, ...]:
    """Return where an event leads from a state; nothing if it is not legal there."""
    return tuple(target for target in MdsState if Arc(source, kind, target) in ARCS)


def _bridges(source: MdsState) -> list[Arc]:
    found = []
    for kind in _BRIDGING:
        is_second_choice = (
            source is MdsState.STOPPED and kind is MdsEventType.PROVIDER_CANCELLATION
        )
        if not is_second_choice:
            found += [Arc(source, kind, t) for t in targets_of(source, kind)]
    return found


def _ways_from(source: MdsState) -> dict[MdsState, tuple[Arc, ...]]:
    ways: dict[MdsState, tuple[Arc, ...]] = {source: ()}
    queue = deque([source])
    while queue:
        state = queue.popleft()
        for arc in _bridges(state):
            if arc.target not in ways:
                ways[arc.target] = (*ways[state], arc)
                queue.append(arc.target)
    return ways


_WAYS: Final = {state: _ways_from(state) for state in MdsState}


def way_to(source: MdsState, target: MdsState) -> tuple[Arc, ...]:
    """Return the shortest inferred way between two states; empty if there is none.

    Communication and jurisdiction are never inferred: `NON_CONTACTABLE` and `ELSEWHERE`
    have no way to or from them.
    """
    return _WAYS[source].get(target, ())


@cache
def way_for(source: MdsState, kind: MdsEventType) -> tuple[Arc, ...]:
    """Return the steps that end with an event, with what must come before it.

    Args:
        source: where the vehicle is; neither non-contactable nor elsewhere.
        kind: what happened to it.
    """
    ways = _WAYS[source]
    candidates = [
        (*ways[arc.source], arc)
        for arc in sorted(ARCS)
        if arc.type is kind and arc.source in ways
    ]
    return min(candidates, key=len, default=())
