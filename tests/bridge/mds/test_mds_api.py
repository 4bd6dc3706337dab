"""What a city is given: MDS 2.0 as its schema has it, and nobody's secrets."""

import asyncio
import copy
import json
import shutil
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import pytest

from bridge.api.mds import CONTENT_TYPE, HOUR_MS, OFF_STREET_MS
from certs.fleet import FleetDirectory
from protocol.codes import AccessMeans, FrameClass, FrameType
from protocol.event import (
    EngineStarted,
    EngineStopped,
    EventBody,
    RentalStarted,
    ReservationStarted,
)
from protocol.place import EVENT_PLACE, EventPlace, Place, commitment_of
from protocol.rental_codes import ServiceModeReason
from protocol.vehicle_event import ServiceModeChanged
from tests.bridge.car import RENTAL, REPORT, sample
from tests.bridge.publishing import MDS, STATIONS
from tests.bridge.running import Json, Running, running_bridge
from tests.bridge.world import NOW_MS
from tests.published import SCHEMAS, mistakes_in
from tools.bridge_settings import local_settings

pytestmark = pytest.mark.broker

START: Final = Place(481_371_540, 115_761_240, 35, 2)
END: Final = Place(481_500_000, 115_900_000, 35, 2)
THEN_MS: Final = NOW_MS - 60_000
HOUR: Final = "2027-01-15T07"
"""The hour of `THEN_MS`; it is over before the car counts as silent."""
RECENT: Final = f"/mds/events/recent?start_time={THEN_MS - 1}&end_time={THEN_MS + 1}"

AGENCY: Final = "c" * 40


