"""What the store holds for a city, read for one answer each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from bridge.ingest import VerifiedTelemetry, read
from bridge.mds.documents import Document, Location, Provider, Trip
from bridge.mds.machine import MdsEventType, MdsState
from bridge.rows.city import (
    RentalKey,
    RentalPlaces,
    distances_of,
    places_of,
)
from bridge.rows.steps import (
    StoredStep,
    last_steps,
    steps_between,
    steps_of_rentals,
)
from bridge.rows.telemetry import StoredSamples, samples_between
from bridge.rows.vehicles import load_vehicles
from protocol.identity import VehicleId
from protocol.packed.frame import parse_frame
from protocol.place import E7
from protocol.snapshot import NO_RENTAL
from protocol.telemetry import Sample

PAGE: Final = 1_000
"""Events, trips or telemetry frames on one page."""

_BEFORE_DRIVING: Final = frozenset(
    {
        MdsEventType.RESERVATION_START,
        MdsEventType.RESERVATION_STOP,
        MdsEventType.TRIP_START,
    }
)
"""Events of a rental at which the car stands where it stood when it was opened."""

_OFF_STREET: Final = frozenset({MdsState.REMOVED, MdsState.ELSEWHERE})
"""Where a vehicle stands in no public street."""

_SAMPLE_UNIT_MS: Final = 100

_LATE_MS: Final = 120_000
"""How much later than its oldest sample a telemetry frame may come."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of documents."""

    documents: list[Document]
    """In order."""
    next: str | None
    """Where the next page begins, or None."""


def vehicles_page(
    connection: Connection, provider: Provider, vehicle_ids: Sequence[VehicleId]
) -> list[Document]:
    """Return vehicles."""
    known = load_vehicles(connection, vehicle_ids)
    return [provider.vehicle(v, known.get(v)) for v in vehicle_ids]


def status_page(
    connection: Connection,
    provider: Provider,
    vehicle_ids: Sequence[VehicleId],
    *,
    gone_ms: int = 0,
) -> list[Document]:
    """Return how vehicles are, but for those of which no position is known.

    Args:
        connection: inside a transaction.
        provider: whose they are.
        vehicle_ids: which.
        gone_ms: UTC ms; who left the street before it is left out.
    """
    known = load_vehicles(connection, vehicle_ids)
    last = last_steps(connection, known)
    found = [
        provider.status(v, known[v], last[v])
        for v in vehicle_ids
        if v in last and not (last[v].state in _OFF_STREET and last[v].at_ms < gone_ms)
    ]
    return [document for document in found if document is not None]


def is_known(connection: Connection, vehicle_id: VehicleId) -> bool:
    """Whether a city was told of a vehicle, though it may be registered no more."""
    return vehicle_id in last_steps(connection, [vehicle_id])


def events_page(
    connection: Connection,
    provider: Provider,
    since_ms: int,
    until_ms: int,
    *,
    after: str | None,
) -> Page:
    """Return the events of a span."""
    steps, following = _steps(connection, since_ms, until_ms, after)
    places = places_of(connection, _rentals_of(steps))
    documents = [provider.event(step, _place_of(step, places)) for step in steps]
    return Page(documents, following)


def trips_page(
    connection: Connection,
    provider: Provider,
    since_ms: int,
    until_ms: int,
    *,
    after: str | None,
) -> Page:
    """Return the trips that ended in a span and whose places are there."""
    kind = MdsEventType.TRIP_END
    ends, following = _steps(connection, since_ms, until_ms, after, kind)
    keys = _rentals_of(ends)
    places = places_of(connection, keys)
    distances = distances_of(connection, keys)
    starts: dict[RentalKey, StoredStep] = {}
    rentals = {rental for _, rental in keys}
    for step in steps_of_rentals(connection, rentals, MdsEventType.TRIP_START):
        starts.setdefault((step.vehicle_id, step.rental_id), step)
    documents = []
    for end in ends:
        key = (end.vehicle_id, end.rental_id)
        start = starts.get(key)
        if start is None or key not in distances or key not in places:
            continue
        first, last = places[key].first(), places[key].at(end.seq)
        if first is None or last is None or first[0] == end.seq:
            continue
        trip = Trip(
            end.vehicle_id,
            end.rental_id,
            start.at_ms,
            end.at_ms,
            end.stored_ms,
            distances[key],
            Location.of_place(first[1]),
            Location.of_place(last),
        )
        documents.append(provider.trip(trip))
    return Page(documents, following)


