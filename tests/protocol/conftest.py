"""A fleet with two cars, and what one of them signs."""

import pytest

from certs.fleet import FleetDirectory
from certs.vehicle import issue_vehicles, random_vehicle_id
from tests.protocol.court import MADE, Court


@pytest.fixture(scope="session")
def court_fleet(tmp_path_factory: pytest.TempPathFactory) -> FleetDirectory:
    made = FleetDirectory.create(
        tmp_path_factory.mktemp("court") / "fleet", name="court", now=MADE
    )
    issue_vehicles(made, [random_vehicle_id(), random_vehicle_id()], now=MADE)
    return made


@pytest.fixture
def court(court_fleet: FleetDirectory) -> Court:
    return Court(court_fleet, now_ms=int(MADE.timestamp() * 1000) + 86_400_000)