class Clock:
    def __init__(self) -> None:
        self.now_ms = THEN_MS

    def __call__(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def running(
    fleet: FleetDirectory, tmp_path: Path, clock: Clock
) -> AsyncIterator[Running]:
    made = local_settings(
        fleet.path, state=tmp_path, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
    )
    keys = tmp_path / "api.keys"
    keys.write_text(f"{keys.read_text().strip()}\ncity:agency:{AGENCY}\n")
    settings = msgspec.structs.replace(made, mds=MDS, stations=STATIONS)
    async with running_bridge(fleet, tmp_path, settings=settings, now=clock) as found:
        yield found


async def tell(
    running: Running, body: EventBody, place: tuple[EventPlace, bytes] | None = None
) -> None:
    await running.say(FrameClass.EVENT, running.car.event(body))
    if place is not None:
        car = running.car
        car.batches += 1
        built = EVENT_PLACE.build(place[0])
        frame = car.sign(FrameClass.TELEM, FrameType.PLACE, built, seq=car.batches)
        await running.say(FrameClass.TELEM, frame)


def place_of(running: Running, place: Place) -> tuple[EventPlace, bytes]:
    """Return the place of the car's next entry, and its commitment."""
    car = running.car
    told = EventPlace(car.ledger_id, car.seq + 1, bytes(16), place)
    return told, commitment_of(car.id, told)


async def rent(running: Running) -> None:
    """Let the car stand free, be rented, driven and given back."""
    await running.say(FrameClass.HELLO, running.car.hello())
    at_home = sample(latitude_e7=START.latitude_e7, longitude_e7=START.longitude_e7)
    await running.say(FrameClass.TELEM, running.car.telemetry(at_home))
    await tell(running, ReservationStarted(RENTAL, 0, bytes(16)))
    begin = place_of(running, START)
    opened = RentalStarted(
        RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400, place_commitment=begin[1]
    )
    await tell(running, opened, begin)
    await tell(running, EngineStarted(RENTAL, 1_000_000))
    await tell(running, EngineStopped(RENTAL, 1_012_500, 52))
    end = place_of(running, END)
    await tell(running, replace(REPORT, place_commitment=end[1]), end)


async def good(running: Running, path: str, name: str) -> list[Any]:
    status, document = await running.get(path)
    assert status == 200, document
    answer = "historical" if path.startswith("/mds/events/historical") else name
    assert mistakes_in(document, "mds-2.0/provider", f"{answer}_answer") == []
    assert document["data"] == {name: document[name]}
    found: list[Any] = document[name]
    assert [unnamed(one, KINDS[name]) for one in found] == [set()] * len(found)
    return found


KINDS: Final = {
    "vehicles": "vehicle",
    "vehicles_status": "status",
    "events": "event",
    "trips": "trip",
    "telemetry": "telemetry",
    "stops": "stop",
}
SCHEMA: Final = json.loads((SCHEMAS / "mds-2.0/provider.json").read_text())["$defs"]


def unnamed(document: Json, kind: str) -> set[str]:
    """Return the fields that MDS has no such name for: its schemas allow any."""
    properties = SCHEMA[kind]["properties"]
    found: set[str] = document.keys() - properties.keys()
    for name in document.keys() & properties.keys():
        reference = str(properties[name].get("$ref", "")).rpartition("/")[2]
        if isinstance(document[name], dict) and "properties" in SCHEMA.get(
            reference, {}
        ):
            found |= unnamed(document[name], reference)
    return found


async def test_a_rental_is_told_as_mds_has_it(running: Running, clock: Clock) -> None:
    await rent(running)
    clock.now_ms = NOW_MS

    vehicles = await good(running, "/mds/vehicles", "vehicles")
    status = await good(running, "/mds/vehicles/status", "vehicles_status")
    events = await good(running, f"/mds/events/historical?event_time={HOUR}", "events")
    recent = await good(running, RECENT, "events")
    trips = await good(running, f"/mds/trips?end_time={HOUR}", "trips")
    telemetry = await good(
        running, f"/mds/telemetry?telemetry_time={HOUR}", "telemetry"
    )

    assert len(vehicles) == 3
    assert [event["event_types"][0] for event in events] == [
        *("recommissioned", "service_start", "reservation_start", "reservation_stop"),
        *("trip_start", "trip_stop", "trip_end"),
    ]
    assert recent == events
    assert status[0]["last_event"]["event_id"] == events[-1]["event_id"]
    assert status[0]["last_telemetry"]["location"]["lat"] == 48.137154
    [trip] = trips
    assert trip["distance"] == 12_500
    assert trip["start_location"]["lng"] == 11.576124
    assert trip["end_location"] == {
        "lat": 48.15,
        "lng": 11.59,
        "horizontal_accuracy": 3.5,
    }
    assert events[-1]["trip_ids"] == [trip["trip_id"]]
    assert events[-1]["location"] == trip["end_location"]
    assert "location" not in events[0], "nobody knew where it was"
    assert len(telemetry) == 1

    device = vehicles[0]["device_id"]
    assert await good(running, f"/mds/vehicles/{device}", "vehicles") == vehicles[:1]
    one = status[0]["device_id"]
    path = f"/mds/vehicles/status/{one}"
    assert await good(running, path, "vehicles_status") == status


async def test_neither_rental_nor_card_nor_customer_is_in_any_answer(
    running: Running, clock: Clock
) -> None:
    # K25
    await rent(running)
    clock.now_ms = NOW_MS
    for path in (
        "/mds/vehicles",
        "/mds/vehicles/status",
        f"/mds/events/historical?event_time={HOUR}",
        f"/mds/trips?end_time={HOUR}",
        f"/mds/telemetry?telemetry_time={HOUR}",
    ):
        async with running.client.get(running.bridge.api_url + path) as answer:
            text = await answer.text()
        assert len(text) > 200
        assert RENTAL.hex() not in text.replace("-", "")
        assert REPORT.authority.hex() not in text
        assert "card" not in text


async def test_an_erased_place_is_given_to_no_city(
    running: Running, clock: Clock
) -> None:
    # K26
    await rent(running)
    await running.bridge.store.erase_places(RENTAL)
    clock.now_ms = NOW_MS

    events = await good(running, f"/mds/events/historical?event_time={HOUR}", "events")
    trips = await good(running, f"/mds/trips?end_time={HOUR}", "trips")

    assert len(events) == 7
    assert not any("location" in event for event in events)
    assert all(len(event["event_geographies"]) == 1 for event in events)
    assert trips == [], "a trip without its places is none that MDS knows"


async def test_what_a_city_was_told_survives_the_bridge(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(
        local_settings(
            fleet.path, state=tmp_path, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
        ),
        mds=MDS,
    )
    now = Clock()
    async with running_bridge(fleet, tmp_path, settings=settings, now=now) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        before = await good(running, RECENT, "events")
    async with running_bridge(fleet, tmp_path, settings=settings, now=now) as running:
        assert await good(running, RECENT, "events") == before
    assert len(before) == 2


ACCEPTS: Final = (
    ("application/vnd.mds+json;version=2.0", 200),
    ('application/vnd.mds+json; version="2.0"', 200),
    ("application/vnd.mds+json;version=1.2, */*;q=0.1", 200),
    ("application/vnd.mds+json", 200),
    ("application/json", 200),
    ("application/vnd.mds+json;version=1.2", 406),
    ("application/vnd.mds+json;version=2.0;q=0", 406),
    ("text/html", 406),
)


async def test_the_version_that_is_asked_for_is_answered_or_none(
    running: Running,
) -> None:
    url = f"{running.bridge.api_url}/mds/vehicles"
    for accept, status in ACCEPTS:
        async with running.client.get(url, headers={"Accept": accept}) as answer:
            assert answer.status == status, accept
            if status == 200:
                assert answer.headers["Content-Type"] == CONTENT_TYPE
            else:
                assert (await answer.json())["supported_versions"] == ["2.0"]


async def test_a_stop_holds_the_cars_that_nobody_has_opened(
    running: Running,
) -> None:
    """K25: where a car stood before its rental is not where it is."""
    await running.say(FrameClass.HELLO, running.car.hello())
    at_home = sample(latitude_e7=START.latitude_e7, longitude_e7=START.longitude_e7)
    await running.say(FrameClass.TELEM, running.car.telemetry(at_home))
    [before, empty] = await good(running, "/mds/stops", "stops")
    await tell(running, ReservationStarted(RENTAL, 0, bytes(16)))
    [reserved, _empty] = await good(running, "/mds/stops", "stops")
    await tell(running, RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400))
    [rented, _empty] = await good(running, "/mds/stops", "stops")
    [alone] = await good(running, f"/mds/stops/{empty['stop_id']}", "stops")

    assert before["num_vehicles_available"] == {"car": 1}
    assert len(before["devices"]) == 1
    assert before["capacity"] == {"car": 12}
    assert reserved["num_vehicles_available"] == {"car": 0}
    assert reserved["num_vehicles_disabled"] == {"car": 1}
    assert rented["num_vehicles_disabled"] == {"car": 0}
    assert rented["devices"] == []
    assert alone["name"] == "Wo keines steht"
    assert before["stop_id"] == rented["stop_id"] != alone["stop_id"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/mds/trips?end_time=2027-02-30T10", "end_time"),
        ("/mds/events/historical?event_time=2027-02-30T10", "event_time"),
        ("/mds/telemetry?telemetry_time=2027-06-31T10", "telemetry_time"),
        ("/mds/trips?end_time=2027-02-29T24", "end_time"),
        (
            "/mds/events/recent?start_time=1600000000000&end_time=1600000001000",
            "start_time",
        ),
        (f"/mds/events/recent?start_time={NOW_MS}&end_time={NOW_MS}", "start_time"),
    ],
)
async def test_a_time_that_is_wrong_is_named(
    running: Running, path: str, field: str
) -> None:
    # K19, issue 5
    status, problem = await running.get(path)

    assert status == 400
    assert [(one["field"], one["in"]) for one in problem["errors"]] == [
        (field, "query")
    ]


