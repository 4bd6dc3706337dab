"""A fleet with three cars, made once, and another fleet beside it."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from tests.bridge.world import NOW_MS, World

MADE = datetime.fromtimestamp(NOW_MS / 1000, UTC)


def make_fleet(path: Path, cars: int, *, now: datetime = MADE) -> FleetDirectory:
    fleet = FleetDirectory.create(path, name=path.name, now=now)
    issue_vehicles(fleet, [random_vehicle_id() for _ in range(cars)], now=now)
    return fleet


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> FleetDirectory:
    return make_fleet(tmp_path_factory.mktemp("fleets") / "ours", 3)


@pytest.fixture(scope="session")
def other_fleet(tmp_path_factory: pytest.TempPathFactory) -> FleetDirectory:
    return make_fleet(tmp_path_factory.mktemp("fleets") / "theirs", 1)


@pytest.fixture
async def world(fleet: FleetDirectory, tmp_path: Path) -> AsyncIterator[World]:
    async with World(fleet, tmp_path / "bridge.sqlite") as made:
        yield made