def telemetry_page(
    connection: Connection,
    provider: Provider,
    since_ms: int,
    until_ms: int,
    *,
    after: str | None,
) -> Page:
    """Return where free cars were in a span, as far as it is kept."""
    row, _, place = (after or "0-0").partition("-")
    frames = samples_between(
        connection,
        since_ms,
        until_ms + _LATE_MS,
        after=(int(row), int(place)) if after else (0, -1),
        limit=PAGE,
    )
    electric = {
        vehicle_id: state.is_electric
        for vehicle_id, state in load_vehicles(
            connection, {frame.vehicle_id for frame in frames}
        ).items()
    }
    documents = []
    for frame in frames:
        is_electric = electric.get(frame.vehicle_id, False)
        for number, sample in enumerate(_samples_of(frame)):
            location = _location_of(sample)
            at_ms = frame.received_ms - sample.age_ds * _SAMPLE_UNIT_MS
            if location is not None and since_ms <= at_ms < until_ms:
                document = provider.telemetry(
                    frame.vehicle_id,
                    location,
                    at_ms,
                    key=frame.data[-16:] + bytes([number]),
                    energy=_energy_of(sample, is_electric=is_electric),
                )
                documents.append(document)
    following = None
    if len(frames) == PAGE:
        following = f"{frames[-1].row}-{frames[-1].place}"
    return Page(documents, following)


def _steps(
    connection: Connection,
    since_ms: int,
    until_ms: int,
    after: str | None,
    kind: MdsEventType | None = None,
) -> tuple[list[StoredStep], str | None]:
    at_ms, _, position = (after or "-1-0").rpartition("-")
    steps = steps_between(
        connection,
        since_ms,
        until_ms,
        after=(int(at_ms), int(position)),
        limit=PAGE,
        kind=kind,
    )
    following = None
    if len(steps) == PAGE:
        following = f"{steps[-1].at_ms}-{steps[-1].position}"
    return steps, following


def _rentals_of(steps: Iterable[StoredStep]) -> set[RentalKey]:
    return {
        (step.vehicle_id, step.rental_id)
        for step in steps
        if step.rental_id != NO_RENTAL
    }


def _place_of(
    step: StoredStep, places: dict[RentalKey, RentalPlaces]
) -> Location | None:
    held = places.get((step.vehicle_id, step.rental_id))
    if held is None:
        return None
    place = held.at(step.seq)
    if place is None and step.type in _BEFORE_DRIVING:
        # The first place of a rental is where it was opened.
        first = held.first()
        place = None if first is None else first[1]
    return None if place is None else Location.of_place(place)


def _samples_of(frame: StoredSamples) -> tuple[Sample, ...]:
    record = read(parse_frame(frame.data))
    if not isinstance(record, VerifiedTelemetry) or record.telemetry is None:
        return ()
    return record.telemetry.samples


def _location_of(sample: Sample) -> Location | None:
    if sample.latitude_e7 is None or sample.longitude_e7 is None:
        return None
    return Location(
        sample.latitude_e7 / E7,
        sample.longitude_e7 / E7,
        None if sample.accuracy_dm is None else sample.accuracy_dm / 10,
        sample.heading_deg,
        None if sample.speed_dkmh is None else sample.speed_dkmh / 10,
    )


def _energy_of(sample: Sample, *, is_electric: bool) -> Document:
    if sample.energy_pct is None:
        return {}
    name = "battery_percent" if is_electric else "fuel_percent"
    return {name: sample.energy_pct}