REFUSED: Final = (
    ("/mds/trips", 400),
    ("/mds/trips?end_time=yesterday", 400),
    ("/mds/telemetry", 400),
    ("/mds/events/recent?start_time=1", 400),
    (f"/mds/stops/{MDS.provider_id}", 404),
    ("/mds/trips?end_time=2027-02-30T10", 400),
    (f"/mds/trips?end_time={HOUR}", 404),
    ("/mds/events/historical?event_time=2020-01-01T00", 404),
    ("/mds/events/recent?start_time=1600000000000&end_time=1600000001000", 400),
    (f"/mds/vehicles/{MDS.provider_id}", 404),
)


async def test_what_cannot_be_answered_is_refused_with_a_reason(
    running: Running,
) -> None:
    for path, status in REFUSED:
        found, problem = await running.get(path)
        assert (found, problem["status"]) == (status, status), path


async def test_a_city_s_key_opens_nothing_else(running: Running) -> None:
    # K28
    headers = {"Authorization": f"Bearer {AGENCY}"}
    async with aiohttp.ClientSession(headers=headers) as city:
        for path, status in (
            ("/mds/vehicles", 200),
            ("/v1/vehicles", 401),
        ):
            async with city.get(running.bridge.api_url + path) as answer:
                assert answer.status == status
    async with (
        aiohttp.ClientSession(headers={"X-Api-Key": AGENCY}) as city,
        city.get(f"{running.bridge.api_url}/v1/vehicles") as answer,
    ):
        assert answer.status == 403


