"""Which cars stand in which station (pure).

Only cars that nobody has opened: in a rental a car tells no position, and where it
stood before says nothing. One that is reserved still stands there and is not available.
"""

from collections.abc import Mapping
from typing import Final

from bridge.mds.documents import Document, Provider, Stop, location_of
from bridge.mds.machine import MdsState
from bridge.stations import Station, station_at
from bridge.vehicle import VehicleState
from protocol.identity import VehicleId

_MODES: Final = frozenset({"available", "reserved"})
"""What a car says while nobody has opened it."""


def stops_of(
    provider: Provider, states: Mapping[VehicleId, VehicleState], *, now: int
) -> list[Document]:
    """Return every station with its cars."""
    available: dict[str, list[VehicleId]] = {}
    disabled: dict[str, list[VehicleId]] = {}
    for vehicle_id, state in states.items():
        station = _station_of(provider, state)
        if station is not None:
            is_free = state.standing.shown is MdsState.AVAILABLE
            kind = available if is_free else disabled
            kind.setdefault(station.settings.id, []).append(vehicle_id)
    return [
        provider.stop(
            station,
            Stop(
                tuple(available.get(station.settings.id, ())),
                tuple(disabled.get(station.settings.id, ())),
            ),
            now=now,
        )
        for station in provider.stations
    ]


def _station_of(provider: Provider, state: VehicleState) -> Station | None:
    known = location_of(state.twin)
    mode, standing = state.twin.get("mode"), state.standing
    is_closed = mode is not None and mode.value in _MODES
    is_there = standing.is_in_the_street or standing.state is MdsState.RESERVED
    if known is None or not is_closed or not is_there:
        return None
    location, _field = known
    return station_at(provider.stations, location.latitude_deg, location.longitude_deg)
