"""What everybody is given: GBFS 3.0 as published, and nobody's trips."""

import copy
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
import pytest
from gbfs_validator import GBFS as GBFS_VALIDATOR

from bridge.gbfs.feeds import Fleet, feeds_of, passing_name
from bridge.mds.machine import MdsState
from bridge.mds.standing import Standing
from bridge.presence import Presence
from bridge.stations import Station
from bridge.twin import Field, Stamp, Twin, Value
from bridge.vehicle import VehicleState
from certs.fleet import FleetDirectory
from protocol.business_area import BusinessArea
from protocol.codes import AccessMeans, ConfigKind, FrameClass
from protocol.event import RentalStarted
from protocol.identity import VehicleId
from tests.bridge.car import RENTAL, REPORT, sample
from tests.bridge.publishing import GBFS, STATIONS
from tests.bridge.running import Running, running_bridge
from tests.bridge.world import NOW_MS
from tests.published import mistakes_in
from tools.bridge_settings import local_settings

SECRET: Final = bytes(range(32))
CAR: Final = VehicleId(bytes(range(16)))
SQUARE: Final = ((481_000_000, 115_000_000), (481_000_000, 116_000_000))
AREA: Final = BusinessArea(
    inside=((*SQUARE, (482_000_000, 116_000_000), (482_000_000, 115_000_000)),),
    outside=((*reversed(SQUARE), (481_500_000, 115_000_000)),),
)
FREE: Final = Standing(state=MdsState.AVAILABLE, is_contactable=True, at_ms=NOW_MS)
HERE: Final[dict[str, Value]] = {
    "latitude_deg": 48.13715412,
    "longitude_deg": 11.57612399,
    "mode": "available",
    "condition": "ok",
    "energy_kind": "fuel",
    "energy_pct": 63,
    "range_km": 417,
}


def state_of(standing: Standing = FREE, **changes: Value) -> VehicleState:
    twin: Twin = {
        name: Field(value, NOW_MS, NOW_MS, Stamp(1, 1))
        for name, value in (HERE | changes).items()
        if value is not None
    }
    presence = Presence(hello_ms=NOW_MS, heard_ms=NOW_MS)
    return VehicleState(presence=presence, fields=twin, standing=standing)


def feeds(*states: VehicleState, area: BusinessArea | None = AREA) -> dict[str, Any]:
    cars = {VehicleId(bytes([n] * 16)): state for n, state in enumerate(states)}
    fleet = Fleet(cars, area, tuple(map(Station.of, STATIONS)))
    made = feeds_of(GBFS, fleet, secret=SECRET, now=NOW_MS)
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))
    return found


def vehicles(*states: VehicleState) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = feeds(*states)["vehicle_status"]["data"]["vehicles"]
    return found


def test_every_feed_is_as_published() -> None:
    made = feeds(state_of(), state_of(energy_kind="electric", range_km=None))

    assert set(made) == {
        *("gbfs", "system_information", "vehicle_types", "vehicle_status"),
        *("geofencing_zones", "manifest", "system_pricing_plans"),
        *("station_information", "station_status"),
    }
    for name, document in made.items():
        assert mistakes_in(document, f"gbfs-3.0/{name}") == [], name
    listed = {feed["name"]: feed["url"] for feed in made["gbfs"]["data"]["feeds"]}
    assert set(listed) == set(made) - {"gbfs", "manifest"}
    assert listed["vehicle_types"] == (
        "https://api.fleet.example/gbfs/3.0/vehicle_types.json"
    )