async def test_pages_lead_from_one_to_the_next_and_leave_nothing_out(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.mds.records.PAGE", 2)
    monkeypatch.setattr("bridge.api.mds.VEHICLES_LIMIT", 2)
    await rent(running)

    for path, name, count in ((RECENT, "events", 7), ("/mds/vehicles", "vehicles", 3)):
        found: list[Json] = []
        url: str | None = running.bridge.api_url + path
        while url is not None:
            async with running.client.get(url) as answer:
                document = await answer.json(content_type=None)
            found += document[name]
            url = document["links"]["next"]
        ids = [msgspec.json.encode(one) for one in found]
        assert len(ids) == len(set(ids)) == count


async def test_an_hour_is_told_in_one_answer_however_much_happened(
    running: Running, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MDS forbids pages of trips and of historical events: a city follows no link."""
    monkeypatch.setattr("bridge.mds.records.PAGE", 2)
    await rent(running)
    clock.now_ms = NOW_MS

    events = await good(running, f"/mds/events/historical?event_time={HOUR}", "events")
    trips = await good(running, f"/mds/trips?end_time={HOUR}", "trips")

    assert len({event["event_id"] for event in events}) == len(events) == 7
    assert len(trips) == 1


async def test_an_hour_in_which_nothing_happened_is_told_as_empty(
    running: Running, clock: Clock
) -> None:
    """404 is for hours that are not over, and those before there was a fleet."""
    await rent(running)
    clock.now_ms = NOW_MS + 4 * HOUR_MS

    for path, name in (
        ("/mds/events/historical?event_time", "events"),
        ("/mds/trips?end_time", "trips"),
    ):
        assert await good(running, f"{path}=2027-01-15T10", name) == []
        for hour in ("2027-01-15T06", "2027-01-15T12"):
            status, _problem = await running.get(f"{path}={hour}")
            assert status == 404, hour


async def test_who_left_the_street_leaves_the_list_of_states_after_ninety_minutes(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running.say(FrameClass.HELLO, running.car.hello())
    at_home = sample(latitude_e7=START.latitude_e7, longitude_e7=START.longitude_e7)
    await running.say(FrameClass.TELEM, running.car.telemetry(at_home))
    path = "/mds/vehicles/status"
    monkeypatch.setattr("bridge.api.mds.OFF_STREET_MS", -1)
    assert len(await good(running, path, "vehicles_status")) == 1, "in the street"

    await tell(running, ServiceModeChanged(True, ServiceModeReason.COMMAND))
    assert await good(running, path, "vehicles_status") == []
    monkeypatch.undo()
    [status] = await good(running, path, "vehicles_status")

    assert status["last_event"]["vehicle_state"] == "removed"
    assert OFF_STREET_MS == 90 * 60 * 1_000


async def test_a_car_that_was_sold_can_still_be_looked_up(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    """Its events are still told, and MDS wants what they name to be found."""
    shutil.copytree(fleet.path, tmp_path / "fleet")
    ours = FleetDirectory(tmp_path / "fleet", fleet.fleet)
    made = local_settings(
        ours.path, state=tmp_path, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
    )
    settings = msgspec.structs.replace(made, mds=MDS)
    async with running_bridge(ours, tmp_path, settings=settings) as running:
        await running.say(FrameClass.HELLO, running.car.hello())
        [event, *_] = await good(
            running,
            f"/mds/events/recent?start_time={NOW_MS - 1}&end_time={NOW_MS + 1}",
            "events",
        )
        name = f"{running.car.id}.json"
        (ours.path / "revoked").mkdir(exist_ok=True)
        (ours.path / "registry" / name).rename(ours.path / "revoked" / name)
        async with asyncio.timeout(10):
            # The registry is looked at once a second.
            while len(await good(running, "/mds/vehicles", "vehicles")) == 3:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

        one = f"/mds/vehicles/{event['device_id']}"
        [vehicle] = await good(running, one, "vehicles")
        everybody = await good(running, "/mds/vehicles", "vehicles")

    assert vehicle["vehicle_id"] == str(running.car.id)
    assert vehicle not in everybody


def _without(*path: str | int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        del document[path[-1]]

    return change


def _with(value: object, *path: str | int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        document[path[-1]] = value

    return change


SPOILS: Final = (
    _without("version"),
    _without("data"),
    _with("1.2.0", "version"),
    _with("2.0", "version"),
    _without("events", 0, "device_id"),
    _with("A" * 36, "events", 0, "device_id"),
    _with("missing", "events", 0, "vehicle_state"),
    _with(["trip_end"], "events", 0, "event_types"),
    _with([], "events", 0, "event_types"),
    _without("events", 0, "event_geographies"),
    _with(1_800_000_000, "events", 0, "timestamp"),
    _with(0.5, "events", 0, "fuel_percent"),
    _without("events", 3, "trip_ids"),
    _with({"lat": 48.1, "lon": 11.5}, "events", 0, "location"),
    _with({}, "links"),
)

TRIP: Final[Json] = {
    "device_id": MDS.provider_id,
    "provider_id": MDS.provider_id,
    "trip_id": MDS.provider_id,
    "trip_type": ["private"],
    "start_time": THEN_MS,
    "end_time": NOW_MS,
    "start_location": {"lat": 48.1, "lng": 11.5},
    "end_location": {"lat": 48.1, "lng": 11.5},
    "duration": 60,
    "distance": 100,
}
VEHICLE: Final[Json] = {
    "device_id": MDS.provider_id,
    "provider_id": MDS.provider_id,
    "vehicle_id": "M-FF 1",
    "vehicle_type": "car",
    "propulsion_types": ["combustion"],
}
"""With what MDS demands and no more."""

SPOILED_KINDS: Final[tuple[tuple[str, Json], ...]] = (
    ("vehicle", {"accessibility_attributes": ["none"]}),
    ("vehicle", {"vehicle_attributes": {"year": 2020}}),
    ("vehicle", {"propulsion_types": []}),
    ("vehicle", {"propulsion_types": ["petrol"]}),
    ("trip", {"trip_type": "private"}),
    ("trip", {"duration": 60.5}),
    ("trip", {"currency": "euro"}),
    ("trip", {"parking_category": "garage"}),
    ("trip", {"fare_attributes": {"payment_type": "cash"}}),
    ("trip", {"accessibility_attributes": {}}),
)


def test_every_planted_mistake_of_a_trip_or_a_vehicle_is_found() -> None:
    right = {"trip": TRIP, "vehicle": VEHICLE}
    for kind, document in right.items():
        assert mistakes_in(document, "mds-2.0/provider", kind) == []
    for kind, change in SPOILED_KINDS:
        assert mistakes_in(right[kind] | change, "mds-2.0/provider", kind), change
    assert unnamed(VEHICLE | {"accessibility_options": []}, "vehicle") == {
        "accessibility_options"
    }


async def test_every_planted_mistake_is_found(running: Running) -> None:
    await rent(running)
    _status, document = await running.get(RECENT)
    assert mistakes_in(document, "mds-2.0/provider", "events_answer") == []

    for number, spoil in enumerate(SPOILS):
        spoiled = copy.deepcopy(document)
        spoil(spoiled)
        assert mistakes_in(spoiled, "mds-2.0/provider", "events_answer"), number