class Given:
    """Hands a validator the documents that were made, by their addresses."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.made = made

    def get_json(self, url: str) -> Any:
        return self.made[url.rpartition("/")[2].removesuffix(".json")]


def verdict_of_others(made: dict[str, Any]) -> dict[str, bool]:
    """Return which files a validator that others wrote finds wrong, of a whole feed."""
    url = "https://api.fleet.example/gbfs/3.0/gbfs.json"
    report = GBFS_VALIDATOR(url, freefloating=True, fetcher=Given(made)).validation()
    assert report["summary"]["version"]["validated"] == "3.0"
    return {one["file"]: one["hasErrors"] for one in report["files"] if one["exists"]}


def test_the_whole_feed_is_valid_to_a_validator_that_others_wrote() -> None:
    """Issue 5, point 6: rules between files too, which no schema of one file has."""
    made = feeds(state_of(), state_of(energy_kind="electric", range_km=None))

    assert verdict_of_others(made) == {f"{name}.json": False for name in made}

    del made["vehicle_status"]["data"]["vehicles"][0]["current_range_meters"]
    assert verdict_of_others(made)["vehicle_status.json"]


def test_a_feed_of_an_empty_fleet_without_an_area_is_as_published() -> None:
    bare = msgspec.structs.replace(GBFS, plans=())
    written = feeds_of(bare, Fleet({}, None), secret=SECRET, now=NOW_MS)
    made = msgspec.json.decode(msgspec.json.encode(written))

    assert set(made) == {
        *("gbfs", "manifest", "system_information", "vehicle_types", "vehicle_status"),
    }
    [kind, _electric] = made["vehicle_types"]["data"]["vehicle_types"]
    assert "pricing_plan_ids" not in kind
    assert kind["return_constraint"] == "free_floating"
    for name, document in made.items():
        assert mistakes_in(document, f"gbfs-3.0/{name}") == [], name


def test_a_free_car_is_listed_where_it_stands_with_what_is_in_it() -> None:
    [car] = vehicles(state_of())

    assert car | {"vehicle_id": "", "last_reported": ""} == {
        "vehicle_id": "",
        "lat": 48.137154,
        "lon": 11.576124,
        "is_reserved": False,
        "is_disabled": False,
        "vehicle_type_id": "fuel",
        "last_reported": "",
        "current_range_meters": 410_000,
        "current_fuel_percent": 0.6,
        "station_id": "bahnhof",
    }


def test_a_car_that_somebody_has_is_not_listed() -> None:
    """Neither by its ledger nor by its own word, whichever is newer."""
    for state in (MdsState.RESERVED, MdsState.STOPPED, MdsState.ON_TRIP):
        standing = msgspec.structs.replace(FREE, state=state)
        assert vehicles(state_of(standing)) == []
    for mode in ("reserved", "stopped", "driving", "parked", "refuelling"):
        assert vehicles(state_of(mode=mode)) == []


def test_a_car_in_the_workshop_or_of_an_unknown_place_is_not_listed() -> None:
    removed = msgspec.structs.replace(FREE, state=MdsState.REMOVED)

    assert vehicles(state_of(removed)) == []
    assert vehicles(state_of(latitude_deg=None)) == []
    assert vehicles(state_of(range_km=None, energy_pct=None)) == []
    assert vehicles(VehicleState()) == []


def test_a_car_that_stands_there_and_cannot_be_rented_is_disabled() -> None:
    silent = msgspec.structs.replace(
        state_of(), presence=Presence(hello_ms=1, heard_ms=1)
    )
    for state in (
        state_of(condition="degraded"),
        state_of(condition="fault"),
        state_of(msgspec.structs.replace(FREE, state=MdsState.NON_OPERATIONAL)),
        state_of(msgspec.structs.replace(FREE, is_contactable=False)),
        silent,
    ):
        [car] = vehicles(state)
        assert car["is_disabled"] is True


def test_a_car_has_another_name_each_time_and_no_name_tells_of_the_next() -> None:
    names = {passing_name(SECRET, CAR, rotation) for rotation in range(100)}

    assert len(names) == 100
    assert passing_name(SECRET, CAR, 7) in names, "the same while it stands"
    assert passing_name(bytes(32), CAR, 7) not in names, "by the secret alone"
    assert not any(CAR.raw.hex()[:8] in name for name in names)


def test_the_order_of_the_list_tells_nothing_of_the_cars() -> None:
    cars = vehicles(*(state_of() for _ in range(20)))

    assert [car["vehicle_id"] for car in cars] == sorted(
        car["vehicle_id"] for car in cars
    )


def test_a_ride_ends_in_the_area_and_not_in_what_is_taken_out_of_it() -> None:
    data = feeds()["geofencing_zones"]["data"]
    zones = data["geofencing_zones"]["features"]

    assert [zone["properties"]["rules"][0]["ride_end_allowed"] for zone in zones] == [
        False,
        True,
    ]
    assert data["global_rules"][0]["ride_end_allowed"] is False
    for zone in zones:
        [[ring]] = zone["geometry"]["coordinates"]
        assert ring[0] == ring[-1]
        pairs = itertools.pairwise(ring)
        assert sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in pairs) > 0


def test_each_kind_of_car_names_the_prices_that_are_for_it() -> None:
    made = feeds()
    kinds = made["vehicle_types"]["data"]["vehicle_types"]
    plans = made["system_pricing_plans"]["data"]["plans"]

    assert {kind["vehicle_type_id"]: kind["pricing_plan_ids"] for kind in kinds} == {
        "fuel": ["minute"],
        "electric": ["minute", "strom-tag"],
    }
    assert [kind["default_pricing_plan_id"] for kind in kinds] == ["minute"] * 2
    assert plans[0]["per_min_pricing"] == [{"start": 0, "rate": 0.31, "interval": 1}]
    assert plans[0]["per_km_pricing"] == [{"start": 100, "rate": 0.25, "interval": 1}]
    assert plans[1]["per_min_pricing"][0]["end"] == 2_880
    assert plans[1]["price"] == 49


def test_a_station_counts_the_listed_cars_that_stand_in_it_and_no_other() -> None:
    made = feeds(
        state_of(),
        state_of(energy_kind="electric"),
        state_of(condition="degraded"),
        state_of(latitude_deg=48.5),
        state_of(mode="driving"),
        state_of(msgspec.structs.replace(FREE, state=MdsState.RESERVED)),
    )
    cars = made["vehicle_status"]["data"]["vehicles"]
    [full, empty] = made["station_status"]["data"]["stations"]
    [place, _other] = made["station_information"]["data"]["stations"]

    assert sorted(str(car.get("station_id")) for car in cars) == [
        *("None", "bahnhof", "bahnhof", "bahnhof"),
    ]
    assert (full["num_vehicles_available"], full["num_vehicles_disabled"]) == (2, 1)
    assert full["vehicle_types_available"] == [
        {"vehicle_type_id": "electric", "count": 1},
        {"vehicle_type_id": "fuel", "count": 1},
    ]
    assert (empty["num_vehicles_available"], empty["num_vehicles_disabled"]) == (0, 0)
    assert (place["lat"], place["lon"]) == (48.135, 11.575)
    assert place["is_charging_station"] is True


def test_the_manifest_names_this_system_and_where_it_begins() -> None:
    made = feeds()

    assert made["manifest"]["data"]["datasets"] == [
        {
            "system_id": "ours",
            "versions": [
                {
                    "version": "3.0",
                    "url": "https://api.fleet.example/gbfs/3.0/gbfs.json",
                }
            ],
        }
    ]
    assert made["system_information"]["data"]["manifest_url"] == (
        "https://api.fleet.example/gbfs/3.0/manifest.json"
    )


def put(value: object, *path: str | int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        document[path[-1]] = value

    return change


def drop(*path: str | int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for part in path[:-1]:
            document = document[part]
        del document[path[-1]]

    return change


SPOILS: Final = (
    ("gbfs", drop("ttl")),
    ("gbfs", put(1_800_000_000, "last_updated")),
    ("gbfs", put("2.3", "version")),
    ("gbfs", put("free_bike_status", "data", "feeds", 0, "name")),
    ("system_information", put("Ours", "data", "name")),
    ("system_information", drop("data", "opening_hours")),
    ("system_information", put("Mars/Olympus", "data", "timezone")),
    ("vehicle_types", put("van", "data", "vehicle_types", 0, "form_factor")),
    ("vehicle_types", drop("data", "vehicle_types", 0, "max_range_meters")),
    ("vehicle_status", drop("data", "vehicles", 0, "vehicle_id")),
    ("vehicle_status", put(63, "data", "vehicles", 0, "current_fuel_percent")),
    ("vehicle_status", put("no", "data", "vehicles", 0, "is_disabled")),
    ("vehicle_status", put(148.1, "data", "vehicles", 0, "lat")),
    ("geofencing_zones", drop("data", "global_rules")),
    ("manifest", drop("data", "datasets", 0, "system_id")),
    ("manifest", put("4.0", "data", "datasets", 0, "versions", 0, "version")),
    ("system_pricing_plans", put("Euro", "data", "plans", 0, "currency")),
    ("system_pricing_plans", drop("data", "plans", 0, "is_taxable")),
    ("system_pricing_plans", put(-1, "data", "plans", 0, "price")),
    ("station_information", drop("data", "stations", 0, "lat")),
    ("station_information", put("x", "data", "stations", 0, "station_area")),
    ("station_status", put(-1, "data", "stations", 0, "num_vehicles_available")),
    ("station_status", drop("data", "stations", 0, "is_renting")),
    ("geofencing_zones", put({}, "data", "geofencing_zones", "features", 0)),
)


def test_every_planted_mistake_is_found() -> None:
    made = feeds(state_of())
    for number, (name, spoil) in enumerate(SPOILS):
        spoiled = copy.deepcopy(made[name])
        spoil(spoiled)
        assert mistakes_in(spoiled, f"gbfs-3.0/{name}"), (number, name)


class Clock:
    def __init__(self) -> None:
        self.now_ms = NOW_MS

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
    settings = msgspec.structs.replace(made, gbfs=GBFS)
    async with running_bridge(fleet, tmp_path, settings=settings, now=clock) as found:
        yield found


async def read(running: Running, name: str, **headers: str) -> tuple[int, Any, Any]:
    """Ask for a feed without a key."""
    url = f"{running.bridge.api_url}/gbfs/3.0/{name}.json"
    async with (
        aiohttp.ClientSession(headers=headers) as anybody,
        anybody.get(url) as answer,
    ):
        body = await answer.read()
        document = msgspec.json.decode(body) if body else None
        return answer.status, answer.headers, document


@pytest.mark.broker
async def test_a_rented_car_leaves_the_feed_and_comes_back_under_another_name(
    running: Running, clock: Clock
) -> None:
    async def listed() -> list[str]:
        clock.now_ms += GBFS.ttl_s * 1_000
        status, _headers, document = await read(running, "vehicle_status")
        assert status == 200
        assert mistakes_in(document, "gbfs-3.0/vehicle_status") == []
        return [car["vehicle_id"] for car in document["data"]["vehicles"]]

    await running.say(FrameClass.HELLO, running.car.hello())
    await running.say(FrameClass.TELEM, running.car.telemetry(sample()))
    before = await listed()
    await running.say(
        FrameClass.EVENT,
        running.car.event(
            RentalStarted(RENTAL, AccessMeans.CARD, 1_000_000, 60, 80, 400)
        ),
    )
    rented = await listed()
    await running.say(FrameClass.EVENT, running.car.event(REPORT))
    after = await listed()

    assert (len(before), rented, len(after)) == (1, [], 1)
    assert before != after
    assert str(running.car.id) not in {*before, *after}


@pytest.mark.broker
async def test_a_feed_is_made_once_in_its_time_and_says_so(
    running: Running, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal made
        made += 1
        return feeds_of(*args, **kwargs)

    monkeypatch.setattr("bridge.gbfs.publisher.feeds_of", counted)
    status, headers, document = await read(running, "gbfs")
    assert (status, headers["Cache-Control"]) == (200, "public, max-age=30")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert document["ttl"] == 30

    clock.now_ms += 12_000
    again = await read(running, "gbfs", **{"If-None-Match": headers["ETag"]})
    for _ in range(5):
        await read(running, "vehicle_status")

    assert (again[0], again[2]) == (304, None)
    assert again[1]["Cache-Control"] == "public, max-age=18"
    assert made == 1


@pytest.mark.broker
async def test_zones_are_those_that_most_cars_are_to_have(running: Running) -> None:
    body = msgspec.json.encode(
        {"format": 1, "inside": [[[48.1, 11.5], [48.1, 11.6], [48.2, 11.6]]]}
    )
    await running.bridge.store.put_configuration(
        running.car.id, ConfigKind.BUSINESS_AREA, body, now=NOW_MS
    )

    status, _headers, document = await read(running, "geofencing_zones")

    assert status == 200
    assert mistakes_in(document, "gbfs-3.0/geofencing_zones") == []


@pytest.mark.broker
async def test_names_stay_the_same_over_a_restart_of_the_bridge(
    fleet: FleetDirectory, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(
        local_settings(
            fleet.path, state=tmp_path, broker=("127.0.0.1", 1), api=("127.0.0.1", 0)
        ),
        gbfs=GBFS,
    )
    secrets = []
    for _ in range(2):
        async with running_bridge(fleet, tmp_path, settings=settings) as running:
            status, _headers, _document = await read(running, "system_alerts")
            assert status == 401, "what is no feed is behind the key"
            secrets.append(await running.bridge.store.feed_secret())

    assert secrets[0] == secrets[1] != bytes(32)
